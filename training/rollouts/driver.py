"""Sampling trajectories: an agent that is a model endpoint plays episodes of any environment over MCP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import verifiers.v1 as vf

from trace_agents.endpoint import Sampler
from trace_agents.environment import at_once
from trace_agents.types import TaskInstance
from training.chat import ChatFormat
from training.rollouts.config import RolloutConfig
from training.rollouts.player import EpisodeSource, Player
from training.rollouts.record import TraceRecorder, agent_info
from training.rollouts.tasks import EpisodeTrace, environment_task

OnTrace = Callable[[EpisodeTrace], None]
"""Told of each finished rollout, in the order of their ends."""


async def collect(
    environment: EpisodeSource,
    tasks: Sequence[TaskInstance],
    endpoint: Sampler,
    chat: ChatFormat,
    config: RolloutConfig,
    on_trace: OnTrace | None = None,
) -> list[EpisodeTrace]:
    """Sample `config.trials` rollouts of each task; the result is in the order of tasks, then trials.

    A rollout that infrastructure failed in every attempt is in the result with `ok` False and its `errors`.

    Raises:
        UsageError: bad input, such as an unknown model name; the rollouts under way are given up.
    """
    pairs = [(task, trial) for task in tasks for trial in range(config.trials)]
    return await collect_trials(environment, pairs, endpoint, chat, config, on_trace)


async def collect_trials(
    environment: EpisodeSource,
    pairs: Sequence[tuple[TaskInstance, int]],
    endpoint: Sampler,
    chat: ChatFormat,
    config: RolloutConfig,
    on_trace: OnTrace | None = None,
) -> list[EpisodeTrace]:
    """`collect` for chosen (task, trial) pairs, such as those that a killed run had left to do."""
    gate = asyncio.Semaphore(at_once(environment, config.concurrency))

    async def one(task: TaskInstance, trial: int) -> EpisodeTrace:
        async with gate:
            trace = await rollout(environment, task, endpoint, chat, config, trial)
        if on_trace is not None:
            on_trace(trace)
        return trace

    failure: Exception | None = None
    try:
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(one(task, trial)) for task, trial in pairs]
    except* Exception as failures:
        failure = failures.exceptions[0]
    if failure is not None:
        raise failure
    return [task.result() for task in running]


async def rollout(
    environment: EpisodeSource,
    task: TaskInstance,
    endpoint: Sampler,
    chat: ChatFormat,
    config: RolloutConfig,
    trial: int = 0,
) -> EpisodeTrace:
    """Sample one trajectory of `task`, in as many attempts as infrastructure needs and `config.retries` allows.

    The trace's messages and tokens are the last attempt's; its `errors` are those of all attempts.

    Raises:
        UsageError: bad input, such as an unknown model name.
    """
    agent = agent_info(config.models.get(task.id, config.model), config.sampling, config.max_turns)
    errors: list[vf.Error] = []
    for attempt in range(config.retries + 1):
        recorder = TraceRecorder(environment_task(task), agent, trial, attempt)
        trace = await Player(endpoint, chat, config, recorder).run(environment, task)
        trace.errors = errors = [*errors, *trace.errors]
        if trace.ok:
            break
    return trace
