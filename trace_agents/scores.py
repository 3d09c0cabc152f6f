"""An agent's figures in an environment: pass rate, pass^k, mean reward, each with its interval, and their comparison.

Trials of one task are alike, so every interval counts tasks, not episodes. Source of pass^k: Yao et al., τ-bench
(arXiv 2406.12045), section 3: the chance that k trials of a task all succeed, C(c, k) / C(n, k) for c successes in n.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist, fmean

import numpy as np
from pydantic import Field

from trace_agents.errors import UsageError
from trace_agents.statistics import (
    CONFIDENCE,
    Interval,
    cluster_weights,
    mcnemar,
    paired_bootstrap,
    percentile_interval,
)
from trace_agents.types import Record, StopReason, Trajectory

RESAMPLES = 2_000
"""Of the bootstrap by task."""
NOT_RUN = "not_run"
"""Key of a trajectory's `info` that marks a task that cannot be played here."""
PERFECT = 1.0 - 1e-9
"""Least reward that counts as perfect."""
LEAST_TASKS = 10
"""Tasks below which a comparison has no interval: the bootstrap's covers 62–71 % of five tasks' differences, 86–90 % of
ten's, and every second one of two tasks' has no width."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the figures need of an episode, small beside its trajectory."""

    task_id: str
    trial: int
    success: bool | None
    """None where infrastructure failed, or the task was not run."""
    reward: float = 0.0
    turns: int = 0
    """Of the agent."""
    stop: StopReason | None = None
    breakdown: Mapping[str, float] = field(default_factory=dict)
    tokens: tuple[int, int] = (0, 0)
    """Read and written."""
    not_run: bool = False
    """The task cannot be played here."""
    error: str | None = None
    """Why there is no verdict, in one line."""

    @classmethod
    def of(cls, one: Trajectory | Outcome) -> Outcome:
        """The outcome of a trajectory; an outcome as it is."""
        if isinstance(one, Outcome):
            return one
        counted = one.info.get("tokens", {})
        return cls(
            task_id=one.task_id,
            trial=one.trial,
            success=one.success,
            reward=float(one.reward or 0.0),
            turns=sum(message.role == "assistant" for message in one.messages),
            stop=one.stop,
            breakdown=one.info.get("breakdown", {}),
            tokens=(int(counted.get("read", 0)), int(counted.get("written", 0))),
            not_run=bool(one.info.get(NOT_RUN)),
            error=one.error,
        )


class Mean(Record):
    """A mean over episodes, with its interval by task."""

    value: float | None
    """None where nothing was measured."""
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
    turns: float | None = None
    """Mean turns of the agent in an episode; None where nothing was measured."""
    tokens_read: int = 0
    """Tokens of all prompts, where the agent counts them."""
    tokens_written: int = 0
    """Tokens that the agent's model wrote."""
    stops: dict[str, int] = Field(default_factory=dict)
    """Why the episodes with a verdict ended -> how many."""


class Comparison(Record):
    """Two pass rates on the same tasks, first minus second, paired by task."""

    value: float
    """In [-1, 1]; 0.141 is +14.1 points."""
    low: float | None
    """Paired bootstrap percentile interval; None where it is not estimable."""
    high: float | None
    gained: int
    """Tasks that the first solves more often."""
    lost: int
    """Tasks that the second solves more often."""
    p_value: float
    """Two-sided exact sign test on `gained` against `lost`: McNemar's with one trial."""
    trials: int
    """Tasks with a verdict in both."""
    note: str = ""
    """Why there is no interval; empty where there is one."""


def score(agent: str, played: Iterable[Trajectory | Outcome]) -> Score:
    """The figures of one agent's episodes, which are gone through once."""
    outcomes = [Outcome.of(one) for one in played]
    judged = [one for one in outcomes if one.success is not None]
    not_run = sum(one.not_run for one in outcomes)
    most = max((len(values) for values in _by_task(judged, _success).values()), default=0)
    stops = [one.stop.value for one in judged if one.stop is not None]
    return Score(
        agent=agent,
        tasks=len({one.task_id for one in judged}),
        episodes=len(judged),
        infrastructure_failures=len(outcomes) - len(judged) - not_run,
        not_run=not_run,
        pass_rate=_rate(_by_task(judged, _success)),
        pass_hat=tuple(_pass_hat(judged, k) for k in range(1, most + 1)),
        reward=mean(_by_task(judged, _reward)),
        perfect=sum(one.reward >= PERFECT for one in judged),
        breakdown={
            name: mean(_by_task(judged, _part(name)))
            for name in sorted({name for one in judged for name in one.breakdown})
        },
        turns=fmean(one.turns for one in judged) if judged else None,
        tokens_read=sum(one.tokens[0] for one in outcomes),
        tokens_written=sum(one.tokens[1] for one in outcomes),
        stops={stop: stops.count(stop) for stop in sorted(set(stops))},
    )


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


def compare(first: Iterable[Trajectory | Outcome], second: Iterable[Trajectory | Outcome]) -> Comparison:
    """The difference of two pass rates, paired by task: a task counts with its mean over trials.

    Raises:
        UsageError: no task has a verdict in both.
    """
    one, other = (
        _by_task([each for each in map(Outcome.of, played) if each.success is not None], _success)
        for played in (first, second)
    )
    shared = sorted(one.keys() & other.keys())
    if not shared:
        raise UsageError("no task has a verdict in both results: compare results of the same tasks")
    first_N, second_N = ([fmean(by_task[task]) for task in shared] for by_task in (one, other))
    difference_N = [a - b for a, b in zip(first_N, second_N, strict=True)]
    note = _why_no_interval(difference_N)
    low, high = (None, None) if note else paired_bootstrap(first_N, second_N)
    gained, lost = sum(by > 0 for by in difference_N), sum(by < 0 for by in difference_N)
    return Comparison(
        value=fmean(first_N) - fmean(second_N),
        low=low,
        high=high,
        gained=gained,
        lost=lost,
        p_value=mcnemar(gained, lost),
        trials=len(shared),
        note=note,
    )


def _why_no_interval(difference_N: Sequence[float]) -> str:
    count = len(difference_N)
    if count < LEAST_TASKS:
        return f"no interval: not estimable from {count} tasks, compare {LEAST_TASKS} or more"
    if min(difference_N) == max(difference_N):
        return f"no interval: not estimable, as the difference is the same on all {count} tasks"
    return ""


def _rate(by_task: Mapping[str, Sequence[float]]) -> Mean:
    """A share of episodes with a Wilson interval for as many trials as the episodes are worth.

    Their worth is the variance of independent trials over that of the mean with whole tasks as units, between the
    number of tasks and that of episodes (Dean and Pagano 2015). With one trial of each task it is Wilson's own.
    """
    values = [value for task in by_task.values() for value in task]
    tasks, episodes = len(by_task), len(values)
    if not episodes:
        return Mean(value=None, low=0.0, high=1.0, tasks=0, episodes=0)
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


def _pass_hat(judged: Sequence[Outcome], k: int) -> Mean:
    by_task = _by_task(judged, _success)
    enough = {task: values for task, values in by_task.items() if len(values) >= k}
    hats = {task: [pass_hat(int(sum(values)), len(values), k)] for task, values in enough.items()}
    # Of pass^1 the pass rate is the same figure, with the same interval.
    return _rate(by_task) if k == 1 and len({len(values) for values in by_task.values()}) == 1 else mean(hats)


def _by_task(judged: Sequence[Outcome], value: Callable[[Outcome], float | None]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for one in judged:
        if (measured := value(one)) is not None:
            found.setdefault(one.task_id, []).append(measured)
    return found


def _success(one: Outcome) -> float:
    return float(bool(one.success))


def _reward(one: Outcome) -> float:
    return one.reward


def _part(name: str) -> Callable[[Outcome], float | None]:
    return lambda one: one.breakdown.get(name)
