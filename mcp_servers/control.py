"""The control plane where the host owns the connection (in memory, stdio): vendor methods beside the agent's tools.

A method's operation is the one of the HTTP control plane. The episode is named by `EPISODE_KEY` in the request's
`_meta`, never by the connection; tool calls, listings, the policy and the task take the same key. An agent cannot
reach a vendor method: it is offered tools, and these are none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import mcp_types as types
from mcp.client import Client
from mcp.server import Server
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel, Field, ValidationError

from mcp_servers.episodes import EpisodeTable
from mcp_servers.operations import OPERATIONS, Operation
from mcp_servers.server import routed_server
from mcp_servers.wire import (
    ControlError,
    Conversation,
    EnvironmentInfo,
    EpisodeInfo,
    EpisodeRecord,
    GoldActions,
    PageChoice,
    ProblemCode,
    ResultFiles,
    TaskChoice,
    TaskPage,
    UserMessage,
    refusal,
)
from trace_agents.environment import ResultsRequest
from trace_agents.errors import InfrastructureError, UsageError
from trace_agents.types import Evaluation, Message, UserTurn

EPISODE_KEY = "trace-agents/episode"
"""`_meta` key whose value is an episode's id."""
PREFIX = "trace-agents/"
"""Vendor methods are named `trace-agents/<operation>`."""


class ControlParams(types.RequestParams):
    """Parameters of a vendor method."""

    body: dict[str, Any] = Field(default_factory=dict)
    """What the HTTP control plane takes as the body."""


class ControlResult(types.Result):
    """Result of a vendor method."""

    value: dict[str, Any] = Field(default_factory=dict)
    """What the HTTP control plane answers as the body; empty where there is nothing to tell."""


def control_server(table: EpisodeTable, default: str | None = None) -> Server[Any]:
    """An MCP server for the episodes of `table`: the agent's door and the control plane's vendor methods.

    Args:
        table: the episodes; its owner closes it.
        default: id of the episode that a request without `EPISODE_KEY` means; without it, such requests are refused.
    """
    server = routed_server(lambda ctx: table.get(episode_id(ctx.meta, default)).guarded, table.environment.name)
    for op in OPERATIONS:
        server.add_request_handler(PREFIX + op.name, ControlParams, _handler(op, table, default))
    return server


class Control:
    """A host's use of the vendor methods over its own MCP connection.

    Every method raises `ControlError` where the request is refused and `InfrastructureError` where the environment
    or the connection fails. Without an episode id, the one that the server plays by default is meant.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def environment(self) -> EnvironmentInfo:
        """What is served."""
        return EnvironmentInfo.model_validate(await self._ask("environment"))

    async def tasks(self, page: PageChoice) -> TaskPage:
        """A slice of a split."""
        return TaskPage.model_validate(await self._ask("tasks", page))

    async def oracle(self, task_id: str) -> GoldActions:
        """The gold actions of a task, where the environment knows them."""
        return GoldActions.model_validate(await self._ask("oracle", TaskChoice(task_id=task_id)))

    async def create(self, choice: TaskChoice) -> EpisodeInfo:
        """Start an episode."""
        return EpisodeInfo.model_validate(await self._ask("create", choice))

    async def episode(self, episode_id: str | None = None) -> EpisodeInfo:
        """A live episode."""
        return EpisodeInfo.model_validate(await self._ask("episode", None, episode_id))

    async def user_turn(self, message: str, episode_id: str | None = None) -> UserTurn:
        """The simulated user's answer to `message`."""
        return UserTurn.model_validate(await self._ask("user_turn", UserMessage(message=message), episode_id))

    async def evaluate(self, messages: Sequence[Message], episode_id: str | None = None) -> Evaluation:
        """The verdict on the trajectory `messages`."""
        conversation = Conversation(messages=tuple(messages))
        return Evaluation.model_validate(await self._ask("evaluate", conversation, episode_id))

    async def record(self, messages: Sequence[Message], episode_id: str | None = None) -> EpisodeRecord:
        """What the benchmark keeps of a judged episode besides `messages`."""
        conversation = Conversation(messages=tuple(messages))
        return EpisodeRecord.model_validate(await self._ask("record", conversation, episode_id))

    async def results(self, request: ResultsRequest) -> ResultFiles:
        """An evaluation in the benchmark's own format."""
        return ResultFiles.model_validate(await self._ask("results", request))

    async def delete(self, episode_id: str | None = None) -> None:
        """End an episode."""
        await self._ask("delete", None, episode_id)

    async def _ask(self, name: str, body: BaseModel | None = None, episode_id: str | None = None) -> dict[str, Any]:
        meta: Any = {EPISODE_KEY: episode_id} if episode_id is not None else None
        params = ControlParams(body=body.model_dump(mode="json") if body else {}, _meta=meta)
        request = types.Request[ControlParams, str](method=PREFIX + name, params=params)
        try:
            return (await self._client.session.send_request(request, ControlResult)).value
        except MCPError as error:
            code = error.data.get("code") if isinstance(error.data, dict) else None
            if code is None or code == ProblemCode.ENVIRONMENT_FAILED:
                raise InfrastructureError(error.message) from error
            raise ControlError(ProblemCode(code), error.message) from error


def _handler(op: Operation, table: EpisodeTable, default: str | None) -> Callable[..., Awaitable[ControlResult]]:
    async def handle(ctx: ServerRequestContext[Any, Any], params: ControlParams) -> ControlResult:
        try:
            given = op.given.model_validate(params.body) if op.given else None
            answer = await op.run(table, given, episode_id(ctx.meta, default) if op.of_episode else "")
        except ValidationError as error:
            raise _protocol_error(refusal(error)) from error
        except ControlError as error:
            raise _protocol_error(error) from error
        except UsageError as error:
            raise _protocol_error(ControlError(ProblemCode.INVALID, str(error))) from error
        except InfrastructureError as error:
            raise _protocol_error(ControlError(ProblemCode.ENVIRONMENT_FAILED, str(error))) from error
        return ControlResult(value=answer.model_dump(mode="json") if answer else {})

    return handle


def _protocol_error(error: ControlError) -> MCPError:
    failed = error.code is ProblemCode.ENVIRONMENT_FAILED
    code = types.INTERNAL_ERROR if failed else types.INVALID_PARAMS
    return MCPError(code, str(error), {"code": error.code.value})


def episode_id(meta: Mapping[str, Any] | None, default: str | None) -> str:
    """The id of the episode that a request's `_meta` names.

    Raises:
        ControlError: it names none, and there is no default.
    """
    named = (meta or {}).get(EPISODE_KEY, default)
    if not isinstance(named, str):
        message = f"no episode is named: give its id in `_meta` under {EPISODE_KEY!r}"
        raise ControlError(ProblemCode.UNKNOWN_EPISODE, message)
    return named
