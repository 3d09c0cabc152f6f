"""Ways of naming what an agent lacks: the analyst as it is, and the referee's ablations of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trace_agents.analysis.analyst import Discovered, RunLabels
from trace_agents.analysis.catalog import survey
from trace_agents.analysis.matrix import LabelMatrix, label_all
from trace_agents.analysis.mining import propose
from trace_agents.analysis.preference import complexity, is_cause
from trace_agents.analysis.results import conclude, run_contrasts
from trace_agents.analysis.significance import LACKING, PRESENT
from trace_agents.analysis.statements import Statement
from trace_agents.analysis.statistical import StatisticalAnalyst
from trace_agents.analysis.validation.measure import Claim
from trace_agents.analysis.views import read
from trace_agents.analysis.wording import word
from trace_agents.contrast import Thresholds
from trace_agents.types import Label, Trajectory

MOST = 8
"""Claims of an ablation that has nothing to stop it, at most."""


@dataclass(frozen=True)
class Contrastive:
    """The statistical analyst as it is: one discovery, and any number of labelling runs over its dictionary."""

    trajectories: Sequence[Trajectory]
    analyst: StatisticalAnalyst
    found: Sequence[Discovered]

    @classmethod
    def discovered(cls, trajectories: Sequence[Trajectory], seed: int) -> Contrastive:
        """The discovery of `seed`."""
        analyst = StatisticalAnalyst(seed=seed)
        return cls(trajectories, analyst, asyncio.run(analyst.discover(trajectories)))

    def draws(self, thresholds: Thresholds, first: int = 0) -> list[Sequence[Trajectory]]:
        """What each labelling run works on."""
        return [self.analyst.draw(self.trajectories, run) for run in range(first, first + thresholds.runs)]

    def claims(self, thresholds: Thresholds, first: int = 0, of: Sequence[Trajectory] | None = None) -> list[Claim]:
        """What `thresholds.runs` labelling runs from `first` on select, by falling coverage.

        The claims' labels are those of the trajectories `of` (None: those analysed).
        """
        runs = [self._labels(drawn, run) for run, drawn in enumerate(self.draws(thresholds, first), first)]
        told = self.trajectories if of is None else of
        whole, claims = self._labels(told, first), []
        for candidate in conclude(self.found, runs, self.trajectories, thresholds):
            if candidate.selection.kept:
                labels = whole.label(candidate.capability.name)
                lacking = [one.id for one, label in zip(told, labels, strict=True) if label is Label.LACKING]
                coverage, title = candidate.selection.coverage.mean or 0.0, candidate.capability.title
                claims.append(Claim(title=title, coverage=coverage, lacking=frozenset(lacking)))
        return claims

    def selections(self, thresholds: Thresholds) -> list[list[str]]:
        """Titles of what each labelling run selects by itself, by falling coverage in that run."""
        succeeded = {one.id: bool(one.success) for one in self.trajectories}
        titles = {entry.capability.name: entry.capability.title for entry in self.found}
        selected = []
        for run, drawn in enumerate(self.draws(thresholds)):
            found = run_contrasts(self._labels(drawn, run), succeeded)
            passed = [name for name, one in found.items() if thresholds.passed(one)]
            passed.sort(key=lambda name: (-(found[name].coverage or 0.0), name))
            selected.append([titles[name] for name in passed])
        return selected

    def _labels(self, trajectories: Sequence[Trajectory], run: int) -> RunLabels:
        dictionary = [entry.capability for entry in self.found]
        return asyncio.run(self.analyst.label(trajectories, dictionary, run))


def proposals(trajectories: Sequence[Trajectory]) -> LabelMatrix:
    """Every statement that the grammar proposes for the trajectories, with its labels, plainest first."""
    views = [read(trajectory) for trajectory in trajectories]
    return label_all(sorted(propose(views, survey(views)), key=complexity), views).distinct()


def failures_only(matrix: LabelMatrix, trajectories: Sequence[Trajectory], thresholds: Thresholds) -> list[Claim]:
    """No contrast: the statements that the failures lack most often, each for failures not yet explained.

    The grammar, the preference for causes and the thresholds are the analyst's own; ER+ is taken as 0, since there
    are no successes to look at.
    """
    failed = np.array([not one.success for one in trajectories])
    lacking, present = matrix.labels_ST[:, failed] == LACKING, matrix.labels_ST[:, failed] == PRESENT
    shares = lacking.sum(axis=1) / np.maximum((lacking | present).sum(axis=1), 1)
    usable = shares >= thresholds.delta
    claims: list[Claim] = []
    left = np.ones(int(failed.sum()), dtype=bool)
    for tier in (True, False):
        fits = usable & np.array([is_cause(one) is tier for one in matrix.statements])
        while len(claims) < MOST:
            fresh = np.where(fits, (lacking & left).sum(axis=1), 0)
            row = int(fresh.argmax())
            if fresh[row] < thresholds.rho * len(left):
                break
            claims.append(_claim(matrix, row, trajectories))
            left &= ~lacking[row]
    return claims


def at_random(
    matrix: LabelMatrix, trajectories: Sequence[Trajectory], thresholds: Thresholds, number: int, seed: int
) -> list[Claim]:
    """Random capabilities: `number` of the grammar's statements that enough failures lack, drawn blindly."""
    failed = np.array([not one.success for one in trajectories])
    coverage = (matrix.labels_ST[:, failed] == LACKING).mean(axis=1)
    rows = np.nonzero(coverage >= thresholds.rho)[0].tolist()
    chosen = random.Random(seed).sample(rows, min(number, len(rows)))
    return [_claim(matrix, row, trajectories) for row in chosen]


def _claim(matrix: LabelMatrix, row: int, trajectories: Sequence[Trajectory]) -> Claim:
    statement: Statement = matrix.statements[row]
    pairs = zip(trajectories, matrix.labels_ST[row], strict=True)
    lacking = [one for one, label in pairs if label == LACKING]
    failed = sum(not one.success for one in trajectories)
    coverage = sum(not one.success for one in lacking) / max(failed, 1)
    return Claim(title=word(statement).title, coverage=coverage, lacking=frozenset(one.id for one in lacking))
