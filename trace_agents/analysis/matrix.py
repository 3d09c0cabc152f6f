"""The label matrix: every statement against every trajectory, and conditions that narrow a statement.

Axes: S statements, T trajectories, C conditions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trace_agents.analysis.catalog import Catalog, own_terms, task_terms
from trace_agents.analysis.guards import guards_together, judge_guards
from trace_agents.analysis.significance import LACKING, NA, PRESENT, Counts, Floats, Labels, Outcomes, explained
from trace_agents.analysis.statements import (
    AnyOf,
    Condition,
    Extreme,
    Finding,
    Refrain,
    Report,
    Said,
    Seen,
    Statement,
    Use,
)
from trace_agents.analysis.views import View
from trace_agents.types import Label

CODES = {Label.NA: NA, Label.PRESENT: PRESENT, Label.LACKING: LACKING}


@dataclass(frozen=True)
class LabelMatrix:
    """Statements and their verdicts on a fixed sequence of trajectories."""

    statements: tuple[Statement, ...]
    labels_ST: Labels
    """Codes of `significance`."""
    decided_S: Floats
    """How far into the trajectory LACKING is decided, on average: 0 at its first message, 1 at its last."""

    @property
    def abstains_S(self) -> NDArray[np.bool_]:
        """Guards: a trajectory to which one does not apply has not done the deed either."""
        return np.array([isinstance(one, Refrain) and bool(one.facts) for one in self.statements], dtype=bool)

    def take(self, rows: Sequence[int]) -> LabelMatrix:
        """The matrix of some statements."""
        chosen = list(rows)
        return LabelMatrix(
            tuple(self.statements[row] for row in chosen), self.labels_ST[chosen], self.decided_S[chosen]
        )

    def distinct(self) -> LabelMatrix:
        """Without statements whose labels repeat an earlier one's: they cannot be told apart."""
        _, first = np.unique(self.labels_ST, axis=0, return_index=True)
        return self.take(sorted(int(row) for row in first))

    def joined(self, other: LabelMatrix) -> LabelMatrix:
        """Both matrices' statements."""
        return LabelMatrix(
            self.statements + other.statements,
            np.vstack([self.labels_ST, other.labels_ST]),
            np.concatenate([self.decided_S, other.decided_S]),
        )


def label_all(statements: Sequence[Statement], views: Sequence[View]) -> LabelMatrix:
    """Evaluate every statement on every trajectory."""
    labels = np.zeros((len(statements), len(views)), dtype=np.int8)
    decided = np.ones(len(statements))
    lengths = np.array([max(len(view.trajectory.messages) - 1, 1) for view in views], dtype=np.float64)
    for row, found in _findings(statements, views):
        labels[row] = [CODES[finding.label] for finding in found]
        if (lacking := labels[row] == LACKING).any():
            steps = np.array([finding.at or 0 for finding in found], dtype=np.float64)
            decided[row] = (steps / lengths)[lacking].mean()
    return LabelMatrix(tuple(statements), labels, decided)


def _findings(statements: Sequence[Statement], views: Sequence[View]) -> Iterator[tuple[int, Sequence[Finding]]]:
    """(row, a finding for each view) of every statement; guards of the same calls are judged together."""
    guards = {row: one for row, one in enumerate(statements) if isinstance(one, Refrain) and one.facts and not one.when}
    for row, statement in enumerate(statements):
        if row not in guards:
            yield row, [statement.evaluate(view) for view in views]
    rows = list(guards)
    for group in guards_together(list(guards.values())):
        together = [guards[rows[index]] for index in group]
        for index, found in zip(group, zip(*judge_guards(together, views), strict=True), strict=True):
            yield rows[index], found


NARROWABLE = (Use, Refrain, Report)
"""Statements that hold of too much without a condition."""


@dataclass(frozen=True)
class Conditions:
    """Conditions and where they hold."""

    found: tuple[Condition, ...]
    holds_CT: NDArray[np.bool_]
    intents: Mapping[str, frozenset[str]]
    """Tool → terms that may ask for it."""

    def suits(self, statements: Sequence[Statement]) -> NDArray[np.bool_]:
        """Which conditions may narrow which statement (S × C).

        Using a tool, or not, goes with words that ask for it (and using it with facts seen); what to tell, with any.
        """
        return np.array([[self._suits(one, condition) for condition in self.found] for one in statements], dtype=bool)

    def _suits(self, statement: Statement, condition: Condition) -> bool:
        if isinstance(statement, Report):
            return isinstance(condition, Said)
        tools = (
            statement.tools
            if isinstance(statement, Use)
            else (statement.tool,)
            if isinstance(statement, Refrain)
            else ()
        )
        if isinstance(condition, Seen):
            return isinstance(statement, Use)
        return any(self.intents.get(tool, frozenset()).issuperset(condition.terms) for tool in tools)

    def best_gains(
        self, labels_ST: Labels, suits_SC: NDArray[np.bool_], outcomes: Outcomes, least: float
    ) -> tuple[Floats, NDArray[np.int64]]:
        """The most that each statement explains under one condition that suits it, and that condition's index.

        Under a condition a statement counts only with `least` failures that lack it.
        """
        if not suits_SC.size:
            return np.zeros(len(labels_ST)), np.zeros(len(labels_ST), dtype=np.int64)
        counts = _counts(labels_ST, outcomes, self.holds_CT)
        gains = np.where(suits_SC & (counts.lacking_failed >= least), explained(counts), 0.0)
        best = gains.argmax(axis=1)
        return gains[np.arange(len(gains)), best], best

    def apply_labels(self, labels_ST: Labels, best_S: NDArray[np.int64]) -> Labels:
        """Labels with NA where a statement's own condition does not hold."""
        return np.where(self.holds_CT[best_S], labels_ST, NA).astype(np.int8)

    def apply(self, matrix: LabelMatrix, best: Sequence[int]) -> LabelMatrix:
        """Each statement of `matrix` under its own condition."""
        pairs = zip(matrix.statements, best, strict=True)
        statements = tuple(one.model_copy(update={"when": (self.found[index],)}) for one, index in pairs)
        labels = self.apply_labels(matrix.labels_ST, np.array(best, dtype=np.int64))
        return LabelMatrix(statements, labels, matrix.decided_S)


def conditions(views: Sequence[View], catalog: Catalog, most: int = 300) -> Conditions:
    """Conditions on the user's words and on facts seen."""
    ranked = [term for term, _ in sorted(task_terms(views).items(), key=lambda item: (-len(item[1]), item[0]))][:most]
    sets = [Said(terms=terms) for _, terms in sorted(catalog.intents.items())]
    found: list[Condition] = list(dict.fromkeys([*sets, *(Said(terms=(term,)) for term in ranked)]))
    found += [Seen(fact=fact) for fact in catalog.facts[:40]]
    holds = np.array([[condition.holds(view) for view in views] for condition in found], dtype=bool)
    intents = {tool: frozenset(catalog.intents.get(tool, ())) | own_terms(tool, ranked) for tool in catalog.tools}
    return Conditions(tuple(found), holds.reshape(len(found), len(views)), intents)


def _counts(labels_ST: Labels, outcomes: Outcomes, holds_CT: NDArray[np.bool_]) -> Counts:
    """Counts of each statement under each condition (S × C)."""
    holds = holds_CT.astype(np.float32).T
    failed = outcomes.failed_T.astype(np.float32)
    lacking, present = (labels_ST == LACKING).astype(np.float32), (labels_ST == PRESENT).astype(np.float32)
    parts = [(mask * side) @ holds for mask in (lacking, present) for side in (failed, 1 - failed)]
    return Counts(*(part.astype(np.float64) for part in parts))


def themes(statements: Sequence[Statement]) -> list[list[int]]:
    """Indices of statements that are one capability, shown on several tools or fields; every index once.

    Statements share a theme where they guard the same facts, meet the same error, copy or tell fields of the same
    source, or pick among the same records.
    """
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, statement in enumerate(statements):
        groups.setdefault(_theme(statement) or (str(index),), []).append(index)
    return list(groups.values())


_THEMES = {
    "refrain": ("facts",),
    "recover": ("error",),
    "avoid": ("error",),
    "source": ("origin", "field"),
    "match": ("origin", "key", "name"),
    "extreme": ("origin", "key", "field", "most"),
    "total": ("origin", "field"),
    "before": ("first",),
    "report": ("tool",),
}
"""Kind → what statements of one capability have in common."""


def _theme(statement: Statement) -> tuple[str, ...] | None:
    if statement.kind not in _THEMES or (isinstance(statement, Refrain) and not statement.facts):
        return None
    return (statement.kind, *(repr(getattr(statement, key)) for key in _THEMES[statement.kind]))


def united(statements: Sequence[Statement]) -> Statement:
    """The statement that is LACKING where any of `statements` is; superlatives that mean the same stand in one."""
    if len(statements) == 1:
        return statements[0]
    extremes = [one for one in statements if isinstance(one, Extreme)]
    if len(extremes) == len(statements) and len({one.model_copy(update={"asked": ()}) for one in extremes}) == 1:
        return extremes[0].model_copy(update={"asked": tuple(sorted({term for one in extremes for term in one.asked}))})
    return AnyOf.model_validate({"parts": [one.model_dump() for one in statements]})
