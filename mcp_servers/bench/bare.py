"""The floor that serving is measured against: a plain low-level MCP server with the same tools and one answer.

`python -m mcp_servers.bench.bare FILE (stdio | http | echo)`: what it lists and answers is in FILE, a `Bare` in JSON.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mcp_types as types
import uvicorn
from mcp.server import Server
from mcp.server.context import ServerRequestContext
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from starlette.applications import Starlette
from starlette.routing import Route

from trace_agents.types import Record, ToolSpec

Context = ServerRequestContext[Any, Any]


class Bare(Record):
    """What the plain server lists and answers."""

    tools: tuple[ToolSpec, ...]
    answer: str
    """The text of every call's result."""


def bare_server(bare: Bare) -> Server[Any]:
    """A server as MCP's own documentation would write it."""
    tools = [
        types.Tool(name=spec.name, description=spec.description, input_schema=spec.input_schema) for spec in bare.tools
    ]

    async def list_tools(ctx: Context, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(tools=tools)

    async def call_tool(ctx: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        return types.CallToolResult(content=[types.TextContent(type="text", text=bare.answer)])

    return Server("bare", on_list_tools=list_tools, on_call_tool=call_tool)


async def _stdio(bare: Bare) -> None:
    server = bare_server(bare)
    async with stdio_server() as (reader, writer):
        await server.run(reader, writer, server.create_initialization_options())


async def _http(bare: Bare) -> None:
    manager = StreamableHTTPSessionManager(bare_server(bare), json_response=True, stateless=True)
    app = Starlette(routes=[Route("/mcp", StreamableHTTPASGIApp(manager))], lifespan=lambda _app: manager.run())
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    _tell(f"http://127.0.0.1:{_port(server.servers)}/mcp")
    await serving


async def _echo(bare: Bare) -> None:
    """Lines come back as they are: what a round trip between two processes costs without any protocol."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    _tell(f"http://127.0.0.1:{_port([server])}")
    await server.serve_forever()


def _port(servers: Iterable[asyncio.Server]) -> int:
    return int(next(iter(servers)).sockets[0].getsockname()[1])


def _tell(url: str) -> None:
    print(url, file=sys.stderr, flush=True)


if __name__ == "__main__":
    serve = {"stdio": _stdio, "http": _http, "echo": _echo}[sys.argv[2]]
    asyncio.run(serve(Bare.model_validate_json(Path(sys.argv[1]).read_bytes())))
