"""The live episodes of one environment: created by task, found by id, expired when idle."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from mcp_servers.guard import GuardedEpisode, failing
from mcp_servers.user_tool import TalkingEpisode, UserTool
from mcp_servers.wire import (
    ControlError,
    EnvironmentInfo,
    EpisodeInfo,
    GoldActions,
    PageChoice,
    ProblemCode,
    ResultFiles,
    TaskChoice,
    TaskPage,
)
from trace_agents.environment import (
    Closes,
    Environment,
    HasOracle,
    HasProvenance,
    KeepsRecord,
    PlaysFew,
    ResultsRequest,
    WritesResults,
)
from trace_agents.errors import TaskUnavailable, UsageError
from trace_agents.types import TaskInstance

logger = logging.getLogger(__name__)

REMEMBERED = 10_000
"""Ended episodes whose end is still told apart from an id that never existed."""


@dataclass(frozen=True)
class Limits:
    """How long episodes live, and how many."""

    max_episodes: int = 256
    """Live episodes at once."""
    idle_timeout_s: float | None = 900.0
    """Seconds without a call after which an episode expires; None where it lives as long as the server."""
    spare_s: float = 60.0
    """At the maximum, a new episode takes the place of the longest idle one, if that is idle at least this long."""

    def __post_init__(self) -> None:
        if self.max_episodes < 1:
            raise UsageError(f"max_episodes {self.max_episodes!r} is too small: give 1 or more")
        if self.idle_timeout_s is not None and self.idle_timeout_s <= 0:
            raise UsageError(f"idle_timeout_s {self.idle_timeout_s!r} is not a time: give a positive number of seconds")


@dataclass
class LiveEpisode:
    """An episode in the table."""

    id: str
    guarded: GuardedEpisode
    used_at: float
    """Clock reading of the last call."""
    talking: TalkingEpisode | None = None
    """The episode that has the user as a tool; None where it has not."""


class EpisodeTable:
    """The episodes of `environment`, keyed by id and never by connection."""

    def __init__(
        self,
        environment: Environment,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
        mcp_path: str | None = None,
        user_tool: UserTool | None = None,
    ) -> None:
        """A table without episodes.

        Args:
            environment: what the episodes play.
            limits: how long episodes live, and how many.
            clock: seconds, for idle time-outs.
            mcp_path: path of an episode's own MCP endpoint, with `{id}`; None where there is no HTTP.
            user_tool: that agents reach the user by a tool; None where their host speaks for them.
        """
        self.environment = environment
        self.limits = limits or Limits()
        self._mcp_path = mcp_path
        self._user_tool = user_tool
        self._clock = clock
        self._live: OrderedDict[str, LiveEpisode] = OrderedDict()  # Longest unused first.
        self._gone: OrderedDict[str, str] = OrderedDict()  # Id → why it ended.
        self._starting = 0

    def __len__(self) -> int:
        return len(self._live)

    def describe(self) -> EnvironmentInfo:
        """The environment's name and splits, and what it is made from."""
        known = self.environment.provenance if isinstance(self.environment, HasProvenance) else {}
        return EnvironmentInfo(
            name=self.environment.name,
            splits=dict(self.environment.splits),
            provenance=dict(known),
            oracle=isinstance(self.environment, HasOracle),
            results=isinstance(self.environment, WritesResults),
            most_episodes=self.environment.most_episodes if isinstance(self.environment, PlaysFew) else None,
        )

    def page(self, page: PageChoice) -> TaskPage:
        """A slice of a split."""
        tasks = self._tasks(page.split)
        listed = tuple(tasks[page.offset : page.offset + page.limit])
        return TaskPage(split=page.split, total=len(tasks), offset=page.offset, tasks=listed)

    def choose(self, choice: TaskChoice) -> TaskInstance:
        """The task instance of `choice`."""
        if choice.split is not None and choice.index is not None:
            tasks = self._tasks(choice.split)
            if choice.index >= len(tasks):
                message = f"index {choice.index!r} is outside split {choice.split!r}: it has {len(tasks)} tasks, from 0"
                raise ControlError(ProblemCode.UNKNOWN_TASK, message)
            return tasks[choice.index]
        try:
            if choice.seed is not None:
                return self.environment.generate(choice.seed)
            return self.environment.task(choice.task_id or "")
        except UsageError as error:
            raise ControlError(ProblemCode.UNKNOWN_TASK, str(error)) from error

    def oracle(self, choice: TaskChoice) -> GoldActions:
        """The gold actions of the task of `choice`.

        Raises:
            ControlError: no such task, or it cannot be played. UsageError: the environment, or this task, has none.
        """
        task, environment = self.choose(choice), self.environment
        if not isinstance(environment, HasOracle):
            raise UsageError(f"environment {environment.name!r} has no gold actions for task {task.id!r}")
        try:
            return GoldActions(actions=tuple(environment.oracle(task)))
        except TaskUnavailable as error:
            raise ControlError(ProblemCode.TASK_UNAVAILABLE, str(error)) from error

    async def results(self, request: ResultsRequest) -> ResultFiles:
        """The evaluation `request` in the benchmark's own format; written on a thread, as it may be long.

        Raises:
            UsageError: the environment has no such format. InfrastructureError: it failed.
        """
        environment = self.environment
        if not isinstance(environment, WritesResults):
            raise UsageError(f"environment {environment.name!r} has no result format of its own")
        with failing("writing results"):
            return ResultFiles(files=dict(await asyncio.to_thread(environment.results, request)))

    async def create(self, choice: TaskChoice) -> LiveEpisode:
        """Start an episode.

        Raises:
            ControlError: no such task, or it cannot be played here, or the table is full. InfrastructureError: the
                environment failed.
        """
        task = self.choose(choice)
        await self._make_room()
        self._starting += 1
        try:
            with failing(f"starting task {task.id!r}"):
                live = await self._start(task)
        except TaskUnavailable as error:
            raise ControlError(ProblemCode.TASK_UNAVAILABLE, str(error)) from error
        except UsageError as error:
            raise ControlError(ProblemCode.INVALID, str(error)) from error
        finally:
            self._starting -= 1
        self._live[live.id] = live
        return live

    async def _start(self, task: TaskInstance) -> LiveEpisode:
        episode = await self.environment.start(task)
        try:
            talking = TalkingEpisode(episode) if self._user_tool else None
            guarded = GuardedEpisode.of(talking or episode)
        except UsageError:
            await episode.close()
            raise
        return LiveEpisode(secrets.token_urlsafe(16), guarded, self._clock(), talking)

    def get(self, episode_id: str) -> LiveEpisode:
        """The live episode of this id; counts as use.

        Raises:
            ControlError: no episode had the id, or it was deleted or has expired.
        """
        live = self._live.get(episode_id)
        if live is None:
            why = self._gone.get(episode_id)
            if why is None:
                message = f"unknown episode {episode_id!r}: create one first"
                raise ControlError(ProblemCode.UNKNOWN_EPISODE, message)
            raise ControlError(ProblemCode.EPISODE_GONE, f"episode {episode_id!r} {why}: create a new one")
        if self._expired(live):
            raise ControlError(ProblemCode.EPISODE_GONE, f"episode {episode_id!r} {self._why_idle()}: create a new one")
        self.touch(live)
        return live

    @contextmanager
    def using(self, episode_id: str) -> Iterator[GuardedEpisode]:
        """The live episode of this id, for a use that may last: idle time counts from its end.

        Raises:
            ControlError: as `get`.
        """
        live = self.get(episode_id)
        try:
            yield live.guarded
        finally:
            self.touch(live)

    def touch(self, live: LiveEpisode) -> None:
        """Count the episode as used now."""
        live.used_at = self._clock()
        if live.id in self._live:
            self._live.move_to_end(live.id)

    def info(self, live: LiveEpisode) -> EpisodeInfo:
        """What a client of the control plane is told about the episode."""
        return EpisodeInfo(
            id=live.id,
            task=live.guarded.task,
            tools=tuple(live.guarded.tools),
            policy=live.guarded.policy,
            mcp_path=self._mcp_path.format(id=live.id) if self._mcp_path else None,
            idle_timeout_s=self.limits.idle_timeout_s,
            words_unknown_tools=live.guarded.words_unknown_tools,
            keeps_record=isinstance(live.guarded, KeepsRecord),
        )

    async def delete(self, episode_id: str) -> None:
        """End an episode and free what it holds."""
        await self._end(self.get(episode_id), "was deleted")

    async def sweep(self) -> int:
        """End every episode that has been idle too long; how many."""
        expired = [live for live in self._live.values() if self._expired(live)]
        for live in expired:
            await self._end(live, self._why_idle())
        return len(expired)

    async def close(self) -> None:
        """End every episode, and what the environment keeps."""
        for live in list(self._live.values()):
            await self._end(live, "ended with the server")
        if isinstance(self.environment, Closes):
            await self.environment.close()

    async def _make_room(self) -> None:
        await self.sweep()
        if len(self._live) + self._starting < self.limits.max_episodes:
            return None
        now, spare = self._clock(), self.limits.spare_s
        for live in list(self._live.values()):
            if not live.guarded.busy and now - live.used_at >= spare:
                return await self._end(live, f"made room for another after {spare:g} s without a call")
        raise ControlError(
            ProblemCode.FULL,
            f"{self.limits.max_episodes} episodes are live, the most this server holds: delete one, wait until one has "
            f"been idle for {spare:g} s, or serve with a larger maximum",
        )

    async def _end(self, live: LiveEpisode, why: str) -> None:
        if self._live.pop(live.id, None) is None:
            return
        self._gone[live.id] = why
        while len(self._gone) > REMEMBERED:
            self._gone.popitem(last=False)
        try:
            if self._user_tool is not None and live.talking is not None:
                await self._user_tool.keep(live.id, live.talking, live.guarded)
        except OSError:
            logger.exception("the episode of task %r could not be recorded", live.guarded.task.id)
        try:
            await live.guarded.close()
        except Exception:
            logger.exception("closing the episode of task %r failed", live.guarded.task.id)

    def _expired(self, live: LiveEpisode) -> bool:
        timeout = self.limits.idle_timeout_s
        return timeout is not None and not live.guarded.busy and self._clock() - live.used_at >= timeout

    def _why_idle(self) -> str:
        return f"expired after {self.limits.idle_timeout_s:g} s without a call"

    def _tasks(self, split: str) -> Sequence[TaskInstance]:
        try:
            return self.environment.tasks(split)
        except UsageError as error:
            raise ControlError(ProblemCode.UNKNOWN_SPLIT, str(error)) from error
