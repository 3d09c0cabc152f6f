"""Stepwise cover: from many correlated statements to the few that explain the failures, each with what it absorbs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trace_agents.analysis.hardness import evidence
from trace_agents.analysis.matrix import LabelMatrix
from trace_agents.analysis.preference import is_cause
from trace_agents.analysis.significance import LACKING, Counts, Floats, Outcomes, count, explained, shown_within
from trace_agents.analysis.statements import Refrain


@dataclass(frozen=True)
class CoverConfig:
    """When a statement explains something that those chosen before it do not."""

    most: int = 24
    """Statements chosen at most."""
    fresh_share: float = 1 / 3
    """Least share of a statement's failures that no earlier statement explains."""
    fresh_coverage: float = 0.02
    """Least share of all failures that only this statement explains."""
    least_gain: float = 3.0
    """Nats of evidence, beyond its complexity, among the trajectories that earlier statements leave unexplained."""
    least_gap: float = 0.1
    """Least contrastive gap, before and after."""


@dataclass(frozen=True)
class Chosen:
    """One statement of the cover."""

    row: int
    fresh_failures: int
    """Failures that it explains first."""
    absorbed: tuple[int, ...]
    """Rows of candidates that it makes redundant, strongest first."""


def stepwise(matrix: LabelMatrix, outcomes: Outcomes, costs_S: Floats, config: CoverConfig) -> list[Chosen]:
    """Choose statements greedily by the evidence that each adds among the trajectories left unexplained.

    Causes come before symptoms (`is_cause`). A trajectory is explained once a chosen statement is LACKING in it. A
    statement that is a mere consequence of a chosen one loses its contrast, or most of its failures, among the
    rest, and is absorbed; a second deficit of the same trajectories keeps its contrast in those that lack it alone,
    and is chosen too.

    Args:
        costs_S: nats that each statement's length costs (`complexity`).
    """
    search = _Search(matrix, outcomes, costs_S, config, count(matrix.labels_ST, outcomes))
    causes = np.array([is_cause(statement) for statement in matrix.statements], dtype=bool)
    left = np.ones(len(outcomes.failed_T), dtype=bool)
    open_S = np.ones(len(matrix.statements), dtype=bool)
    chosen: list[Chosen] = []
    for tier in (causes, ~causes):
        while len(chosen) < config.most:
            gain = np.where(open_S & tier, search.gains(left), 0.0)
            if not gain.any():
                break
            found = search.sharpest(int(gain.argmax()), gain > 0)
            row = search.best_rule(found, gain > 0)
            lacking = matrix.labels_ST[row] == LACKING
            fresh = int((lacking & outcomes.failed_T & left).sum())
            left &= ~lacking
            open_S[[found, row]] = False
            absorbed = [int(other) for other in np.nonzero(open_S & (search.gains(left) <= 0))[0]]
            open_S[absorbed] = False
            chosen.append(Chosen(row, fresh, tuple(search.nearest(row, absorbed))))
    return chosen


@dataclass(frozen=True)
class _Search:
    """What a cover is chosen from."""

    matrix: LabelMatrix
    outcomes: Outcomes
    costs_S: Floats
    config: CoverConfig
    totals: Counts

    def sharpest(self, row: int, usable_S: NDArray[np.bool_]) -> int:
        """Of the usable statements that lack the failures of `row` and few others, the one that says best what is
        lacking.

        That is the one with the widest gap, unless another is plainer, or decided earlier: what goes wrong first is
        the cause, and what is told at the end its consequence.
        """
        lacking = self._failures()
        both = (lacking & lacking[row]).sum(axis=1)
        alike = usable_S & (both >= 0.9 * lacking[row].sum()) & (both >= 0.75 * lacking.sum(axis=1))
        worth = self.totals.delta - 0.04 * self.costs_S - 0.3 * self.matrix.decided_S
        return int(np.where(alike, worth, -np.inf).argmax())

    def best_rule(self, row: int, usable_S: NDArray[np.bool_]) -> int:
        """Of the usable guards of a guard's tool, the one that tells most beyond the difficulty of tasks.

        Which facts forbid a deed is seen in tasks that both fail and succeed. Tasks that fail in every trial, whatever
        else is their reason, would lend their facts to the rule.
        """
        guard = self.matrix.statements[row]
        if not isinstance(guard, Refrain) or not guard.facts:
            return row
        lacking = self._failures()
        both = (lacking & lacking[row]).sum(axis=1)
        same = [
            isinstance(one, Refrain) and bool(one.facts) and one.tool == guard.tool for one in self.matrix.statements
        ]
        rivals = usable_S & np.array(same) & (both >= 0.75 * lacking.sum(axis=1))
        rivals[row] = True
        worth = evidence(self.matrix.labels_ST, self.outcomes, self.matrix.abstains_S) - self.costs_S
        worth += 1e-3 * self.totals.delta  # Of one deed, the statement of the tasks that ask for it.
        return int(np.where(rivals, worth, -np.inf).argmax())

    def gains(self, left: NDArray[np.bool_]) -> Floats:
        """Evidence beyond complexity among the trajectories left; 0 where a statement does not qualify there."""
        rest, labels, abstains = self.outcomes.subset(left), self.matrix.labels_ST[:, left], self.matrix.abstains_S
        gain = explained(count(labels, rest)) - self.costs_S
        usable = self._qualifies(count(labels, rest)) & shown_within(labels, rest, abstains)
        return np.where(usable & (gain >= self.config.least_gain), gain, 0.0)

    def _qualifies(self, counts: Counts) -> NDArray[np.bool_]:
        fresh, config = counts.lacking_failed, self.config
        return (
            (counts.delta >= config.least_gap)
            & (self.totals.delta >= config.least_gap)
            & (fresh >= config.fresh_share * self.totals.lacking_failed)
            & (fresh >= max(3.0, config.fresh_coverage * self.outcomes.failed_T.sum()))
        )

    def nearest(self, row: int, others: Sequence[int]) -> list[int]:
        """`others` whose failures mostly lack `row` too, by falling overlap (Jaccard)."""
        lacking = self._failures()
        found = []
        for other in others:
            both = int((lacking[row] & lacking[other]).sum())
            if both >= 0.5 * lacking[other].sum() and both:
                found.append((-both / int((lacking[row] | lacking[other]).sum()), other))
        return [other for _, other in sorted(found)]

    def _failures(self) -> NDArray[np.bool_]:
        """Failures that lack each statement (S × T)."""
        return (self.matrix.labels_ST == LACKING) & self.outcomes.failed_T
