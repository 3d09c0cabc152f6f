"""Stepwise cover: from many correlated statements to the few that explain the failures, each with what it absorbs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trace_agents.analysis.matrix import LabelMatrix
from trace_agents.analysis.preference import complexity, is_cause
from trace_agents.analysis.significance import LACKING, Counts, Floats, Outcomes, count, explained, shown_within


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


def stepwise(matrix: LabelMatrix, outcomes: Outcomes, config: CoverConfig) -> list[Chosen]:
    """Choose statements greedily by the evidence that each adds among the trajectories left unexplained.

    Causes come before symptoms (`is_cause`). A trajectory is explained once a chosen statement is LACKING in it. A
    statement that is a mere consequence of a chosen one loses its contrast, or most of its failures, among the
    rest, and is absorbed; a second deficit of the same trajectories keeps its contrast in those that lack it alone,
    and is chosen too.
    """
    costs = np.array([complexity(statement) for statement in matrix.statements])
    causes = np.array([is_cause(statement) for statement in matrix.statements], dtype=bool)
    left = np.ones(len(outcomes.failed_T), dtype=bool)
    open_S = np.ones(len(matrix.statements), dtype=bool)
    totals = count(matrix.labels_ST, outcomes)
    chosen: list[Chosen] = []
    for tier in (causes, ~causes):
        while len(chosen) < config.most:
            gain = _gains(matrix, outcomes, left, totals, config)
            gain = np.where(open_S & tier, gain, 0.0)
            if not gain.any():
                break
            row = _sharpest(matrix, outcomes, int(gain.argmax()), gain > 0, totals, costs)
            lacking = matrix.labels_ST[row] == LACKING
            fresh = int((lacking & outcomes.failed_T & left).sum())
            left &= ~lacking
            open_S[row] = False
            absorbed = _redundant(matrix, outcomes, left, open_S, totals, config)
            open_S[absorbed] = False
            chosen.append(Chosen(row, fresh, tuple(_nearest(matrix, outcomes, row, absorbed))))
    return chosen


def _sharpest(
    matrix: LabelMatrix, outcomes: Outcomes, row: int, usable_S: NDArray[np.bool_], totals: Counts, costs: Floats
) -> int:
    """Of the usable statements that lack the failures of `row` and few others, the one that says best what is lacking.

    That is the one with the widest gap, unless another is plainer, or decided earlier: what goes wrong first is the
    cause, and what is told at the end its consequence.
    """
    lacking = (matrix.labels_ST == LACKING) & outcomes.failed_T
    both = (lacking & lacking[row]).sum(axis=1)
    alike = usable_S & (both >= 0.9 * lacking[row].sum()) & (both >= 0.75 * lacking.sum(axis=1))
    return int(np.where(alike, totals.delta - 0.04 * costs - 0.3 * matrix.decided_S, -np.inf).argmax())


def _gains(
    matrix: LabelMatrix, outcomes: Outcomes, left: NDArray[np.bool_], totals: Counts, config: CoverConfig
) -> Floats:
    """Evidence beyond complexity among the trajectories left; 0 where a statement does not qualify there."""
    rest, labels = outcomes.subset(left), matrix.labels_ST[:, left]
    counts = count(labels, rest)
    gain = explained(counts) - np.array([complexity(statement) for statement in matrix.statements])
    usable = _qualifies(counts, totals, outcomes, config) & shown_within(labels, rest)
    return np.where(usable & (gain >= config.least_gain), gain, 0.0)


def _redundant(
    matrix: LabelMatrix,
    outcomes: Outcomes,
    left: NDArray[np.bool_],
    open_S: NDArray[np.bool_],
    totals: Counts,
    config: CoverConfig,
) -> list[int]:
    gains = _gains(matrix, outcomes, left, totals, config)
    return [int(row) for row in np.nonzero(open_S & (gains <= 0))[0]]


def _qualifies(counts: Counts, totals: Counts, outcomes: Outcomes, config: CoverConfig) -> NDArray[np.bool_]:
    fresh = counts.lacking_failed
    return (
        (counts.delta >= config.least_gap)
        & (totals.delta >= config.least_gap)
        & (fresh >= config.fresh_share * totals.lacking_failed)
        & (fresh >= max(3.0, config.fresh_coverage * outcomes.failed_T.sum()))
    )


def _nearest(matrix: LabelMatrix, outcomes: Outcomes, row: int, others: Sequence[int]) -> list[int]:
    """`others` whose failures mostly lack `row` too, by falling overlap (Jaccard)."""
    mine = (matrix.labels_ST[row] == LACKING) & outcomes.failed_T
    found = []
    for other in others:
        theirs = (matrix.labels_ST[other] == LACKING) & outcomes.failed_T
        both = int((mine & theirs).sum())
        if both >= 0.5 * theirs.sum() and both:
            found.append((-both / int((mine | theirs).sum()), other))
    return [other for _, other in sorted(found)]
