"""Intervals, tests and agreement: Wilson, bootstraps by pair and by cluster, exact McNemar, Krippendorff's α.

Outcomes are compared on the same tasks, so differences are paired: `first_N[i]` and `second_N[i]` belong to
task i. Axis letter: N tasks (or task-and-trial pairs).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist

import numpy as np

from trace_agents.errors import UsageError
from trace_agents.types import Record

CONFIDENCE = 0.95
"""Every interval that this project prints covers this share."""


class Estimate(Record):
    """A share with its Wilson score interval."""

    value: float
    """Successes over trials, in [0, 1]; 0 where there were no trials."""
    low: float
    high: float
    successes: int
    trials: int
    """0 where nothing was measured: the interval is then [0, 1]."""


class Interval(Record):
    """What covers a figure with `CONFIDENCE`."""

    low: float
    high: float


class Difference(Record):
    """A paired difference of two success rates, first minus second."""

    value: float
    """In [-1, 1]; 0.141 is +14.1 points."""
    low: float
    """Paired bootstrap percentile interval."""
    high: float
    gained: int
    """Tasks where the first succeeded and the second failed."""
    lost: int
    """Tasks where the first failed and the second succeeded."""
    p_value: float
    """Two-sided exact McNemar test on `gained` against `lost`."""
    trials: int
    """Pairs compared."""


def estimate(successes: int, trials: int, confidence: float = CONFIDENCE) -> Estimate:
    """The share `successes / trials` with its Wilson score interval.

    Raises:
        UsageError: `successes` is not within 0 and `trials`.
    """
    if not 0 <= successes <= trials:
        raise UsageError(f"cannot estimate a rate of {successes!r} successes in {trials!r} trials: give 0 <= k <= n")
    if trials == 0:
        return Estimate(value=0.0, low=0.0, high=1.0, successes=0, trials=0)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = successes / trials
    scale = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return Estimate(
        value=share,
        low=max(0.0, centre - half) if successes else 0.0,
        high=min(1.0, centre + half) if successes < trials else 1.0,
        successes=successes,
        trials=trials,
    )


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided exact McNemar p-value: a fair coin deciding `gained + lost` discordant pairs."""
    discordant = gained + lost
    tail, term = 0, 1
    for k in range(min(gained, lost) + 1):
        tail += term
        term = term * (discordant - k) // (k + 1)
    # Whole numbers until one true division: 2**discordant overflows a float beyond about 1,000 pairs.
    return min(1.0, 2 * tail / 2**discordant)


def paired_bootstrap(
    first_N: Sequence[float], second_N: Sequence[float], resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of mean(first) - mean(second), resampling tasks (pairs) with replacement.

    Deterministic in `seed`. Where the difference takes few distinct values (success is 0 or 1) resampling is
    a multinomial draw over those values, so the cost does not grow with N.
    """
    difference_N = np.asarray(first_N, dtype=float) - np.asarray(second_N, dtype=float)
    if difference_N.size == 0:
        return 0.0, 0.0
    values, counts = np.unique(difference_N, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(difference_N.size, counts / difference_N.size, size=resamples)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(draws @ values / difference_N.size, [tail, 1 - tail])
    return float(low), float(high)


def paired_difference(first_N: Sequence[bool], second_N: Sequence[bool], seed: int = 0) -> Difference:
    """The paired comparison of two success vectors over the same tasks.

    Raises:
        UsageError: the vectors differ in length, so they cannot be paired.
    """
    if len(first_N) != len(second_N):
        raise UsageError(f"cannot pair {len(first_N)} outcomes with {len(second_N)}: evaluate both on the same tasks")
    gained = sum(a and not b for a, b in zip(first_N, second_N, strict=True))
    lost = sum(b and not a for a, b in zip(first_N, second_N, strict=True))
    low, high = paired_bootstrap(first_N, second_N, seed=seed)
    return Difference(
        value=(gained - lost) / len(first_N) if first_N else 0.0,
        low=low,
        high=high,
        gained=gained,
        lost=lost,
        p_value=mcnemar(gained, lost),
        trials=len(first_N),
    )


def cluster_weights(clusters: int, resamples: int, seed: int = 0, block: int = 100) -> Iterator[np.ndarray]:
    """How often each cluster is drawn in each resample: blocks of weights_BT, float32, B at most `block`.

    Clusters are drawn whole and with replacement, as many as there are, so what belongs together stays together.
    Sums of counts below 2**24 stay exact in float32.
    """
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = rng.integers(clusters, size=(size, clusters)) + clusters * np.arange(size)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=size * clusters)
        yield weights.reshape(size, clusters).astype(np.float32)


def percentile_interval(values_B: np.ndarray) -> Interval | None:
    """The percentile interval of a bootstrap; resamples without the figure (NaN) are left out, None without any."""
    known = values_B[~np.isnan(values_B)]
    if not known.size:
        return None
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(known, [tail, 1 - tail])
    return Interval(low=float(low), high=float(high))


def krippendorff_alpha(counts_UV: np.ndarray) -> float | None:
    """Krippendorff's α for nominal values: 1 − observed over expected disagreement.

    Source: Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), section D.

    Args:
        counts_UV: how many coders gave unit u the value v; a coder who gave none is not counted. Units with fewer
            than two values say nothing about agreement and are left out.

    Returns:
        1 for perfect agreement, 0 for that of chance; None where it is not estimable, because no unit has two values
        or all values are the same.
    """
    pairable = counts_UV[counts_UV.sum(axis=1) >= 2].astype(np.float64)
    given_U, given_V = pairable.sum(axis=1), pairable.sum(axis=0)
    total = given_V.sum()
    expected = total**2 - (given_V**2).sum()
    if not expected:
        return None
    observed = ((given_U**2 - (pairable**2).sum(axis=1)) / (given_U - 1)).sum()
    return float(1 - (total - 1) * observed / expected)
