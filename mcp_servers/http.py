"""An environment over HTTP: an MCP endpoint for each episode, and the control plane beside them."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio
import mcp_types as types
import uvicorn
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_servers.episodes import EpisodeTable, Limits
from mcp_servers.exchange import CallDoor
from mcp_servers.gatekeeper import Gatekeeper
from mcp_servers.guard import GuardedEpisode
from mcp_servers.openapi import STATUS, document
from mcp_servers.operations import OPERATIONS, Operation
from mcp_servers.server import Context, routed_server
from mcp_servers.user_tool import UserTool
from mcp_servers.wire import ControlError, ProblemCode, refusal
from trace_agents.environment import Environment
from trace_agents.errors import InfrastructureError, UsageError

logger = logging.getLogger(__name__)

MCP_PATH = "/episodes/{id}/mcp"
"""Where an episode's own MCP endpoint is."""


@dataclass(frozen=True)
class HttpConfig:
    """How an environment is served over HTTP."""

    limits: Limits = field(default_factory=Limits)
    gatekeeper: Gatekeeper = field(default_factory=Gatekeeper)
    max_body_bytes: int = 4 * 1024 * 1024
    """Longest request body, on either door; an evaluation's results may be longer."""
    sweep_every_s: float = 5.0
    """How often idle episodes are looked for; an expired one is refused at once, whenever that was."""
    clock: Callable[[], float] = time.monotonic
    """Seconds, for idle time-outs."""
    user_tool: UserTool | None = None
    """That agents reach the user by a tool; None where their host speaks for them."""


def environment_app(environment: Environment, config: HttpConfig | None = None) -> ASGIApp:
    """The ASGI application that serves `environment`; its lifespan closes what episodes are left."""
    return _Service(environment, config or HttpConfig()).app()


def serve_http(environment: Environment, listening: socket.socket, config: HttpConfig | None = None) -> None:
    """Serve `environment` on a socket that is bound already, until interrupted."""
    app = environment_app(environment, config)
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="warning", lifespan="on", timeout_graceful_shutdown=10, ws="none")
    )
    server.run(sockets=[listening])


class _Service:
    """Routes control requests to the episode table, and each endpoint's MCP requests to its episode."""

    def __init__(self, environment: Environment, config: HttpConfig) -> None:
        self._config = config
        self._table = EpisodeTable(environment, config.limits, config.clock, MCP_PATH, config.user_tool)
        server = routed_server(self._episode, environment.name)
        self._calls = CallDoor(server, config.max_body_bytes)
        self._mcp = StreamableHTTPSessionManager(
            server,
            json_response=True,
            stateless=True,
            max_request_body_size=config.max_body_bytes,
        )
        self._document = document(f"trace-agents: {environment.name}", OPERATIONS, MCP_PATH)

    def app(self) -> ASGIApp:
        paths = dict.fromkeys(op.path for op in OPERATIONS)
        routes = [Route(MCP_PATH, _Asgi(self._play))]  # First, as routes are tried in order.
        routes += [
            Route(path, self._control({op.method: op for op in OPERATIONS if op.path == path})) for path in paths
        ]
        routes.append(Route("/openapi.json", self._describe))
        unknown = {404: _nothing_here}
        return _gated(Starlette(routes=routes, lifespan=self._lifespan, exception_handlers=unknown), self._config)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        async with self._mcp.run(), anyio.create_task_group() as group:
            group.start_soon(self._sweep)
            try:
                yield
            finally:
                with anyio.CancelScope(shield=True):
                    await self._table.close()
                group.cancel_scope.cancel()

    async def _sweep(self) -> None:
        while True:
            await anyio.sleep(self._config.sweep_every_s)
            await self._table.sweep()

    async def _play(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The agent's door: one episode's MCP endpoint."""
        try:
            live = self._table.get(scope["path_params"]["id"])
            if scope["method"] != "POST":
                message = f"{scope['method']} is not served here: MCP requests are POSTs"
                raise ControlError(ProblemCode.BAD_METHOD, message)
        except ControlError as error:
            await _protocol_problem(error)(scope, receive, send)
        else:
            unanswered = await self._calls.answer(live.guarded, scope, receive, send)
            if unanswered is not None:
                await self._mcp.handle_request(scope, unanswered, send)
            self._table.touch(live)

    def _episode(self, ctx: Context) -> GuardedEpisode:
        assert ctx.request is not None, "over HTTP, every MCP request carries its HTTP request"
        return self._table.get(ctx.request.path_params["id"]).guarded

    async def _describe(self, request: Request) -> Response:
        return JSONResponse(self._document)

    def _control(self, operations: Mapping[str, Operation]) -> ASGIApp:
        """One path of the control plane: its operations by HTTP method."""

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                response = await self._answer(Request(scope, receive), operations)
            except ControlError as error:
                response = _problem(error)
            except UsageError as error:
                response = _problem(ControlError(ProblemCode.INVALID, str(error)))
            except InfrastructureError as error:
                response = _problem(ControlError(ProblemCode.ENVIRONMENT_FAILED, str(error)))
            except Exception as error:
                logger.exception("a control request failed")
                message = f"the environment failed: {type(error).__name__}: {error}"
                response = _problem(ControlError(ProblemCode.ENVIRONMENT_FAILED, message))
            await response(scope, receive, send)

        return _Asgi(answer)

    async def _answer(self, request: Request, operations: Mapping[str, Operation]) -> Response:
        op = operations.get(request.method)
        if op is None:
            message = f"{request.method} is not served at {request.url.path!r}: use {' or '.join(operations)}"
            return _problem(ControlError(ProblemCode.BAD_METHOD, message), {"Allow": ", ".join(operations)})
        if not op.public:
            self._config.gatekeeper.check_token(request.headers)
        given = await _given(request, op, max(op.max_bytes, self._config.max_body_bytes))
        answer = await op.run(self._table, given, request.path_params.get("id", ""))
        body = None if answer is None else answer.model_dump_json()
        return Response(body, op.status, media_type="application/json" if body else None)


async def _given(request: Request, op: Operation, max_bytes: int) -> BaseModel | None:
    """What the operation takes, from the JSON body of a POST or the parameters of a GET."""
    if op.given is None:
        return None
    raw: Any
    if op.method == "POST":
        raw = await _read_json(request, max_bytes)
    else:
        raw = {name: value for name, value in request.path_params.items() if name != "id"} or dict(request.query_params)
    try:
        return op.given.model_validate(raw)
    except ValidationError as error:
        raise refusal(error) from error


async def _read_json(request: Request, max_bytes: int) -> Any:
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise ControlError(
            ProblemCode.UNSUPPORTED_MEDIA, f"content type {media!r} is not read: send 'application/json'"
        )
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise ControlError(ProblemCode.TOO_LARGE, f"the body is longer than {max_bytes} bytes: send less")
    try:
        return from_json(bytes(body), allow_inf_nan=False)
    except ValueError as error:
        raise ControlError(ProblemCode.BAD_JSON, f"the body is not JSON: {error}") from error


class _Asgi:
    """An ASGI function in the form in which Starlette's routes leave requests to it whole."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


def _gated(app: ASGIApp, config: HttpConfig) -> ASGIApp:
    async def gate(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                config.gatekeeper.check_origin(Headers(scope=scope))
            except ControlError as error:
                await _problem(error)(scope, receive, send)
                return
        await app(scope, receive, send)

    return gate


def _problem(error: ControlError, headers: dict[str, str] | None = None) -> Response:
    body = error.problem.model_dump_json()
    return Response(body, STATUS[error.code], headers, media_type="application/json")


def _protocol_problem(error: ControlError) -> Response:
    """The refusal of an MCP request: a JSON-RPC error, so that MCP clients show its message."""
    data = types.ErrorData(code=types.INVALID_REQUEST, message=str(error), data=error.problem.model_dump(mode="json"))
    body = types.JSONRPCError(jsonrpc="2.0", id=None, error=data)
    headers = {"Allow": "POST"} if error.code is ProblemCode.BAD_METHOD else None
    return JSONResponse(body.model_dump(mode="json"), STATUS[error.code], headers)


async def _nothing_here(request: Request, error: Exception) -> Response:
    message = f"nothing is served at {request.url.path!r}: see '/openapi.json'"
    return _problem(ControlError(ProblemCode.UNKNOWN_PATH, message))
