"""Evidence with the difficulty of tasks allowed for, against the beta-binomial distribution of scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import betabinom

from trace_agents.analysis.hardness import beyond_difficulty, evidence
from trace_agents.analysis.significance import LACKING, PRESENT, SLACK, Outcomes, count, explained

PLAIN = np.zeros(1, dtype=bool)


def dealt(lacking: list[str], failed: list[str]) -> tuple[np.ndarray, Outcomes]:
    """A statement's labels (`L`, `P`) and the outcomes (`-`, `+`), a string for each task."""
    codes = [LACKING if one == "L" else PRESENT for one in "".join(lacking)]
    tasks = [task for task, trials in enumerate(failed) for _ in trials]
    outcomes = Outcomes(np.array([one == "-" for one in "".join(failed)]), np.array(tasks))
    return np.array([codes], dtype=np.int8), outcomes


def likelihood(failed: int, trials: int, rate: float, spread: float) -> float:
    """Log-likelihood of one order of outcomes of a task, its rate drawn from a beta distribution."""
    ways = betabinom(trials, rate * spread, (1 - rate) * spread).logpmf(failed)
    return float(ways - np.log(float(np.prod([(trials - i) / (i + 1) for i in range(failed)]))))


def test_the_gain_is_that_of_scipys_beta_binomial() -> None:
    lacking, failed = ["LLPP", "LPPP", "PPPP", "PPPP"], ["--++", "-+++", "----", "++++"]
    labels, outcomes = dealt(lacking, failed)
    rate = sum(one.count("-") for one in failed) / 16
    spreads = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 64.0)
    best = max(spreads, key=lambda spread: sum(likelihood(one.count("-"), 4, rate, spread) for one in failed))
    expected = 0.0
    for labelled, outcome in zip(lacking, failed, strict=True):
        if "L" in labelled:
            bad, n = outcome.count("-"), labelled.count("L")
            decided = n * np.log(0.95) + likelihood(bad - n, 4 - n, rate, best)
            gain = decided - likelihood(bad, 4, rate, best)
            expected += np.logaddexp(np.log(1 - SLACK) + gain, np.log(SLACK))
    assert beyond_difficulty(labels, outcomes, PLAIN)[0] == pytest.approx(expected)


def test_tasks_that_always_fail_lend_a_statement_little_evidence() -> None:
    hard, outcomes = dealt(["LLLL"] * 4 + ["PPPP"] * 4, ["----"] * 4 + ["++++"] * 4)
    told, mixed = dealt(["LLPP"] * 8, ["--++"] * 8)
    assert count(hard, outcomes).lacking_failed == count(told, mixed).lacking_failed == 16
    assert explained(count(hard, outcomes)) == explained(count(told, mixed))
    assert evidence(hard, outcomes, PLAIN)[0] < 0.3 * evidence(told, mixed, PLAIN)[0]


def test_successes_that_lack_it_count_against_a_statement_once_a_task() -> None:
    good, outcomes = dealt(["LLPP"] * 6, ["--++"] * 6)
    spoilt, other = dealt(["LLPP"] * 6 + ["LLLL"], ["--++"] * 6 + ["++++"])
    less = evidence(good, outcomes, PLAIN)[0] - evidence(spoilt, other, PLAIN)[0]
    assert 0 < less < 4


def test_single_trials_are_told_apart_as_they_are() -> None:
    labels, outcomes = dealt(["L", "L", "L", "P", "P", "P"], ["-", "-", "-", "+", "+", "+"])
    assert evidence(labels, outcomes, PLAIN)[0] == explained(count(labels, outcomes))[0] > 0
