"""An episode that is a rollout of verifiers', played by an agent outside."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import verifiers.v1 as vf

from trace_agents.calls import unknown_tool
from trace_agents.environment import Episode
from trace_agents.errors import InfrastructureError, UsageError
from trace_agents.types import Evaluation, Message, TaskInstance, ToolCall, ToolResult, ToolSpec, UserTurn
from training.taskset_environment.conversation import Conversation
from training.taskset_environment.seat import Seat, StateServer
from training.taskset_environment.servers import ForkingRuntime, SharedServers
from training.taskset_environment.traces import TokensUnavailable

SLACK = 1e-9
"""By which sums of weights miss what they should be."""


@dataclass(frozen=True)
class Table:
    """What the episodes of one environment have in common."""

    modules: frozenset[str]
    """Modules that hold toolsets which run on this machine."""
    shared: SharedServers
    success: float
    """Least reward of a success."""


class TasksetEpisode(Episode):
    """One task instance, live."""

    def __init__(self, task: TaskInstance, env: vf.Env, table: Table) -> None:
        """An episode that has not begun."""
        self.task = task
        self.tools: Sequence[ToolSpec] = ()
        self.policy = ""
        self._env, self._table = env, table
        self._conversation = Conversation()
        self._over = False
        self._calls = 0
        self._verdict: Evaluation | None = None
        self._trace: vf.Trace | None = None
        self._running: asyncio.Task[None] | None = None

    async def begin(self, task: vf.Task) -> None:
        """Set the task up, start its tool servers, and hear the user's first message.

        Raises:
            TaskUnavailable: the task needs what is not here. InfrastructureError: it could not be set up.
        """
        self._running = asyncio.create_task(self._play(task))
        try:
            said = await self._heard()
        except BaseException:
            await self.close()
            raise
        if said is None:
            await self.close()
            raise InfrastructureError(f"the user of task {self.task.id!r} said nothing")
        self.task = self.task.model_copy(update={"prompt": said})
        self.tools, self.policy = self._conversation.tools, self._conversation.policy

    async def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        """Run a tool on its server."""
        names = [spec.name for spec in self.tools]
        if name not in names:
            return unknown_tool(name, names)
        if self._verdict is not None or self._conversation.call is None:
            raise UsageError(f"the episode of task {self.task.id!r} has been judged: start a new one")
        result = await self._conversation.call(name, arguments)
        self._calls += 1
        call = ToolCall(id=f"call_{self._calls}", name=name, arguments=dict(arguments))
        self._conversation.acted(call, result)
        return result

    async def user_turn(self, message: str) -> UserTurn:
        """What the taskset's user says to it; nothing where it has none."""
        if self._over:
            return UserTurn()
        self._conversation.say(message)
        said = await self._heard()
        self._over = said is None
        return UserTurn(content=said)

    async def evaluate(self, messages: Sequence[Message]) -> Evaluation:
        """The verdict of the task's rewards. The first one stands: the tool servers end with it.

        Raises:
            UsageError: the reward is outside [0, 1]. InfrastructureError: a reward could not be computed.
        """
        if self._verdict is None:
            self._over = True
            self._conversation.judge(messages)
            assert self._running is not None
            await asyncio.wait([self._running])  # A time-out of the asker's is not the rollout's.
            self._running.result()
            assert self._trace is not None
            self._verdict = verdict(self._trace, self.task, self._table.success)
        return self._verdict

    async def record(self, messages: Sequence[Message]) -> Mapping[str, Any]:
        """The trace, as verifiers writes it."""
        assert self._trace is not None
        return self._trace.to_record()

    async def close(self) -> None:
        """End the rollout. Idempotent."""
        self._conversation.abandon()
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])
            if not self._running.cancelled():
                self._running.exception()  # Told already, or of no use any more.

    async def _heard(self) -> str | None:
        """What the user says next.

        Raises:
            UsageError, InfrastructureError: the rollout failed before.
        """
        assert self._running is not None
        hearing = asyncio.ensure_future(self._conversation.heard())
        try:
            await asyncio.wait({hearing, self._running}, return_when=asyncio.FIRST_COMPLETED)
            if not hearing.done():
                self._running.result()
                return None
            return hearing.result()
        finally:
            hearing.cancel()

    async def _play(self, task: vf.Task) -> None:
        """The rollout.

        Raises:
            UsageError: bad input. InfrastructureError: anything else.
        """
        try:
            await self._run(task)
        except (UsageError, InfrastructureError):
            raise
        except Exception as error:
            message = f"task {self.task.id!r} of {self.task.environment!r} failed: {type(error).__name__}: {error}"
            raise InfrastructureError(message) from error

    async def _run(self, task: vf.Task) -> None:
        """The rollout, as the taskset's own environment runs it."""
        env = self._env
        async with self._agents(task) as (agents, seat):
            await env.setup(agents)
            await env.run(task, agents)
            traces = seat.completed
            if not traces:
                raise InfrastructureError(
                    f"the environment {type(env).__name__!r} of task {self.task.id!r} ran no agent"
                )
            self._check(traces[0])
            told = vf.TraceTask(type=type(task).__name__, data=task.data, key=task.key, hash=task.hash)
            await env.finalize(task, vf.Episode(env=vf.EnvInfo(id=env.config.env_id), task=told, traces=traces))
            self._trace = traces[0]

    @asynccontextmanager
    async def _agents(self, task: vf.Task) -> AsyncIterator[tuple[vf.Agents, Seat]]:
        """The environment's agents, of which there is one, and what it plays with."""
        shared = await asyncio.to_thread(self._table.shared.serve)
        runtime = ForkingRuntime(self._table.modules)
        state = StateServer(state_service_secrets=[one.state_secret for one in shared.values() if one.state_secret])
        runtime.env = dict(task.runtime_env())
        try:
            await runtime.start()
            async with state:
                seat = Seat(self._conversation, runtime, state, shared, type(self._env.taskset).task_type())
                yield vf.Agents(self._env.config, lambda name, spec: seat), seat
        finally:
            await runtime.stop()

    def _check(self, trace: vf.Trace) -> None:
        """Raise what has kept the rollout from its verdict."""
        if trace.ok:
            return
        last = trace.last_error
        if last is not None and last.type == TokensUnavailable.__name__:
            raise UsageError(f"task {self.task.id!r} of {self.task.environment!r}: {last.message}")
        said = "it did not end" if last is None else f"{last.type}: {last.message}"
        raise InfrastructureError(f"task {self.task.id!r} of {self.task.environment!r} failed: {said}")


def verdict(trace: vf.Trace, task: TaskInstance, success: float) -> Evaluation:
    """The evaluation that a scored trace holds.

    Raises:
        UsageError: its reward is outside [0, 1].
    """
    reward = trace.reward
    if not -SLACK <= reward <= 1 + SLACK:  # NaN too.
        parts = ", ".join(f"{name} {one.score:g} × {one.weight:g}" for name, one in trace.rewards.items() if one)
        raise UsageError(
            f"task {task.id!r} is rewarded with {reward!r} ({parts}): rewards are in [0, 1] here; set weights, as in "
            f"'{task.environment}{'&' if '?' in task.environment else '?'}task.rewards.NAME.weight=0.5'"
        )
    named = {name: one.score for name, one in trace.rewards.items() if one is not None}
    named |= {name: value for name, value in trace.metrics.items() if value is not None}
    breakdown = {name: value for name, value in named.items() if math.isfinite(value) and 0.0 <= value <= 1.0}
    return Evaluation(reward=min(max(reward, 0.0), 1.0), success=reward >= success - SLACK, breakdown=breakdown)
