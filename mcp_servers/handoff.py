"""The hand-off over MCP: an agent lists the open requests of an analysis, reads one, and answers it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import mcp_types as types
import uvicorn
from mcp.server import Server
from mcp.server.context import ServerRequestContext
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from trace_agents import __version__
from trace_agents.analysis.handoff import NOBODY, HandoffFolder
from trace_agents.analysis.requests import BadAnswer, parse_json
from trace_agents.errors import UsageError

Context = ServerRequestContext[Any, Any]
MCP_PATH = "/mcp"
"""Where the endpoint is over HTTP."""
PART = 40_000
"""Characters of a request that one reading gives: MCP clients cut longer results."""
LEAST_PART = 1_000
LONGEST_ANSWER = 16 * 1024 * 1024
"""Bytes of a request's body over HTTP."""

INSTRUCTIONS = """You are the analyst of a contrastive analysis of agent trajectories.
1. Call list_requests for the open requests.
2. Call read_request for one, part by part until nothing remains; it says what is asked and in which form.
3. Judge by reading, not by a script that guesses from key words, and call answer_request with the JSON answer. What
does not fit the schema is refused with the reason: mend it and answer again.
4. Runs of labelling are meant to be independent, and labels blind to the outcomes that discovery shows: where you can,
give each run to a fresh agent that has seen neither discovery nor another run.
5. Go on until list_requests has nothing open. Answering may open further requests (labelling follows discovery): the
analysis that asks takes answers in while it runs with --wait, or when it is called again."""


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    required = [name for name, schema in properties.items() if "default" not in schema]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


_ID = {"type": "string", "description": "Id of a request, from list_requests."}

TOOLS = [
    types.Tool(
        name="list_requests",
        description="The open requests: id, kind (discover, merge, label), what is asked, characters to read.",
        input_schema=_object(),
        annotations=types.ToolAnnotations(read_only_hint=True),
    ),
    types.Tool(
        name="read_request",
        description="A part of a request's prompt, whole lines from `offset` on; the last part says so.",
        input_schema=_object(
            id=_ID,
            offset={"type": "integer", "minimum": 0, "default": 0, "description": "Where to read on, in characters."},
            limit={
                "type": "integer",
                "minimum": LEAST_PART,
                "default": PART,
                "description": "Most characters of the part.",
            },
        ),
        annotations=types.ToolAnnotations(read_only_hint=True),
    ),
    types.Tool(
        name="answer_request",
        description="Answer a request with a JSON object of the form that it asks for; checked at once.",
        input_schema=_object(
            id=_ID,
            answer={"type": "object", "description": "The answer, in the form that the request describes."},
            by={"type": "string", "default": "", "description": "Who answers, for the record; else the client's name."},
        ),
        annotations=types.ToolAnnotations(read_only_hint=False, idempotent_hint=False),
    ),
]


def handoff_server(folder: HandoffFolder) -> Server[Any]:
    """An MCP server on the requests of `folder`; the answers it takes are the analysis's."""
    desk = _Desk(folder)
    return Server(
        "trace-agents-handoff",
        version=__version__,
        instructions=INSTRUCTIONS,
        on_list_tools=desk.list_tools,
        on_call_tool=desk.call_tool,
    )


def serve_stdio(path: Path) -> None:
    """Serve the hand-off folder at `path` until the client closes standard input."""

    async def serve() -> None:
        server = handoff_server(HandoffFolder.existing(path))
        async with stdio_server() as (reader, writer):
            await server.run(reader, writer, server.create_initialization_options())

    asyncio.run(serve())


def serve_http(path: Path, listening: socket.socket) -> None:
    """Serve it over Streamable HTTP, on a loopback socket that is bound already, until interrupted."""
    app = handoff_app(HandoffFolder.existing(path))
    config = uvicorn.Config(app, log_level="warning", lifespan="on", timeout_graceful_shutdown=10, ws="none")
    uvicorn.Server(config).run(sockets=[listening])


def handoff_app(folder: HandoffFolder) -> Starlette:
    """The ASGI application of the hand-off: one endpoint, refused to pages of other sites (DNS rebinding)."""
    names = ("127.0.0.1", "localhost", "[::1]")
    security = TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=[host for name in names for host in (name, f"{name}:*")],
        allowed_origins=[origin for name in names for origin in (f"http://{name}", f"http://{name}:*")],
    )
    manager = StreamableHTTPSessionManager(
        handoff_server(folder),
        json_response=True,
        stateless=True,
        security_settings=security,
        max_request_body_size=LONGEST_ANSWER,
    )

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with manager.run():
            yield

    return Starlette(routes=[Route(MCP_PATH, _Endpoint(manager))], lifespan=lifespan)


class _Endpoint:
    """The manager as an ASGI application in the form in which Starlette's routes leave requests to it whole."""

    def __init__(self, manager: StreamableHTTPSessionManager) -> None:
        self._manager = manager

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._manager.handle_request(scope, receive, send)


class _Desk:
    """Answers the tools' calls."""

    def __init__(self, folder: HandoffFolder) -> None:
        self._folder = folder
        self._tools: dict[str, Callable[[dict[str, Any], str], str]] = {
            "list_requests": self._list,
            "read_request": self._read,
            "answer_request": self._answer,
        }

    async def list_tools(self, ctx: Context, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(tools=TOOLS)

    async def call_tool(self, ctx: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        """What goes wrong is an `is_error` result that the agent reads."""
        try:
            tool = self._tools.get(params.name)
            if tool is None:
                raise UsageError(f"unknown tool {params.name!r}: use one of {', '.join(map(repr, self._tools))}")
            return _text(tool(params.arguments or {}, _caller(ctx)))
        except (UsageError, BadAnswer) as error:
            return _text(str(error), is_error=True)

    def _list(self, given: dict[str, Any], by: str) -> str:
        waiting = self._folder.open()
        return json.dumps(
            {
                "open": [
                    {"id": one.id, "kind": one.kind, "about": one.about, "characters": len(one.prompt)}
                    for one in waiting
                ],
                "answered": len(self._folder.ids()) - len(waiting),
            },
            indent=1,
        )

    def _read(self, given: dict[str, Any], by: str) -> str:
        prompt = self._folder.request(_identity(given)).prompt
        offset, limit = given.get("offset", 0), given.get("limit", PART)
        if not isinstance(offset, int) or not 0 <= offset <= len(prompt):
            raise UsageError(f"offset {offset!r} is outside the request: give 0 to {len(prompt)}")
        if not isinstance(limit, int) or limit < LEAST_PART:
            raise UsageError(f"limit {limit!r} is too little to read: give {LEAST_PART} or more")
        part = _whole_lines(prompt[offset : offset + limit], ends=offset + limit >= len(prompt))
        end = offset + len(part)
        rest = f"read on with offset {end}" if end < len(prompt) else "this is the end of the request"
        return f"{part}\n\n[characters {offset} to {end} of {len(prompt)}; {rest}]"

    def _answer(self, given: dict[str, Any], by: str) -> str:
        identity = _identity(given)
        answer = given.get("answer")
        # Some clients pass objects as JSON text.
        answer = parse_json(answer) if isinstance(answer, str) else answer
        self._folder.answer(identity, answer, str(given.get("by") or by))
        return f"Taken. Still open: {len(self._folder.open())}."


def _whole_lines(text: str, ends: bool) -> str:
    """`text` up to the end of its last whole line; all of it where the prompt ends there, or where it is one line."""
    return text if ends else text[: text.rfind("\n") + 1] or text


def _identity(given: dict[str, Any]) -> str:
    identity = given.get("id")
    if not isinstance(identity, str):
        raise UsageError(f"id {identity!r} is no request's id: give one from list_requests")
    return identity


def _caller(ctx: Context) -> str:
    """Who answers, as the client introduced itself."""
    params = ctx.session.client_params
    info = params.client_info if params is not None else None
    return f"{info.name} {info.version}".strip() if info is not None else NOBODY


def _text(text: str, is_error: bool = False) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=text)], is_error=is_error)
