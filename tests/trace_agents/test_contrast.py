"""The figures of §3.3 against values worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trace_agents.contrast import Contrast, Thresholds, contrast, select, spread
from trace_agents.errors import UsageError
from trace_agents.types import Label

N, P, L = Label.NA, Label.PRESENT, Label.LACKING


def run_of(letters: str, outcomes: str) -> Contrast:
    """`letters` of NPL against `outcomes` of + and -."""
    return contrast([{"N": N, "P": P, "L": L}[letter] for letter in letters], [one == "+" for one in outcomes])


def test_rates_count_only_trajectories_that_need_the_capability() -> None:
    one = run_of("LLPNLPPN", "-----+++")
    assert (one.lacking_failed, one.applicable_failed, one.failed) == (3, 4, 5)
    assert one.er_failed == 3 / 4
    assert one.er_succeeded == 0 / 2
    assert one.delta == 3 / 4
    assert one.coverage == 3 / 5


def test_successes_that_lack_the_capability_narrow_the_gap() -> None:
    one = run_of("LLPPLPPP", "----++++")
    assert one.er_failed == 0.5
    assert one.er_succeeded == 0.25
    assert one.delta == 0.25


@pytest.mark.parametrize(
    ("letters", "outcomes"),
    [("LLNN", "--++"), ("NNPL", "--++"), ("NNNN", "--++"), ("LP", "--"), ("LP", "++")],
)
def test_an_empty_denominator_is_not_estimable_and_never_zero(letters: str, outcomes: str) -> None:
    one = run_of(letters, outcomes)
    assert one.delta is None
    assert not Thresholds().passed(one)


def test_coverage_is_not_estimable_without_a_failure() -> None:
    assert run_of("LP", "++").coverage is None
    assert run_of("NN", "--").coverage == 0.0


def test_labels_and_outcomes_must_pair_up() -> None:
    with pytest.raises(ValueError, match="2 labels for 1 trajectories"):
        contrast([P, L], [True])


def test_thresholds_are_inclusive() -> None:
    exactly = run_of("LPPPP" + "NNNNN" + "PPP", "----------+++")
    assert exactly.delta == pytest.approx(0.2)
    assert exactly.coverage == pytest.approx(0.1)
    assert Thresholds(support=1).passed(exactly)
    assert not Thresholds(support=1, delta=0.21).passed(exactly)
    assert not Thresholds(support=1, rho=0.11).passed(exactly)


@pytest.mark.parametrize(
    ("letters", "outcomes"),
    [("LLLPPP", "---+++"), ("LLPPPP", "---+++"), ("LLLPPN", "---+++"), ("LLLPP", "---++"), ("LLPPP", "--+++")],
)
def test_what_rests_on_fewer_than_the_least_support_does_not_pass(letters: str, outcomes: str) -> None:
    one = run_of(letters, outcomes)
    assert Thresholds(support=1).passed(one)
    assert Thresholds(support=3).passed(one) is (letters == "LLLPPP")


def test_the_reason_says_what_there_is_too_little_of() -> None:
    (one,) = select([{"few": run_of("LLPPN", "---++")}, {"few": run_of("LLPPP", "---++")}], Thresholds.for_runs(2))
    assert not one.kept
    assert one.reason == (
        "passed in 0 of 2 runs, 2 needed; "
        "too little support: 1.5 applicable successes and 2 failures that lack it, 3 needed in a run"
    )


def test_k_of_n_scales_with_the_number_of_runs_and_rounds_up() -> None:
    assert [Thresholds.for_runs(n).keep_in for n in (1, 4, 5, 10)] == [1, 4, 4, 8]
    with pytest.raises(UsageError, match="runs 0 is too few"):
        Thresholds.for_runs(0)
    with pytest.raises(ValueError, match="more than runs"):
        Thresholds(runs=3, keep_in=4)


def test_spread_leaves_out_what_is_not_estimable() -> None:
    found = spread([0.2, None, 0.4])
    assert found.mean == pytest.approx(0.3)
    assert found.deviation == pytest.approx(0.1414, abs=1e-4)
    assert (found.low, found.high, found.estimated) == (0.2, 0.4, 2)
    assert spread([0.5]).deviation is None
    assert spread([None]).mean is None


GOOD, WIDE, RARE = run_of("LLPP", "--++"), run_of("LPPP", "--++"), run_of("L" + "N" * 19 + "P", "-" * 20 + "+")


def test_selection_needs_k_of_n_runs_and_ranks_by_coverage() -> None:
    thresholds = Thresholds(runs=3, keep_in=2, support=1)
    runs = [{"wide": WIDE, "good": GOOD, "rare": RARE}] * 2 + [{"wide": WIDE, "good": RARE, "rare": GOOD}]
    found = select(runs, thresholds)
    assert [(one.name, one.kept, one.passes) for one in found] == [
        ("good", True, 2),
        ("wide", True, 3),
        ("rare", False, 1),
    ]
    assert found[0].frequency == pytest.approx(2 / 3)
    assert found[0].coverage.mean == pytest.approx((1 + 1 + 0.05) / 3)


def test_the_reason_names_the_figure_that_fell_short() -> None:
    rare, level, empty = select(
        [{"rare": RARE, "level": run_of("LPLP", "--++"), "empty": run_of("NN", "-+")}],
        Thresholds(runs=1, keep_in=1, support=1),
    )
    assert {one.name for one in (rare, level, empty)} == {"rare", "level", "empty"}
    reasons = {one.name: one.reason for one in (rare, level, empty)}
    assert reasons["rare"] == "passed in 0 of 1 runs, 1 needed; mean coverage 0.05 is below 0.10"
    assert reasons["level"] == "passed in 0 of 1 runs, 1 needed; mean Δ 0.00 is below 0.20"
    assert "not estimable" in reasons["empty"]


def test_a_figure_that_falls_short_by_little_has_the_digits_to_show_it() -> None:
    close = run_of("L" * 99 + "P" * 901 + "P" * 10, "-" * 1000 + "+" * 10)
    (found,) = select([{"close": close}], Thresholds(runs=1, keep_in=1, delta=0.0))
    assert found.reason.endswith("mean coverage 0.099 is below 0.100")


def test_selection_refuses_runs_that_do_not_belong_together() -> None:
    with pytest.raises(UsageError, match="1 labelling runs where the thresholds count on 2"):
        select([{"a": GOOD}], Thresholds.for_runs(2))
    with pytest.raises(UsageError, match="different capability dictionaries"):
        select([{"a": GOOD}, {"b": GOOD}], Thresholds.for_runs(2))


@given(st.lists(st.tuples(st.sampled_from([N, P, L]), st.booleans())))
def test_figures_stay_in_their_ranges_and_failed_labels_add_up(rows: list[tuple[Label, bool]]) -> None:
    one = contrast([label for label, _ in rows], [good for _, good in rows])
    assert one.delta is None or -1 <= one.delta <= 1
    assert one.coverage is None or 0 <= one.coverage <= 1
    assert one.lacking_failed <= one.applicable_failed <= one.failed == sum(not good for _, good in rows)
