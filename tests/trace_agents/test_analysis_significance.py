"""The statistics behind discovery, against hand-worked values and other implementations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2_contingency, false_discovery_control

from trace_agents.analysis.significance import (
    LACKING,
    NA,
    PRESENT,
    Counts,
    Outcomes,
    count,
    discoveries,
    explained,
    likelihood_ratio,
    permutation_p,
    permuted,
    prior_weights,
    replicated,
    shown_within,
    within_tasks,
)

PLAIN = np.zeros(1, dtype=bool)
"""One statement that is no guard."""
LETTERS = {"N": NA, "P": PRESENT, "L": LACKING}


def labels(*rows: str) -> np.ndarray:
    return np.array([[LETTERS[letter] for letter in row.replace(" ", "")] for row in rows], dtype=np.int8)


def outcomes(text: str) -> Outcomes:
    """`--+ -++`: tasks apart by spaces, `-` for a failure."""
    tasks = text.split()
    return Outcomes(
        np.array([one == "-" for task in tasks for one in task]),
        np.array([index for index, task in enumerate(tasks) for _ in task]),
    )


def counts(lf: float, ls: float, pf: float, ps: float) -> Counts:
    return Counts(*(np.array([value], dtype=float) for value in (lf, ls, pf, ps)))


def test_counts_split_labels_by_outcome() -> None:
    found = count(labels("LLP PNN", "PPP PPP"), outcomes("-+- ++-"))
    assert [list(part) for part in vars(found).values()] == [[1, 0], [1, 0], [1, 3], [1, 3]]
    assert found.delta[0] == pytest.approx(0.5 - 0.5)


def test_within_task_contrast_is_the_mantel_haenszel_statistic() -> None:
    """Two tasks of four: worked out by hand from Σ(a − E) and ΣV of the hypergeometric."""
    within = within_tasks(labels("LLPP LPPP"), outcomes("--++ -+-+"), PLAIN)
    expected = (2 - 1) + (1 - 0.5)
    variance = 2 * 2 * 2 * 2 / (16 * 3) + 1 * 3 * 2 * 2 / (16 * 3)
    assert within.z[0] == pytest.approx(expected / np.sqrt(variance))
    assert within.tasks[0] == 2


def test_a_task_where_nothing_varies_tells_nothing() -> None:
    within = within_tasks(labels("LLPP LLLL PPPP", "LLLL LLLL LLLL"), outcomes("---- -+-+ --++"), PLAIN.repeat(2))
    assert list(within.tasks) == [0, 0]
    assert list(within.z) == [0, 0]


def test_a_gap_between_tasks_alone_is_not_shown_within_tasks() -> None:
    between = labels("LLLL LLLL PPPP PPPP")
    assert not shown_within(between, outcomes("---- ---+ ++++ +++-"), PLAIN)[0]
    inside = labels("LLPP LLPP LLPP LLPP")
    assert shown_within(inside, outcomes("--++ --++ --++ --++"), PLAIN)[0]


def test_single_trials_are_not_asked_for_a_contrast_within_tasks() -> None:
    single = outcomes("- - + +")
    assert not replicated(single)
    assert replicated(outcomes("--+ -++"))
    assert shown_within(labels("LLPP"), single, PLAIN)[0]


def test_a_necessary_and_sufficient_statement_explains_the_entropy_of_the_outcomes() -> None:
    gain = explained(counts(50, 0, 0, 50))[0]
    assert gain == pytest.approx(100 * np.log(2), rel=0.02)
    assert explained(counts(25, 25, 25, 25))[0] == 0
    assert explained(counts(10, 40, 40, 10))[0] == 0, "successes lack it more often"


def test_a_statement_that_successes_often_lack_explains_little() -> None:
    often, seldom = counts(60, 29, 10, 60), counts(60, 1, 10, 60)
    assert explained(often)[0] < 0.7 * likelihood_ratio(often)[0]
    assert explained(seldom)[0] == pytest.approx(likelihood_ratio(seldom)[0], abs=0.1)


def test_a_statement_that_successes_do_without_explains_nothing() -> None:
    """Successes are rare, so that failures dominate among those that lack it; yet most successes lack it too."""
    needless = counts(190, 16, 7, 8)
    assert likelihood_ratio(needless)[0] > 5
    assert explained(needless)[0] == 0


def test_the_likelihood_ratio_is_half_the_g_statistic() -> None:
    table = [[30, 10], [12, 28]]
    (lf, ls), (pf, ps) = table
    g = chi2_contingency(table, correction=False, lambda_="log-likelihood").statistic
    assert likelihood_ratio(counts(lf, ls, pf, ps))[0] == pytest.approx(g / 2)


def test_what_a_few_tasks_show_is_not_laid_on_many_that_always_fail() -> None:
    few = labels("LLPP LLPP " + "LLLL " * 10)
    outcome = outcomes("--++ --++ " + "---- " * 10)
    within = within_tasks(few, outcome, PLAIN)
    assert within.contested[0] == pytest.approx(4 / 44)
    assert within.z[0] > 1.64
    assert not shown_within(few, outcome, PLAIN)[0]


def test_shuffles_keep_each_tasks_number_of_trials_and_the_outcomes_clusters() -> None:
    real = outcomes("---- ---- ++++ ++-+ ----")
    shuffled = permuted(real, np.random.default_rng(0))
    assert sorted(real.by_task(real.failed_T[None])[0]) == sorted(shuffled.by_task(shuffled.failed_T[None])[0])
    uneven = permuted(outcomes("-- ++++ -+-"), np.random.default_rng(0))
    assert len(uneven.failed_T) == 9


def test_permutation_p_values_count_what_chance_reaches() -> None:
    null = np.array([[1.0, 2.0], [3.0, 0.0]])
    assert list(permutation_p(np.array([2.0, 5.0, -1.0]), null)) == [3 / 5, 1 / 5, 5 / 5]


def test_discoveries_are_those_of_benjamini_and_hochberg() -> None:
    rng = np.random.default_rng(0)
    p = np.concatenate([rng.random(200), rng.random(30) * 1e-3])
    for rate in (0.01, 0.05, 0.2):
        assert np.array_equal(discoveries(p, rate, np.ones(len(p))), false_discovery_control(p) <= rate)
    assert not discoveries(np.array([]), 0.05, np.array([])).size


def test_what_is_written_down_needs_less_evidence_and_the_rest_more() -> None:
    written = np.arange(200) < 10
    weights = prior_weights(written)
    assert weights.mean() == pytest.approx(1)
    assert weights[0] == 10
    assert weights[-1] == pytest.approx(100 / 190)
    p = np.random.default_rng(1).random(200) * np.where(written, 1e-2, 1)
    expected = false_discovery_control(np.minimum(p / weights, 1)) <= 0.1
    assert np.array_equal(discoveries(p, 0.1, weights), expected)
    assert expected.any()
    for none in (np.zeros(5, dtype=bool), np.ones(5, dtype=bool), np.zeros(0, dtype=bool)):
        assert np.array_equal(prior_weights(none), np.ones(len(none)))


def test_a_trial_to_which_a_guard_does_not_apply_is_contrasted_with_those_that_did_the_deed() -> None:
    row, outcome = labels("LLNN LNNN"), outcomes("--++ -+-+")
    assert within_tasks(row, outcome, PLAIN).z[0] == 0
    assert within_tasks(row, outcome, ~PLAIN).z[0] == within_tasks(labels("LLPP LPPP"), outcome, PLAIN).z[0] > 0
