"""Tool calls over HTTP, answered in one exchange.

For a request of the handshake era, which here has no session, MCP's manager builds a transport, streams and tasks, and
takes them down again; for one of the 2026 era it lists all tools to itself, to check the request's headers against one
schema. A plain, well-formed tool call is answered here instead, by MCP's own `serve_one` after MCP's own checks. All
else that arrives, and all that is to be refused, is left to the manager.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
import mcp_types as types
from mcp.server import Server
from mcp.server.connection import Connection
from mcp.server.runner import modern_error_data, serve_one
from mcp.server.streamable_http import check_accept_headers
from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import NoBackChannelError
from mcp.shared.inbound import (
    ERROR_CODE_HTTP_STATUS,
    InboundLadderRejection,
    classify_inbound_request,
    find_duplicated_routing_header,
    validate_mcp_param_headers,
)
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from pydantic import ValidationError
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from mcp_servers.guard import GuardedEpisode


@dataclass(frozen=True)
class CallDoor:
    """Answers the plain tool calls among the requests to one server's episodes."""

    server: Server[Any]
    longest: int
    """Bytes of the longest body that is read."""

    async def answer(self, episode: GuardedEpisode, scope: Scope, receive: Receive, send: Send) -> Receive | None:
        """Answer a tool call of `episode`; None once it is.

        For any other request nothing is sent, and what is returned gives its body again.
        """
        request = Request(scope)
        if "mcp-protocol-version" not in request.headers or not _is_json(request):
            return receive
        messages = await self._read(receive)
        call = self._call(messages)
        connection = None if call is None else _connection(request, call, episode)
        if call is None or connection is None:
            return _again(messages, receive)
        status = 200
        try:
            exchange = _Exchange(request, call.id)
            result = await serve_one(
                self.server, exchange, call.method, call.params, connection=connection, lifespan_state={}
            )
            answer: dict[str, Any] = {"result": result}
        except Exception as error:  # MCP's own boundary: its errors and faulty parameters keep their codes.
            told = modern_error_data(error)
            answer = {"error": told.model_dump(mode="json", exclude_none=True)}
            if connection.protocol_version not in HANDSHAKE_PROTOCOL_VERSIONS:
                status = ERROR_CODE_HTTP_STATUS.get(told.code, status)
        body = to_json({"jsonrpc": "2.0", "id": call.id, **answer})
        await Response(body, status, media_type="application/json")(scope, receive, send)
        return None

    async def _read(self, receive: Receive) -> list[Message]:
        """The body, or its beginning where it is too long or breaks off."""
        messages: list[Message] = []
        more = True
        while more and sum(len(message.get("body", b"")) for message in messages) <= self.longest:
            messages.append(await receive())
            more = messages[-1].get("more_body", False)
        return messages

    def _call(self, messages: Sequence[Message]) -> types.JSONRPCRequest | None:
        """The tool call that is the whole body."""
        body = b"".join(message.get("body", b"") for message in messages)
        last = messages[-1]
        if last["type"] != "http.request" or last.get("more_body", False) or len(body) > self.longest:
            return None
        try:
            request = types.JSONRPCRequest.model_validate_json(body, by_name=False)
        except ValidationError:
            return None
        return request if request.method == "tools/call" else None


def _is_json(request: Request) -> bool:
    media = request.headers.get("content-type", "").partition(";")[0].strip()
    return media == "application/json" and check_accept_headers(request)[0]


def _connection(request: Request, call: types.JSONRPCRequest, episode: GuardedEpisode) -> Connection | None:
    """What MCP knows of the client; None where the request is to be refused."""
    version = request.headers["mcp-protocol-version"]
    if version in HANDSHAKE_PROTOCOL_VERSIONS:
        return Connection.from_envelope(version, None, None)
    if find_duplicated_routing_header(request.headers.items()) is not None:
        return None
    route = classify_inbound_request({"method": call.method, "params": call.params}, headers=dict(request.headers))
    if isinstance(route, InboundLadderRejection):
        return None
    params = call.params or {}
    arguments, spec = params.get("arguments") or {}, episode.specs.get(str(params.get("name")))
    if not isinstance(arguments, Mapping):
        return None
    if spec is not None and validate_mcp_param_headers(spec.input_schema, arguments, request.headers) is not None:
        return None
    return Connection.from_envelope(route.protocol_version, route.client_info, route.client_capabilities)


def _again(messages: Sequence[Message], receive: Receive) -> Receive:
    kept = deque(messages)

    async def replay() -> Message:
        return kept.popleft() if kept else await receive()

    return replay


@dataclass
class _Exchange:
    """MCP's `DispatchContext` of one request whose answer is the only thing that can be sent."""

    request: Request
    request_id: types.RequestId
    cancel_requested: anyio.Event = field(default_factory=anyio.Event)
    can_send_request: bool = field(default=False, init=False)

    @property
    def transport(self) -> TransportContext:
        return TransportContext(kind="streamable-http", can_send_request=False, headers=self.request.headers)

    @property
    def message_metadata(self) -> ServerMessageMetadata:
        return ServerMessageMetadata(request_context=self.request)

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        raise NoBackChannelError(method)

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> None:
        """Dropped, as the manager drops it where answers are JSON."""

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Dropped, too."""
