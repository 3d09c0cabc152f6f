"""An agent's figures, against independent implementations."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trace_agents.errors import UsageError
from trace_agents.scores import Outcome, compare, pass_hat, score
from trace_agents.statistics import estimate, mcnemar, paired_bootstrap
from trace_agents.types import Message, StopReason, Trajectory


def trajectory(task: str, trial: int, success: bool | None, reward: float | None = None, **info) -> Trajectory:
    messages = (Message(role="user", content="Hi."), Message(role="assistant", content="Bye."))
    given = reward if reward is not None or success is None else float(success)
    stop = StopReason.USER if success is not None else StopReason.ERROR
    return Trajectory(
        id=f"{task}/{trial}", task_id=task, trial=trial, messages=messages, reward=given, success=success, stop=stop,
        info=info,
    )  # fmt: skip


def results(table: dict[str, list[bool | None]]) -> list[Trajectory]:
    return [trajectory(task, trial, one) for task, row in table.items() for trial, one in enumerate(row)]


@given(st.lists(st.booleans(), min_size=1, max_size=7), st.integers(1, 7))
def test_pass_hat_is_the_share_of_subsets_that_all_succeed(outcomes, k):
    if k > len(outcomes):
        with pytest.raises(UsageError, match="pass"):
            pass_hat(sum(outcomes), len(outcomes), k)
        return
    subsets = list(combinations(outcomes, k))
    assert pass_hat(sum(outcomes), len(outcomes), k) == pytest.approx(sum(map(all, subsets)) / len(subsets))


def test_pass_hat_is_a_mean_over_tasks_with_enough_verdicts():
    found = score("a", results({"x": [True, True, False], "y": [False, True, None], "z": [True, True, True]}))
    assert [one.value for one in found.pass_hat] == pytest.approx([(2 / 3 + 1 / 2 + 1) / 3, (1 / 3 + 0 + 1) / 3, 0.5])
    assert [one.tasks for one in found.pass_hat] == [3, 3, 2]
    assert (found.episodes, found.infrastructure_failures) == (8, 1)


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_with_one_trial_the_interval_is_wilsons(outcomes):
    found = score("a", results({str(n): [one] for n, one in enumerate(outcomes)})).pass_rate
    wilson = estimate(sum(outcomes), len(outcomes))
    assert (found.value, found.low, found.high) == pytest.approx((wilson.value, wilson.low, wilson.high))


def test_trials_that_are_alike_add_nothing_and_independent_ones_narrow_the_interval():
    one = score("a", results({str(n): [n % 2 == 0] for n in range(40)})).pass_rate
    alike = score("a", results({str(n): [n % 2 == 0] * 4 for n in range(40)})).pass_rate
    mixed = score("a", results({str(n): [(n + t) % 2 == 0 for t in range(4)] for n in range(40)})).pass_rate
    assert (alike.low, alike.high) == pytest.approx((one.low, one.high))
    assert mixed.high - mixed.low < 0.6 * (one.high - one.low)
    assert mixed.low == pytest.approx(estimate(80, 160).low)


def test_rewards_parts_and_tokens_are_summed_up():
    rows = [
        trajectory("x", 0, False, 0.5, breakdown={"db": 0.0}, tokens={"read": 10, "written": 3}),
        trajectory("y", 0, True, 1.0, breakdown={"db": 1.0, "told": 1.0}, tokens={"read": 5, "written": 4}),
        trajectory("z", 0, None),
    ]
    found = score("a", rows)
    assert (found.reward.value, found.perfect, found.turns) == (0.75, 1, 1.0)
    assert {name: part.value for name, part in found.breakdown.items()} == {"db": 0.5, "told": 1.0}
    assert (found.tokens_read, found.tokens_written, found.stops) == (15, 7, {"user": 2})
    assert found.reward.low < 0.75 < found.reward.high


def test_a_comparison_is_paired_by_task():
    first = results({"a": [True, True], "b": [True, False], "c": [False, False], "d": [True, True]})
    second = results({"a": [False, False], "b": [True, False], "c": [False, True], "e": [True, True]})
    found = compare(first, second)
    assert (found.trials, found.gained, found.lost) == (3, 1, 1)
    assert found.value == pytest.approx((1 + 0 - 0.5) / 3)
    assert found.p_value == mcnemar(1, 1)
    with pytest.raises(UsageError, match="no task has a verdict in both"):
        compare(first, results({"q": [True]}))


def test_nothing_measured_is_no_figure():
    found = score("a", [trajectory("x", 0, None)])
    assert (found.pass_rate.episodes, found.pass_rate.low, found.pass_rate.high, found.pass_hat) == (0, 0.0, 1.0, ())
    assert (found.pass_rate.value, found.reward.value, found.turns) == (None, None, None)


def test_outcomes_score_and_compare_as_their_trajectories():
    rows = results({str(n): [n % 3 == 0, n % 2 == 0, None] for n in range(12)})
    others = results({str(n): [n % 5 == 0] for n in range(12)})
    assert score("a", map(Outcome.of, rows)) == score("a", rows)
    assert compare(map(Outcome.of, rows), others) == compare(rows, others)


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        ({"a": [True], "b": [False]}, {"a": [False], "b": [False]}, "from 2 tasks, compare 10 or more"),
        ({str(n): [True] for n in range(12)}, {str(n): [True] for n in range(12)}, "the same on all 12 tasks"),
    ],
)
def test_a_comparison_that_resampling_cannot_judge_has_no_interval_and_says_why(first, second, told):
    found = compare(results(first), results(second))
    assert (found.low, found.high) == (None, None)
    assert told in found.note


def test_a_comparison_of_enough_tasks_has_its_interval():
    found = compare(
        results({str(n): [n < 9] for n in range(20)}), results({str(n): [n in (1, 2, 15)] for n in range(20)})
    )
    low, high = paired_bootstrap([n < 9 for n in range(20)], [n in (1, 2, 15) for n in range(20)])
    assert (found.value, found.low, found.high, found.note) == (pytest.approx(0.3), low, high, "")
