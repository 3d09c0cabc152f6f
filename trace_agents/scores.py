"""An agent's figures in an environment: pass rate, pass^k, mean reward, each with its interval, and their comparison.

Trials of one task are alike, so every interval counts tasks, not episodes. Source of pass^k: Yao et al., τ-bench
(arXiv 2406.12045), section 3: the chance that k trials of a task all succeed, C(c, k) / C(n, k) for c successes in n.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist, fmean

import numpy as np
from pydantic import Field

from trace_agents.errors import UsageError
from trace_agents.statistics import (
    CONFIDENCE,
    Difference,
    Interval,
    cluster_weights,
    mcnemar,
    paired_bootstrap,
    percentile_interval,
)
from trace_agents.types import Record, Trajectory

RESAMPLES = 2_000
"""Of the bootstrap by task."""
NOT_RUN = "not_run"
"""Key of a trajectory's `info` that marks a task that cannot be played here."""
PERFECT = 1.0 - 1e-9
"""Least reward that counts as perfect."""


class Mean(Record):
    """A mean over episodes, with its interval by task."""

    value: float
    """0 where nothing was measured."""
    low: float
    high: float
    tasks: int
    episodes: int


class Score(Record):
    """What an agent reached on some tasks."""

    agent: str
    tasks: int
    """Tasks with at least one verdict."""
    episodes: int
    """Episodes with a verdict."""
    infrastructure_failures: int
    """Episodes without one, even after retries; they are in no other figure."""
    not_run: int = 0
    """Episodes of tasks that cannot be played here, for want of a key say; they are in no other figure."""
    pass_rate: Mean
    """Share of the episodes that succeeded."""
    pass_hat: tuple[Mean, ...] = ()
    """pass^k for k = 1, 2, ...; a task with fewer than k verdicts is left out of it."""
    reward: Mean
    """Mean reward: on ToolSandbox, mean similarity."""
    perfect: int
    """Episodes with a reward of 1."""
    breakdown: dict[str, Mean] = Field(default_factory=dict)
    """Means of the reward's named parts, over the episodes that have them."""
    turns: float = 0.0
    """Mean turns of the agent in an episode."""
    tokens_read: int = 0
    """Tokens of all prompts, where the agent counts them."""
    tokens_written: int = 0
    """Tokens that the agent's model wrote."""
    stops: dict[str, int] = Field(default_factory=dict)
    """Why the episodes with a verdict ended -> how many."""


def score(agent: str, trajectories: Sequence[Trajectory]) -> Score:
    """The figures of one agent's trajectories."""
    judged = [one for one in trajectories if one.success is not None]
    not_run = sum(bool(one.info.get(NOT_RUN)) for one in trajectories)
    most = max((len(values) for values in _by_task(judged, _success).values()), default=0)
    parts = {name for one in judged for name in one.info.get("breakdown", {})}
    stops = [one.stop.value for one in judged if one.stop is not None]
    return Score(
        agent=agent,
        tasks=len({one.task_id for one in judged}),
        episodes=len(judged),
        infrastructure_failures=len(trajectories) - len(judged) - not_run,
        not_run=not_run,
        pass_rate=_rate(_by_task(judged, _success)),
        pass_hat=tuple(_pass_hat(judged, k) for k in range(1, most + 1)),
        reward=mean(_by_task(judged, _reward)),
        perfect=sum(_reward(one) >= PERFECT for one in judged),
        breakdown={name: mean(_by_task(judged, _part(name))) for name in sorted(parts)},
        turns=fmean(map(turns, judged)) if judged else 0.0,
        tokens_read=sum(_tokens(one, "read") for one in trajectories),
        tokens_written=sum(_tokens(one, "written") for one in trajectories),
        stops={stop: stops.count(stop) for stop in sorted(set(stops))},
    )


def turns(trajectory: Trajectory) -> int:
    """Turns of the agent."""
    return sum(message.role == "assistant" for message in trajectory.messages)


def pass_hat(successes: int, trials: int, k: int) -> float:
    """pass^k of a task, without bias: the share of its k-subsets of trials that all succeeded.

    Raises:
        UsageError: not 1 <= k <= trials, or not 0 <= successes <= trials.
    """
    if not 1 <= k <= trials or not 0 <= successes <= trials:
        raise UsageError(f"pass^{k} of {successes!r} successes in {trials!r} trials: give 1 <= k and k, c <= n")
    return math.comb(successes, k) / math.comb(trials, k)


def mean(by_task: Mapping[str, Sequence[float]]) -> Mean:
    """The mean over episodes of values in [0, 1]; the interval is a bootstrap of whole tasks.

    Where all values are alike a bootstrap has nothing to draw from: the interval is then a rate's.
    """
    values = [value for task in by_task.values() for value in task]
    if not values or min(values) == max(values):
        return _rate(by_task)
    sums = np.array([sum(task) for task in by_task.values()], dtype=np.float64)
    counts = np.array([len(task) for task in by_task.values()], dtype=np.float64)
    drawn = [weights @ sums / (weights @ counts) for weights in cluster_weights(len(sums), RESAMPLES)]
    interval = percentile_interval(np.concatenate(drawn)) or Interval(low=0.0, high=1.0)
    return Mean(value=fmean(values), low=interval.low, high=interval.high, tasks=len(by_task), episodes=len(values))


def compare(first: Sequence[Trajectory], second: Sequence[Trajectory]) -> Difference:
    """The difference of two pass rates, paired by task: a task counts with its mean over trials.

    `gained` and `lost` are tasks that the first, or the second, solves more often, and the p-value is the exact sign
    test on them: with one trial McNemar's.

    Raises:
        UsageError: no task has a verdict in both.
    """
    one, other = (
        _by_task([each for each in each_of if each.success is not None], _success) for each_of in (first, second)
    )
    shared = sorted(one.keys() & other.keys())
    if not shared:
        raise UsageError("no task has a verdict in both results: compare results of the same tasks")
    first_N, second_N = ([fmean(by_task[task]) for task in shared] for by_task in (one, other))
    low, high = paired_bootstrap(first_N, second_N)
    gained = sum(a > b for a, b in zip(first_N, second_N, strict=True))
    lost = sum(b > a for a, b in zip(first_N, second_N, strict=True))
    return Difference(
        value=fmean(first_N) - fmean(second_N),
        low=low,
        high=high,
        gained=gained,
        lost=lost,
        p_value=mcnemar(gained, lost),
        trials=len(shared),
    )


def _rate(by_task: Mapping[str, Sequence[float]]) -> Mean:
    """A share of episodes with a Wilson interval for as many trials as the episodes are worth.

    Their worth is the variance of independent trials over that of the mean with whole tasks as units, between the
    number of tasks and that of episodes (Dean and Pagano 2015). With one trial of each task it is Wilson's own.
    """
    values = [value for task in by_task.values() for value in task]
    tasks, episodes = len(by_task), len(values)
    if not episodes:
        return Mean(value=0.0, low=0.0, high=1.0, tasks=0, episodes=0)
    share = fmean(values)
    spread = share * (1 - share)
    worth = float(tasks)
    if spread and tasks > 1:
        off = [sum(task) - share * len(task) for task in by_task.values()]
        variance = tasks / (tasks - 1) * sum(one * one for one in off) / episodes**2
        worth = min(max(spread / variance, tasks), episodes) if variance else float(episodes)
    z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    scale = 1 + z * z / worth
    centre = (share + z * z / (2 * worth)) / scale
    half = z / scale * math.sqrt(spread / worth + z * z / (4 * worth * worth))
    low = max(0.0, centre - half) if share > 0 else 0.0
    high = min(1.0, centre + half) if share < 1 else 1.0
    return Mean(value=share, low=low, high=high, tasks=tasks, episodes=episodes)


def _pass_hat(judged: Sequence[Trajectory], k: int) -> Mean:
    by_task = _by_task(judged, _success)
    enough = {task: values for task, values in by_task.items() if len(values) >= k}
    hats = {task: [pass_hat(int(sum(values)), len(values), k)] for task, values in enough.items()}
    # Of pass^1 the pass rate is the same figure, with the same interval.
    return _rate(by_task) if k == 1 and len({len(values) for values in by_task.values()}) == 1 else mean(hats)


def _by_task(judged: Sequence[Trajectory], value: Callable[[Trajectory], float | None]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for one in judged:
        if (measured := value(one)) is not None:
            found.setdefault(one.task_id, []).append(measured)
    return found


def _success(one: Trajectory) -> float:
    return float(bool(one.success))


def _reward(one: Trajectory) -> float:
    return float(one.reward or 0.0)


def _part(name: str) -> Callable[[Trajectory], float | None]:
    return lambda one: one.info.get("breakdown", {}).get(name)


def _tokens(one: Trajectory, kind: str) -> int:
    return int(one.info.get("tokens", {}).get(kind, 0))
