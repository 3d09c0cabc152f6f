"""One tool call through each door, by each client: of our server, and of the plain server that is its floor."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from mcp.client import Client
from mcp.client.stdio import stdio_client
from mcp_types.version import LATEST_HANDSHAKE_VERSION, LATEST_MODERN_VERSION

from mcp_servers.bench.bare import Bare, bare_server
from mcp_servers.bench.raw import RawCall, raw_http, raw_stdio
from mcp_servers.bench.subject import Floor, Subject, serving
from mcp_servers.remote import RemoteEnvironment
from mcp_servers.server import episode_server

Call = Callable[[], Awaitable[Any]]
Calls = tuple[Call, Call]
"""To our server, and to the plain one."""

ERAS = {"2026": ("auto", LATEST_MODERN_VERSION), "2025": ("legacy", LATEST_HANDSHAKE_VERSION)}
"""Protocol era -> the mode of MCP's client, the version that the raw client speaks."""
DOORS = ("memory", "stdio", "http")
RAW_DOORS = ("stdio", "http")
"""Doors through which bytes go."""


@asynccontextmanager
async def by_mcp_client(subject: Subject, floor: Floor, door: str, era: str) -> AsyncIterator[Calls]:
    """The call as a user of MCP's own Python client makes it; tools have been listed, as that client wants."""
    async with _clients(subject, floor, door, ERAS[era][0]) as (ours, plain):
        await ours.list_tools()
        await plain.list_tools()
        call = subject.tool, subject.arguments
        yield partial(ours.call_tool, *call), partial(plain.call_tool, *call)


@asynccontextmanager
async def by_raw_client(subject: Subject, floor: Floor, door: str, era: str) -> AsyncIterator[Calls]:
    """The call as bytes over `stdio` or `http`: what is waited for is the server."""
    call = RawCall(subject.tool, subject.arguments, ERAS[era][1])
    if door == "stdio":
        async with raw_stdio(subject.over_stdio(), call) as ours, raw_stdio(floor.over_stdio(), call) as plain:
            yield ours, plain
    else:
        async with (
            _endpoints(subject, floor) as urls,
            raw_http(urls[0], call) as ours,
            raw_http(urls[1], call) as plain,
        ):
            yield ours, plain


@asynccontextmanager
async def _clients(subject: Subject, floor: Floor, door: str, mode: str) -> AsyncIterator[tuple[Client, Client]]:
    if door == "memory":
        episode = await subject.environment.start(subject.environment.task(subject.task))
        bare = bare_server(Bare.model_validate_json(floor.file.read_bytes()))
        async with Client(episode_server(episode), mode=mode) as ours, Client(bare, mode=mode) as plain:
            yield ours, plain
        await episode.close()
    elif door == "stdio":
        pipes = stdio_client(subject.over_stdio()), stdio_client(floor.over_stdio())
        async with Client(pipes[0], mode=mode) as ours, Client(pipes[1], mode=mode) as plain:
            yield ours, plain
    else:
        async with (
            _endpoints(subject, floor) as urls,
            Client(urls[0], mode=mode) as ours,
            Client(urls[1], mode=mode) as plain,
        ):
            yield ours, plain


@asynccontextmanager
async def _endpoints(subject: Subject, floor: Floor) -> AsyncIterator[tuple[str, str]]:
    """The MCP endpoints of an episode and of the plain server."""
    with serving(subject.over_http()) as url, serving(floor.arguments("http")) as plain:
        remote = await asyncio.to_thread(RemoteEnvironment, url)
        played = await remote.start(await asyncio.to_thread(remote.task, subject.task))
        yield f"{url}/episodes/{played.id}/mcp", plain
        await played.close()
