"""Outcomes become arms: rates by need, pairs by task and trial, and no verdict is no failure."""

from __future__ import annotations

from trace_agents.arms import NONE, routing_score, summarise
from trace_agents.artifacts import ArmKind, TaskOutcome

NEEDS = {"t0": (), "t1": ("a",), "t2": ("a", "b"), "t3": ("b",)}


def played(*successes: bool | None, routes: tuple[str | None, ...] = (None,) * 4) -> list[TaskOutcome]:
    return [TaskOutcome(task_id=f"t{i}", success=success, route=routes[i]) for i, success in enumerate(successes)]


def test_rates_are_split_by_needed_capability_and_by_their_number() -> None:
    arm = summarise("x", ArmKind.ROUTER, played(True, True, False, True), NEEDS)
    rates = {key: (rate.successes, rate.trials) for key, rate in arm.by_capability.items()}
    assert rates == {"a": (1, 2), "b": (1, 2), NONE: (1, 1)}
    assert {key: rate.trials for key, rate in arm.by_count.items()} == {"0": 1, "1": 2, "2": 1}
    assert arm.versus_base is None


def test_an_infrastructure_failure_is_counted_and_left_out_of_rates_and_pairs() -> None:
    base = played(False, None, False, False)
    arm = summarise("x", ArmKind.ROUTER, played(True, True, None, True), NEEDS, base)
    assert (arm.pass_rate.successes, arm.pass_rate.trials, arm.infrastructure_failures) == (3, 3, 1)
    assert arm.versus_base is not None
    assert (arm.versus_base.trials, arm.versus_base.gained, arm.versus_base.lost) == (2, 2, 0)


def test_trials_of_one_task_are_paired_trial_by_trial() -> None:
    first = [TaskOutcome(task_id="t1", trial=trial, success=trial == 0) for trial in range(2)]
    second = [TaskOutcome(task_id="t1", trial=trial, success=trial == 1) for trial in reversed(range(2))]
    versus = summarise("x", ArmKind.ROUTER, first, NEEDS, second).versus_base
    assert versus is not None
    assert (versus.gained, versus.lost) == (1, 1)


def test_routing_is_scored_on_tasks_that_need_one_trained_capability_only() -> None:
    outcomes = played(True, True, True, True, routes=("a", "a", "b", "base"))
    score = routing_score("probe", outcomes, NEEDS, ["a", "b"])
    assert score.confusion == {"a": {"a": 1}, "b": {"base": 1}}
    assert (score.accuracy.successes, score.accuracy.trials) == (1, 2)
    assert routing_score("probe", outcomes, NEEDS, ["a"]).accuracy.trials == 1
