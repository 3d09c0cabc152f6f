"""An existing MCP server, a task file and a checker, as an environment."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from mcp_servers.wrapped.benchmark import Benchmark
from mcp_servers.wrapped.checker import Checker, Finished
from mcp_servers.wrapped.description import Call, TaskRow
from mcp_servers.wrapped.live import LiveServer
from mcp_servers.wrapped.provenance import provenance
from mcp_servers.wrapped.remedies import remedy
from mcp_servers.wrapped.turns import Turns
from mcp_servers.wrapped.users import User, Users
from trace_agents.calls import unknown_tool
from trace_agents.environment import Episode
from trace_agents.errors import UsageError
from trace_agents.task_list import TaskList
from trace_agents.types import Action, Evaluation, Message, TaskInstance, ToolResult, ToolSpec, UserTurn

TURN_WAIT_S = 600.0
"""Longest that an episode waits until another has ended, where few may be live at once."""


class WrappedEnvironment(TaskList):
    """The `Environment` contract over an MCP server that knows nothing of it."""

    def __init__(self, benchmark: Benchmark) -> None:
        """The environment that `benchmark` describes.

        Raises:
            UsageError: its checker cannot be imported, or its simulated user has no endpoint.
        """
        self.name = benchmark.described.name
        self.most_episodes: int | None = benchmark.described.at_once
        self._benchmark = benchmark
        self._checker = Checker(benchmark)
        self._users = Users(benchmark.rows.values())
        self._turns = Turns(benchmark.described.at_once, TURN_WAIT_S)
        self._kept: WeakKeyDictionary[asyncio.AbstractEventLoop, list[LiveServer]] = WeakKeyDictionary()
        """Servers without an episode, by the loop they are connected on; they end with it."""
        self._gold_states: dict[str, tuple[Any, ...]] = {}
        self._instances = {row.id: self._instance(row) for row in benchmark.rows.values()}
        if any(row.gold is not None for row in benchmark.rows.values()):
            # Only then, so that being a `HasOracle` is true of it.
            self.oracle = self._gold_actions

    @property
    def instances(self) -> Mapping[str, TaskInstance]:
        """The tasks by their ids, in the order of the task file."""
        return self._instances

    @property
    def provenance(self) -> Mapping[str, str]:
        """SHA-256 of the description and each file that it names, and the simulated user."""
        return {**provenance(self._benchmark), **self._users.provenance}

    async def check(self) -> None:
        """Connect to the server once, and see that what the files call fits its tools; nothing is called.

        Raises:
            UsageError: it does not. InfrastructureError: the server cannot be reached.
        """
        await self._turns.take()
        try:
            live = await LiveServer.look(self._benchmark, next(iter(self._benchmark.rows.values())))
            await live.close()
        finally:
            self._turns.give()

    def remedy(self, check: str) -> str:
        """What the author of a description and a server can change where a conformance check fails."""
        return remedy(self._benchmark.described, check)

    async def start(self, task: TaskInstance) -> WrappedEpisode:
        """A fresh episode, once one may be live.

        Raises:
            UsageError: the task is another one than the file's, or what the files call does not fit the server's tools.
            InfrastructureError: the server cannot be reached or reset, or no turn came free.
        """
        if self.task(task.id) != task:
            raise UsageError(f"task {task.id!r} differs from the one in {self._benchmark.described.tasks!r}: take that")
        row = self._benchmark.rows[task.id]
        await self._turns.take()
        live = None
        try:
            gold_state = await self._gold_state(row)
            live = await self._begin(row)
            return WrappedEpisode(self, task, live, gold_state)
        except BaseException:
            if live is not None:
                await live.close()
            self._turns.give()
            raise

    async def _begin(self, row: TaskRow) -> LiveServer:
        """A server ready for `row`: one that is kept, or a fresh one."""
        idle = self._kept.get(asyncio.get_running_loop())
        if not idle:
            return await LiveServer.begin(self._benchmark, row)
        live = idle.pop()
        await live.begin_again(row)
        return live

    async def _let_go(self, live: LiveServer) -> None:
        """Keep the server of an ended episode for the next, or close it."""
        if not self._benchmark.described.reset.keep or live.broken:
            return await live.close()
        self._kept.setdefault(asyncio.get_running_loop(), []).append(live)
        return None

    async def close(self) -> None:
        """End the servers that are kept on the running event loop."""
        for live in self._kept.pop(asyncio.get_running_loop(), []):
            await live.close()

    def _gold_actions(self, task: TaskInstance) -> Sequence[Action]:
        gold = self._benchmark.rows[self.task(task.id).id].gold
        if gold is None:
            raise UsageError(f"task {task.id!r} has no gold actions: give it 'gold' in the task file")
        return [one.action() if isinstance(one, Call) else one for one in gold]

    async def _gold_state(self, row: TaskRow) -> tuple[Any, ...] | None:
        """What is read after the gold actions, where the checker compares with that; found out once a task."""
        check = self._benchmark.described.check
        if not check.compares:
            return None
        if row.id not in self._gold_states:
            live = await self._begin(row)
            try:
                for action in row.gold or ():
                    if isinstance(action, Call):  # It may be refused: some tasks are solved by trying another way.
                        await live.call(action.name, action.arguments)
                self._gold_states[row.id] = await live.read(check.reads)
            finally:
                await self._let_go(live)
        return self._gold_states[row.id]

    def _offered(self, tools: Sequence[ToolSpec]) -> Sequence[ToolSpec]:
        return [spec for spec in tools if self._benchmark.described.tools.offers(spec.name)]

    def _instance(self, row: TaskRow) -> TaskInstance:
        return TaskInstance(
            id=row.id,
            environment=self.name,
            split=row.split,
            prompt=row.prompt,
            capabilities=row.capabilities,
            data=row.model_dump(mode="json", include={"replies", "user", "setup", "snapshot", "gold", "data"}),
        )

    def _policy(self, live: LiveServer) -> str:
        described = self._benchmark.described
        if not described.policy:
            return live.instructions
        return self._benchmark.file("policy", described.policy).read_text(encoding="utf-8")


class WrappedEpisode(Episode):
    """One task on one connection to the server."""

    def __init__(
        self,
        environment: WrappedEnvironment,
        task: TaskInstance,
        live: LiveServer,
        gold_state: tuple[Any, ...] | None,
    ) -> None:
        self.task = task
        self.tools = environment._offered(live.tools)
        self._offered = [spec.name for spec in self.tools]
        self.policy = environment._policy(live)
        self._environment = environment
        self._live = live
        self._gold_state = gold_state
        self._user: User = environment._users.of(live.row)
        self._closed = False

    async def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        """The server's answer; a tool that is not offered never reaches it."""
        if name not in self._offered:
            return unknown_tool(name, self._offered)
        return await self._live.call(name, arguments)

    async def user_turn(self, message: str) -> UserTurn:
        """The simulated user's answer."""
        return await self._user.hear(message)

    async def evaluate(self, messages: Sequence[Message]) -> Evaluation:
        """The checker's verdict."""
        state = await self._live.read(self._environment._benchmark.described.check.reads)
        row = self._live.row
        finished = Finished(task=row, messages=tuple(messages), state=state, folder=self._live.folder)
        return await self._environment._checker.judge(finished, self._gold_state)

    async def close(self) -> None:
        """Let the server go, and give the turn back. Idempotent."""
        if self._closed:
            return
        self._closed = True
        try:
            await self._environment._let_go(self._live)
        finally:
            self._environment._turns.give()


def load(path: Path | str) -> WrappedEnvironment:
    """The environment that the TOML file at `path` describes: an existing MCP server, its tasks and its checker.

    Raises:
        UsageError: a file is missing, a key is unknown, a value is wrong, or a task cannot be judged.
    """
    return WrappedEnvironment(Benchmark.read(Path(path)))
