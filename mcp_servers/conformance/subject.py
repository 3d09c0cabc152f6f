"""The environment under examination: the tasks that are played, and the same environment served by other processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cached_property

from mcp import StdioServerParameters

from mcp_servers.conformance.findings import Fault, Skip, shown
from mcp_servers.guard import GuardedEpisode
from mcp_servers.remote import RemoteEnvironment
from trace_agents.environment import Environment, HasOracle, at_once
from trace_agents.errors import TaskUnavailable, UsageError
from trace_agents.types import Action, TaskInstance

SERVING = re.compile(r"^serving .* on (http://\S+)")
STARTUP_S = 120.0
"""Seconds that a process may take until it serves."""


@dataclass(frozen=True)
class Options:
    """How thoroughly an environment is examined."""

    tasks: int = 8
    """Task instances that are played, spread over splits and seeds."""
    episodes: int = 64
    """Episodes that are interleaved."""
    quick: bool = False
    """Leave out what starts processes: HTTP, stdio, and comparison across processes."""
    timeout_s: float = 600.0
    """Seconds that one check may take."""

    def __post_init__(self) -> None:
        for name in ("tasks", "episodes"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} {getattr(self, name)!r} is too small: give 1 or more")


class Subject:
    """One environment, examined."""

    def __init__(self, spec: str, environment: Environment, options: Options) -> None:
        """Examine `environment`, which other processes load as `spec`."""
        self.spec = spec
        self.environment = environment
        self.options = options
        self._processes = AsyncExitStack()
        self._served: RemoteEnvironment | None = None
        self.url = ""
        """Where `served` serves; empty before."""
        self.unavailable: dict[str, str] = {}
        """Task that cannot be played here -> why, of those that were chosen first; others took their place."""

    async def close(self) -> None:
        """End the processes that were started."""
        await self._processes.aclose()

    async def leave_out_unavailable(self) -> None:
        """Find what cannot be played here, for want of a key say, before `tasks` are chosen."""
        lost = True
        while lost:
            try:
                picked = self._picked()
            except (Exception, SystemExit):  # Its task lists are at fault, which a check says.
                return
            lost = False
            for task in picked:
                try:
                    await (await self.environment.start(task)).close()
                except TaskUnavailable as error:
                    self.unavailable[task.id], lost = str(error), True
                except (Exception, SystemExit):  # The checks say what is wrong with its episodes.
                    continue

    @cached_property
    def tasks(self) -> Sequence[TaskInstance]:
        """The tasks that are played: spread evenly over every split, each in its own, and the first seeds."""
        found = self._picked()
        if not found and self.unavailable:
            raise Fault("no task can be played here", f"see what they want: {next(iter(self.unavailable.values()))}")
        if not found:
            raise Fault("there is no task: every split is empty, and no seed gives one", "give the environment tasks")
        return found

    def _picked(self) -> Sequence[TaskInstance]:
        environment, splits = self.environment, list(self.environment.splits)
        lists = [
            [task for task in environment.tasks(split) if task.split == split or task.split not in splits]
            for split in splits
        ]
        share = -(-self.options.tasks // (len(lists) + 1))
        with contextlib.suppress(UsageError):  # An environment of fixed tasks only.
            lists.append([environment.generate(seed) for seed in range(share if lists else self.options.tasks)])
        playable = [[task for task in tasks if task.id not in self.unavailable] for tasks in lists]
        return list(_spread([one for one in playable if one], self.options.tasks))

    def gold(self, task: TaskInstance) -> Sequence[Action] | None:
        """The gold actions of `task`; None where there are none."""
        if not isinstance(self.environment, HasOracle):
            return None
        try:
            return tuple(self.environment.oracle(task))
        except UsageError:
            return None

    @property
    def at_once(self) -> int:
        """Most episodes that may be live together."""
        return at_once(self.environment, self.options.episodes)

    @asynccontextmanager
    async def episode(
        self, task: TaskInstance, environment: Environment | None = None
    ) -> AsyncIterator[GuardedEpisode]:
        """A fresh episode as it is served, closed at the end."""
        episode = GuardedEpisode.of(await (environment or self.environment).start(task))
        try:
            yield episode
        finally:
            await episode.close()

    async def served(self) -> RemoteEnvironment:
        """The environment served over HTTP by a process of its own; started once.

        Raises:
            Skip: processes are left out.
        """
        self.need_processes()
        if self._served is None:
            self.url = await self._processes.enter_async_context(_serving(self.spec))
            self._served = await asyncio.to_thread(RemoteEnvironment, self.url)
        return self._served

    def need_processes(self) -> None:
        """Skip the check where no process may be started."""
        if self.options.quick:
            raise Skip("left out by --quick: it starts processes")

    def stdio(self, task: TaskInstance) -> StdioServerParameters:
        """A process that serves an episode of `task` over standard input and output."""
        arguments = [*_COMMAND[1:], "serve", self.spec, "--stdio", "--task", task.id]
        return StdioServerParameters(command=_COMMAND[0], args=arguments, env=_surroundings())


_COMMAND = (sys.executable, "-m", "trace_agents.cli")


def _surroundings() -> dict[str, str]:
    """This process's variables, and its import path, so that a `module:Class` is found there as it was here."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


@asynccontextmanager
async def _serving(spec: str) -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        *_COMMAND, "serve", spec, "--port", "0", stderr=asyncio.subprocess.PIPE, env=_surroundings()
    )
    assert process.stderr is not None
    said: list[str] = []
    draining: asyncio.Task[None] | None = None
    remedy = f"see what 'trace-agents serve {spec}' says"
    try:
        async with asyncio.timeout(STARTUP_S) as limit:
            while line := (await process.stderr.readline()).decode(errors="replace"):
                said.append(line.rstrip())
                if found := SERVING.match(line):
                    break
            else:
                raise Fault(f"the process that serves it over HTTP ended: {shown(' '.join(said))}", remedy)
        draining = asyncio.create_task(_drain(process.stderr))
        yield found[1]
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise Fault(f"the process that serves it over HTTP does not answer after {STARTUP_S:g} s", remedy) from error
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        if draining is not None:
            await draining


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(65536):
        pass


def _spread(lists: Sequence[Sequence[TaskInstance]], wanted: int) -> Iterator[TaskInstance]:
    """Up to `wanted` tasks, taken in turns from all lists, evenly over each."""
    left = wanted
    picked = []
    for position, tasks in enumerate(lists):
        share = min(len(tasks), -(-left // (len(lists) - position)))
        left -= share
        picked.append([tasks[index * len(tasks) // share] for index in range(share)] if share else [])
    for row in range(max(map(len, picked), default=0)):
        yield from (tasks[row] for tasks in picked if row < len(tasks))
