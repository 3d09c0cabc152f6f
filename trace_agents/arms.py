"""From outcomes to an arm of the evaluation: rates, intervals and the paired comparison with the base."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from trace_agents.artifacts import Arm, ArmKind, RoutingScore, TaskOutcome
from trace_agents.statistics import Difference, Estimate, estimate, paired_difference

NONE = "none"
"""Key of the tasks that need no capability."""

Needs = Mapping[str, Sequence[str]]
"""Task id -> capabilities that the task needs, by its author."""


def summarise(
    name: str, kind: ArmKind, outcomes: Sequence[TaskOutcome], needs: Needs, base: Sequence[TaskOutcome] | None = None
) -> Arm:
    """The arm with these `outcomes`, compared pair by pair with the `base` agent's where they are given.

    Outcomes without a verdict (`success` None) are counted and left out of every rate; a pair counts only
    where both sides have a verdict. Further fields are set with `arm.model_copy(update=...)`.
    """
    judged = [outcome for outcome in outcomes if outcome.success is not None]
    return Arm(
        name=name,
        kind=kind,
        pass_rate=_rate(judged),
        versus_base=None if base is None else compare(outcomes, base),
        by_capability=_rates(judged, lambda task_id: needs.get(task_id) or (NONE,)),
        by_count=_rates(judged, lambda task_id: (str(len(needs.get(task_id, ()))),)),
        infrastructure_failures=len(outcomes) - len(judged),
        outcomes=tuple(outcomes),
    )


def compare(first: Sequence[TaskOutcome], second: Sequence[TaskOutcome]) -> Difference:
    """The paired difference over the tasks and trials on which both have a verdict."""
    verdicts = {(outcome.task_id, outcome.trial): outcome.success for outcome in second}
    pairs = [
        (outcome.success, other)
        for outcome in first
        if outcome.success is not None and (other := verdicts.get((outcome.task_id, outcome.trial))) is not None
    ]
    return paired_difference([a for a, _ in pairs], [b for _, b in pairs])


def routing_score(router: str, outcomes: Sequence[TaskOutcome], needs: Needs, trained: Sequence[str]) -> RoutingScore:
    """Share of the tasks needing exactly one `trained` capability, and nothing else, sent to that adapter."""
    confusion: dict[str, dict[str, int]] = {}
    for outcome in outcomes:
        needed = needs.get(outcome.task_id, ())
        if len(needed) == 1 and needed[0] in trained and outcome.route is not None:
            row = confusion.setdefault(needed[0], {})
            row[outcome.route] = row.get(outcome.route, 0) + 1
    right = sum(row.get(capability, 0) for capability, row in confusion.items())
    total = sum(sum(row.values()) for row in confusion.values())
    return RoutingScore(router=router, accuracy=estimate(right, total), confusion=confusion)


def _rate(judged: Sequence[TaskOutcome]) -> Estimate:
    return estimate(sum(bool(outcome.success) for outcome in judged), len(judged))


def _rates(judged: Sequence[TaskOutcome], keys: Callable[[str], Sequence[str]]) -> dict[str, Estimate]:
    groups: dict[str, list[TaskOutcome]] = {}
    for outcome in judged:
        for key in keys(outcome.task_id):
            groups.setdefault(key, []).append(outcome)
    return {key: _rate(groups[key]) for key in sorted(groups)}
