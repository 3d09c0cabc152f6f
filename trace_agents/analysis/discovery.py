"""Discovery: from trajectories to the few statements that tell failures from successes beyond chance."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from trace_agents.analysis.catalog import Catalog, survey
from trace_agents.analysis.cover import Chosen, CoverConfig, stepwise
from trace_agents.analysis.hardness import evidence
from trace_agents.analysis.matrix import NARROWABLE, Conditions, LabelMatrix, conditions, label_all, themes, united
from trace_agents.analysis.mining import propose
from trace_agents.analysis.preference import complexity
from trace_agents.analysis.significance import (
    LACKING,
    NA,
    PRESENT,
    SLACK,
    Floats,
    Labels,
    Outcomes,
    count,
    discoveries,
    likelihood_ratio,
    permutation_p,
    permuted,
    prior_weights,
    shown_within,
)
from trace_agents.analysis.statements import Fact, Refrain, Statement
from trace_agents.analysis.views import View

_KEPT = 0.7
"""Least share of its failures that a statement keeps under a condition which it does not need."""
_FACT_GAIN = 1.35
"""Nats that each fact of a guard must add (a likelihood ratio of 2.7: 5 %, one-sided)."""


@dataclass(frozen=True)
class DiscoveryConfig:
    """How discovery guards against chance."""

    false_discovery_rate: float = 0.05
    permutations: int = 40
    """Shuffles of the outcomes that show what chance explains."""
    least_share: float = 0.05
    """Least share of the failures that a candidate must be LACKING in."""
    cover: CoverConfig = field(default_factory=CoverConfig)
    most_trajectories: int = 2000
    """Larger sets are discovered on a sample of whole tasks; labelling always reads all."""
    seed: int = 0


@dataclass(frozen=True)
class Entry:
    """One capability: a statement beyond chance, or the union of several of one theme."""

    statement: Statement
    fresh_failures: int
    """Failures that no entry before explains."""
    merged: tuple[Statement, ...]
    """Candidates that it makes redundant."""


@dataclass(frozen=True)
class Discovery:
    """What discovery found."""

    catalog: Catalog
    entries: tuple[Entry, ...]
    """In the order chosen: what explains most comes first."""
    tested: int
    """Hypotheses tested, conditions aside."""


def outcomes_of(views: Sequence[View]) -> Outcomes:
    """Success labels and task strata of the views."""
    tasks = {task: index for index, task in enumerate(dict.fromkeys(view.task for view in views))}
    return Outcomes(
        np.array([not view.trajectory.success for view in views], dtype=bool),
        np.array([tasks[view.task] for view in views], dtype=np.int64),
    )


def discover(views: Sequence[View], config: DiscoveryConfig) -> Discovery:
    """Mine, test against chance, cover the failures, and unite what is one capability."""
    outcomes = outcomes_of(views)
    catalog = survey(views)
    cost = partial(complexity, rules=catalog.rules)
    statements = sorted(propose(views, catalog), key=cost)  # Of equal labels, the plainer statement stays.
    matrix = label_all(statements, views).distinct()
    found = conditions(views, catalog)
    written = np.array([_is_written(one, catalog) for one in matrix.statements], dtype=bool)
    good = _beyond_chance(matrix, found, outcomes, written, config)
    good = good.take([row for row in range(len(good.statements)) if _tells(good, row, views, outcomes, catalog)])
    chosen = stepwise(good, outcomes, np.array([cost(one) for one in good.statements]), config.cover)
    groups = themes([good.statements[one.row] for one in chosen])
    entries = tuple(_entry(good, [chosen[index] for index in group]) for group in groups)
    return Discovery(catalog, entries, len(matrix.statements))


def _entry(matrix: LabelMatrix, chosen: Sequence[Chosen]) -> Entry:
    return Entry(
        statement=united([matrix.statements[one.row] for one in chosen]),
        fresh_failures=sum(one.fresh_failures for one in chosen),
        merged=tuple(matrix.statements[row] for one in chosen for row in one.absorbed),
    )


def _is_written(statement: Statement, catalog: Catalog) -> bool:
    """A guard all of whose facts the agent's instructions name with its tool."""
    if not isinstance(statement, Refrain) or not statement.facts:
        return False
    rules = catalog.rules.get(statement.tool, ())
    return all(fact in rules for fact in statement.facts)


def _beyond_chance(
    matrix: LabelMatrix,
    found: Conditions,
    outcomes: Outcomes,
    written_S: NDArray[np.bool_],
    config: DiscoveryConfig,
) -> LabelMatrix:
    """Statements, plain or under their best condition, that explain more than they do of shuffled outcomes.

    The choice of the condition is repeated on every shuffle, so its freedom is accounted for. What the instructions
    state (`written_S`) is tested at a lower price than what is guessed from the data.
    """
    rows = [row for row, statement in enumerate(matrix.statements) if isinstance(statement, NARROWABLE)]
    narrow = matrix.take(rows)
    least = config.least_share * float(outcomes.failed_T.sum())
    search = _Search(matrix, narrow, found, found.suits(narrow.statements), least)
    plain, under, best = search.gains(outcomes)
    rng = np.random.default_rng(config.seed)
    null = [search.gains(permuted(outcomes, rng))[:2] for _ in range(config.permutations)]
    p = [permutation_p(real, np.array([one[kind] for one in null])) for kind, real in enumerate((plain, under))]
    weights = prior_weights(np.concatenate([written_S, written_S[rows]]))
    passed = discoveries(np.concatenate(p), config.false_discovery_rate, weights)
    worth = passed[len(plain) :] & (under > plain[rows] + 2.0) & _needs_narrowing(narrow, found, best, outcomes)
    kept = matrix.take(np.nonzero(passed[: len(plain)])[0].tolist())
    return kept.joined(found.apply(narrow.take(np.nonzero(worth)[0].tolist()), best[worth].tolist()))


def _needs_narrowing(
    narrow: LabelMatrix, found: Conditions, best_S: NDArray[np.int64], outcomes: Outcomes
) -> NDArray[np.bool_]:
    """Statements that successes lack too often as they are, or that keep most of their failures under the condition.

    A condition is there to say where a statement does not apply, not to leave out failures that it explains.
    """
    if not len(found.found):
        return np.zeros(len(narrow.statements), dtype=bool)
    before = count(narrow.labels_ST, outcomes)
    after = count(found.apply_labels(narrow.labels_ST, best_S), outcomes)
    excused = before.lacking_succeeded > SLACK * (before.lacking_failed + before.lacking_succeeded)
    return excused | (after.lacking_failed >= _KEPT * before.lacking_failed)


def _tells(matrix: LabelMatrix, row: int, views: Sequence[View], outcomes: Outcomes, catalog: Catalog) -> bool:
    guard = matrix.statements[row]
    written = catalog.rules.get(guard.tool, ()) if isinstance(guard, Refrain) else ()
    return facts_matter(guard, matrix.labels_ST[row], views, outcomes, written)


def facts_matter(
    guard: Statement, labels_T: Labels, views: Sequence[View], outcomes: Outcomes, written: Collection[Fact]
) -> bool:
    """Whether a guard's facts tell bad calls of its tool from good ones: without that, the tool's use is the matter.

    Facts that are not among the `written` rules have to tell more than chance would.
    """
    if not isinstance(guard, Refrain) or not guard.facts:
        return True
    called = label_all([Refrain(tool=guard.tool, when=guard.when)], views).labels_ST[0] == LACKING
    inside = called & (labels_T == LACKING)
    split = count(np.where(inside, LACKING, np.where(called, PRESENT, NA)).astype(np.int8)[None], outcomes)
    if not (called & ~inside).any():
        return True
    guessed = sum(fact not in written for fact in guard.facts)
    return bool((split.delta > 0)[0] and likelihood_ratio(split)[0] >= _FACT_GAIN * guessed)


@dataclass(frozen=True)
class _Search:
    """What discovery optimises: one gain per statement, and one under the condition that suits it best."""

    matrix: LabelMatrix
    narrow: LabelMatrix
    found: Conditions
    suits_SC: NDArray[np.bool_]
    least: float

    def gains(self, outcomes: Outcomes) -> tuple[Floats, Floats, NDArray[np.int64]]:
        """Gains of the plain statements, of the narrowed ones, and the index of the condition of each of these.

        A gain counts only where trials of one task show it too, in data that has several trials a task.
        """
        counts = count(self.matrix.labels_ST, outcomes)
        labels, abstains = self.matrix.labels_ST, self.matrix.abstains_S
        plain = np.where(counts.lacking_failed >= self.least, evidence(labels, outcomes, abstains), 0.0)
        plain = np.where(shown_within(labels, outcomes, abstains), plain, 0.0)
        narrow, best = self.found.best_gains(self.narrow.labels_ST, self.suits_SC, outcomes, self.least)
        if self.suits_SC.size:
            labels = self.found.apply_labels(self.narrow.labels_ST, best)
            abstains = self.narrow.abstains_S
            narrow = np.where(narrow > 0, evidence(labels, outcomes, abstains), 0.0)
            narrow = np.where(shown_within(labels, outcomes, abstains), narrow, 0.0)
        return plain, narrow, best
