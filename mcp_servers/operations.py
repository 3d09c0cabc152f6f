"""The control plane's operations, once for both carriers: HTTP (`http.py`) and MCP vendor methods (`control.py`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from mcp_servers.episodes import EpisodeTable
from mcp_servers.wire import (
    Conversation,
    EnvironmentInfo,
    EpisodeInfo,
    EpisodeRecord,
    GoldActions,
    Health,
    PageChoice,
    ProblemCode,
    ResultFiles,
    TaskChoice,
    TaskPage,
    UserMessage,
)
from trace_agents.environment import KeepsRecord, ResultsRequest
from trace_agents.errors import UsageError
from trace_agents.types import Evaluation, TaskInstance, UserTurn

Run = Callable[[EpisodeTable, Any, str], Awaitable[BaseModel | None]]
"""What an operation does: the table, what is given, and the episode's id ('' where it takes none), to the answer."""

OF_EPISODE = (ProblemCode.UNKNOWN_EPISODE, ProblemCode.EPISODE_GONE)
"""What may be wrong with an episode's id."""
OF_TASK = (ProblemCode.UNKNOWN_TASK,)
WHOLE_EVALUATION = 1024**3
"""Bytes that all trajectories and records of an evaluation may take: some 10,000 long episodes."""


@dataclass(frozen=True)
class Operation:
    """One operation: what it does, how HTTP routes it, and how it is described."""

    name: str
    """operationId over HTTP; the vendor method is `trace-agents/<name>`."""
    run: Run
    method: str
    """HTTP method."""
    path: str
    """HTTP path; `{id}` is the episode, other parameters are fields of `given`."""
    summary: str
    given: type[BaseModel] | None = None
    """What it takes: the JSON body of a POST, the path and query parameters of a GET."""
    answer: type[BaseModel] | None = None
    """What it answers; None for nothing."""
    status: int = 200
    """HTTP status of success."""
    problems: tuple[ProblemCode, ...] = ()
    """Refusals of its own, besides those that any request can meet."""
    public: bool = False
    """Needs no control token."""
    max_bytes: int = 0
    """Longest body, where it may be longer than any other's."""

    @property
    def of_episode(self) -> bool:
        """It is about one live episode."""
        return "{id}" in self.path


async def _health(table: EpisodeTable, given: None, episode_id: str) -> Health:
    return Health(environment=table.environment.name, episodes=len(table))


async def _environment(table: EpisodeTable, given: None, episode_id: str) -> EnvironmentInfo:
    return table.describe()


async def _tasks(table: EpisodeTable, given: PageChoice, episode_id: str) -> TaskPage:
    return table.page(given)


async def _task(table: EpisodeTable, given: TaskChoice, episode_id: str) -> TaskInstance:
    return table.choose(given)


async def _oracle(table: EpisodeTable, given: TaskChoice, episode_id: str) -> GoldActions:
    return table.oracle(given)


async def _create(table: EpisodeTable, given: TaskChoice, episode_id: str) -> EpisodeInfo:
    return table.info(await table.create(given))


async def _episode(table: EpisodeTable, given: None, episode_id: str) -> EpisodeInfo:
    return table.info(table.get(episode_id))


async def _user_turn(table: EpisodeTable, given: UserMessage, episode_id: str) -> UserTurn:
    with table.using(episode_id) as episode:
        return await episode.user_turn(given.message)


async def _evaluate(table: EpisodeTable, given: Conversation, episode_id: str) -> Evaluation:
    with table.using(episode_id) as episode:
        return await episode.evaluate(given.messages)


async def _record(table: EpisodeTable, given: Conversation, episode_id: str) -> EpisodeRecord:
    with table.using(episode_id) as episode:
        if not isinstance(episode, KeepsRecord):
            raise UsageError(f"the benchmark keeps no record of the episode of task {episode.task.id!r}")
        return EpisodeRecord(record=dict(await episode.record(given.messages)))


async def _results(table: EpisodeTable, given: ResultsRequest, episode_id: str) -> ResultFiles:
    return await table.results(given)


async def _delete(table: EpisodeTable, given: None, episode_id: str) -> None:
    await table.delete(episode_id)


OPERATIONS: tuple[Operation, ...] = (
    Operation("health", _health, "GET", "/health", "Is the server up?", answer=Health, public=True),
    Operation("environment", _environment, "GET", "/environment", "What is served.", answer=EnvironmentInfo),
    Operation(
        name="tasks",
        run=_tasks,
        method="GET",
        path="/tasks",
        summary="List the tasks of a split.",
        given=PageChoice,
        answer=TaskPage,
        problems=(ProblemCode.UNKNOWN_SPLIT,),
    ),
    Operation(
        name="task",
        run=_task,
        method="GET",
        path="/tasks/{task_id:path}",
        summary="A task instance by id.",
        given=TaskChoice,
        answer=TaskInstance,
        problems=OF_TASK,
    ),
    Operation(
        name="generate",
        run=_task,
        method="GET",
        path="/seeds/{seed}",
        summary="The task instance of a seed.",
        given=TaskChoice,
        answer=TaskInstance,
        problems=OF_TASK,
    ),
    Operation(
        name="oracle",
        run=_oracle,
        method="GET",
        path="/oracle/{task_id:path}",
        summary="Gold actions of a task by id, where the environment knows them; for the host, never for an agent.",
        given=TaskChoice,
        answer=GoldActions,
        problems=(*OF_TASK, ProblemCode.TASK_UNAVAILABLE),
    ),
    Operation(
        name="create",
        run=_create,
        method="POST",
        path="/episodes",
        summary="Start an episode of a task: by id, by seed, or by split and index.",
        given=TaskChoice,
        answer=EpisodeInfo,
        status=201,
        problems=(ProblemCode.UNKNOWN_SPLIT, *OF_TASK, ProblemCode.TASK_UNAVAILABLE, ProblemCode.FULL),
    ),
    Operation("episode", _episode, "GET", "/episodes/{id}", "A live episode.", answer=EpisodeInfo, problems=OF_EPISODE),
    Operation(
        name="user_turn",
        run=_user_turn,
        method="POST",
        path="/episodes/{id}/user_turn",
        summary="The simulated user's answer to the agent's message; null content ends the conversation.",
        given=UserMessage,
        answer=UserTurn,
        problems=OF_EPISODE,
    ),
    Operation(
        name="evaluate",
        run=_evaluate,
        method="POST",
        path="/episodes/{id}/evaluate",
        summary="Judge the episode by its state and the conversation.",
        given=Conversation,
        answer=Evaluation,
        problems=OF_EPISODE,
    ),
    Operation(
        name="record",
        run=_record,
        method="POST",
        path="/episodes/{id}/record",
        summary="What the benchmark keeps of an episode that was judged, besides the conversation.",
        given=Conversation,
        answer=EpisodeRecord,
        problems=OF_EPISODE,
    ),
    Operation(
        name="results",
        run=_results,
        method="POST",
        path="/results",
        summary="An evaluation, with its trajectories and records, as the files that the benchmark's own tools read.",
        given=ResultsRequest,
        answer=ResultFiles,
        max_bytes=WHOLE_EVALUATION,
    ),
    Operation("delete", _delete, "DELETE", "/episodes/{id}", "End an episode.", status=204, problems=OF_EPISODE),
)
"""The control plane."""
