"""Intervals and tests against scipy and against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from trace_agents.errors import UsageError
from trace_agents.statistics import (
    cluster_weights,
    estimate,
    krippendorff_alpha,
    mcnemar,
    paired_bootstrap,
    paired_difference,
    percentile_interval,
)


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_agrees_with_scipy(case: tuple[int, int]) -> None:
    k, n = case
    ours = estimate(k, n)
    theirs = binomtest(k, n).proportion_ci(confidence_level=0.95, method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    assert ours.low <= ours.value <= ours.high


def test_no_trials_say_nothing() -> None:
    nothing = estimate(0, 0)
    assert (nothing.low, nothing.high, nothing.trials) == (0.0, 1.0, 0)


def test_more_successes_than_trials_are_refused() -> None:
    with pytest.raises(UsageError, match="5 successes in 4 trials"):
        estimate(5, 4)


@given(st.integers(0, 600), st.integers(0, 600))
def test_exact_mcnemar_is_the_two_sided_binomial_test(gained: int, lost: int) -> None:
    expected = binomtest(gained, gained + lost, 0.5).pvalue if gained + lost else 1.0
    assert mcnemar(gained, lost) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_survives_thousands_of_discordant_pairs() -> None:
    assert mcnemar(4000, 1000) < 1e-100
    assert mcnemar(2500, 2500) == 1.0


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_a_paired_difference_is_the_difference_of_the_rates(pairs: list[tuple[bool, bool]]) -> None:
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    found = paired_difference(first, second)
    assert found.value == pytest.approx(np.mean(first) - np.mean(second))
    assert found.low - 1e-12 <= found.value <= found.high + 1e-12
    flipped = paired_difference(second, first)
    assert (flipped.gained, flipped.lost, flipped.p_value) == (found.lost, found.gained, found.p_value)


def test_the_bootstrap_agrees_with_resampling_tasks_one_by_one() -> None:
    generator = np.random.default_rng(7)
    first, second = generator.random(200) < 0.6, generator.random(200) < 0.4
    picks = generator.integers(0, 200, size=(20_000, 200))
    plain = np.quantile((first[picks].mean(axis=1) - second[picks].mean(axis=1)), [0.025, 0.975])
    assert paired_bootstrap(first, second, resamples=20_000) == pytest.approx(plain, abs=0.006)


def test_the_bootstrap_is_the_same_for_the_same_seed() -> None:
    data = ([True, False, True] * 20, [False, False, True] * 20)
    assert paired_bootstrap(*data, seed=3) == paired_bootstrap(*data, seed=3)


def test_unequal_lengths_cannot_be_paired() -> None:
    with pytest.raises(UsageError, match="same tasks"):
        paired_difference([True], [])


def units(*coders: str, values: str) -> np.ndarray:
    """Counts by unit and value of coders' rows; a dot is a missing value."""
    return np.array([[sum(row[u] == value for row in coders) for value in values] for u in range(len(coders[0]))])


def test_alpha_is_that_of_krippendorffs_worked_examples() -> None:
    # Computing Krippendorff's Alpha-Reliability (2011): two coders, then four with missing values.
    two = units("aabbdcccedda", "babbbccceddd", values="abcde")
    assert krippendorff_alpha(two) == pytest.approx(0.692, abs=0.0005)
    four = units("123321412...", "1233224125.3", ".3332342251.", "12332441251.", values="12345")
    assert krippendorff_alpha(four) == pytest.approx(0.743, abs=0.0005)
    # Three coders of whom most is missing, the example of the encyclopaedia's article on the measure.
    three = units(".....34121133.3", "1.213343.......", "..21344.21133.4", values="1234")
    assert krippendorff_alpha(three) == pytest.approx(0.691, abs=0.0005)


@given(st.lists(st.lists(st.sampled_from("NPL."), min_size=3, max_size=3), min_size=1, max_size=25))
def test_alpha_is_the_coincidence_matrix_worked_out_by_hand(rows: list[list[str]]) -> None:
    coincidences: dict[tuple[str, str], float] = {}
    for row in rows:
        known = [one for one in row if one != "."]
        for i, one in enumerate(known):
            for j, other in enumerate(known):
                if i != j:
                    coincidences[one, other] = coincidences.get((one, other), 0.0) + 1 / (len(known) - 1)
    given_by = {one: sum(n for (a, _), n in coincidences.items() if a == one) for one in "NPL"}
    total = sum(given_by.values())
    observed = sum(n for (a, b), n in coincidences.items() if a != b)
    expected = sum(given_by[a] * given_by[b] for a in "NPL" for b in "NPL" if a != b)
    found = krippendorff_alpha(units(*("".join(column) for column in zip(*rows, strict=True)), values="NPL"))
    if expected < 1e-9:
        assert found is None
    else:
        assert found == pytest.approx(1 - (total - 1) * observed / expected)


def test_clusters_are_drawn_whole_as_many_as_there_are() -> None:
    blocks = list(cluster_weights(7, 250, seed=3))
    assert [block.shape for block in blocks] == [(100, 7), (100, 7), (50, 7)]
    drawn = np.concatenate(blocks)
    assert (drawn.sum(axis=1) == 7).all()
    assert drawn.mean() == 1.0
    assert drawn.var() == pytest.approx(6 / 7, abs=0.12)


def test_resamples_without_the_figure_are_left_out_of_its_interval() -> None:
    found = percentile_interval(np.array([np.nan, *np.linspace(0, 1, 1001)]))
    assert found is not None
    assert (found.low, found.high) == (pytest.approx(0.025), pytest.approx(0.975))
    assert percentile_interval(np.array([np.nan])) is None
