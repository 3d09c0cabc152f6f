"""Which family trains a mined capability: decided by behaviour, never by name.

A capability of the statistical analyst carries a checkable statement. A family trains it where, on tasks that
need the family's capability, the statement is PRESENT when the oracle plays and LACKING when the counterexample
plays: exercising the one is then exercising the other (Definition 2, property 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

from pydantic import ValidationError

from synth_envs.contract import Family, targeted_tasks
from synth_envs.policies import play, scripted
from trace_agents.analysis.statements import Statement, statement_from
from trace_agents.environment import SyntheticEnvironment
from trace_agents.errors import UsageError
from trace_agents.types import Capability, Label, Record, TaskInstance, Trajectory

THRESHOLD = 0.5
"""Least score at which a family trains a capability."""
SEEDS = range(30)
"""Seeds on which behaviour is compared."""


class Fit(Record):
    """How well a family's behaviour is the statement's."""

    present: float
    """Share of the oracle's trajectories in which the statement is PRESENT."""
    lacking: float
    """Share of the counterexample's trajectories in which it is LACKING."""

    @property
    def score(self) -> float:
        """The product: chance that the statement tells both behaviours rightly."""
        return self.present * self.lacking


class Matching(Record):
    """Which family trains which capability."""

    families: dict[str, str]
    """Capability → family spec; those matched."""
    scores: dict[str, dict[str, float]]
    """Capability → family spec → score, for every capability that has a statement."""

    def unmatched(self, capabilities: Sequence[Capability]) -> dict[str, str]:
        """Capability → why no family trains it, in one line."""
        left = [capability for capability in capabilities if capability.name not in self.families]
        return {capability.name: self._reason(capability) for capability in left}

    def _reason(self, capability: Capability) -> str:
        if capability.statement is None:
            return "it has no checkable statement to compare behaviour by"
        scores = self.scores.get(capability.name, {})
        if not scores:
            return "the target has no families"
        best = max(scores, key=lambda spec: scores[spec])
        if scores[best] == 0:
            return "no family behaves like its statement"
        if scores[best] < THRESHOLD:
            return (
                f"no family behaves like its statement: {best!r} comes nearest, with {scores[best]:.2f} < {THRESHOLD}"
            )
        return f"family {best!r} ({scores[best]:.2f}) trains another capability that it fits as well or better"


class Contrast(NamedTuple):
    """A family's two behaviours on the tasks that need its capability."""

    oracle: tuple[Trajectory, ...]
    counterexample: tuple[Trajectory, ...]


async def contrast(family: Family, seeds: range = SEEDS) -> Contrast:
    """Play the family's oracle and its counterexample on the tasks of `seeds` that need the capability."""
    environment = family.environment()
    tasks = list(targeted_tasks(family, environment, seeds))
    return Contrast(
        oracle=tuple([await _oracle(environment, task) for task in tasks]),
        counterexample=tuple([await play(environment, task, scripted(family.counterexample(task))) for task in tasks]),
    )


async def _oracle(environment: SyntheticEnvironment, task: TaskInstance) -> Trajectory:
    return await play(environment, task, scripted(environment.oracle(task)))


def fit(capability: Capability, behaviour: Contrast) -> Fit:
    """How well a family's `behaviour` is that of the capability's statement; NA counts for neither.

    Raises:
        UsageError: the capability has no statement, or one that this version does not know.
    """
    statement = _statement(capability)
    return Fit(
        present=_share(statement, behaviour.oracle, Label.PRESENT),
        lacking=_share(statement, behaviour.counterexample, Label.LACKING),
    )


async def match(
    capabilities: Sequence[Capability],
    families: Mapping[str, Family],
    seeds: range = SEEDS,
    threshold: float = THRESHOLD,
) -> Matching:
    """The one-to-one assignment of capabilities to families with the greatest sum of scores of `threshold` or more."""
    behaviours = {spec: await contrast(family, seeds) for spec, family in families.items()}
    scores = {
        capability.name: {spec: round(fit(capability, behaviour).score, 4) for spec, behaviour in behaviours.items()}
        for capability in capabilities
        if capability.statement is not None
    }
    return Matching(families=assign(scores, threshold), scores=scores)


def assign(scores: Mapping[str, Mapping[str, float]], threshold: float) -> dict[str, str]:
    """Row → column of the best one-to-one assignment: greatest sum over entries of `threshold` or more.

    Exact, by going through the rows and remembering the best for each set of columns left.
    """
    rows = list(scores)
    allowed = [{spec: score for spec, score in scores[row].items() if score >= threshold} for row in rows]

    @cache
    def best(index: int, used: frozenset[str]) -> tuple[float, tuple[tuple[str, str], ...]]:
        if index == len(rows):
            return 0.0, ()
        options = [best(index + 1, used)]
        for spec, score in allowed[index].items():
            if spec not in used:
                total, chosen = best(index + 1, used | {spec})
                options.append((total + score, ((rows[index], spec), *chosen)))
        return max(options, key=lambda option: option[0])

    return dict(best(0, frozenset())[1])


def _statement(capability: Capability) -> Statement:
    if capability.statement is None:
        raise UsageError(f"capability {capability.name!r} has no checkable statement: name its family instead")
    try:
        return statement_from(capability.statement)
    except ValidationError as error:
        problem = error.errors()[0]["msg"]
        raise UsageError(
            f"the statement of capability {capability.name!r} is not of this grammar ({problem}): analyse again"
        ) from error


def _share(statement: Statement, trajectories: Sequence[Trajectory], label: Label) -> float:
    found = [statement.evaluate(trajectory).label is label for trajectory in trajectories]
    return sum(found) / len(found) if found else 0.0
