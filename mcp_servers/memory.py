"""The in-process door: an MCP client on an episode in the same process, with no socket in between.

The calls go through MCP's own protocol (discovery, request validation, results shaped for the wire), so that what
an agent reads here is what it reads over HTTP or stdio.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp.client import Client
from mcp.server import Server

from mcp_servers.control import control_server
from mcp_servers.episodes import EpisodeTable
from mcp_servers.server import episode_server
from trace_agents.environment import Episode


@asynccontextmanager
async def connect(episode: Episode) -> AsyncIterator[Client]:
    """An MCP client that plays `episode`; closing it leaves the episode to its owner.

    Raises:
        UsageError: a tool of the episode that MCP cannot carry.
    """
    async with _client(episode_server(episode)) as client:
        yield client


@asynccontextmanager
async def connect_table(table: EpisodeTable, default: str | None = None) -> AsyncIterator[Client]:
    """An MCP client on all episodes of `table`, with the control plane's vendor methods (`mcp_servers.control`).

    Requests name their episode in `_meta`; `default` is the episode meant without one.
    """
    async with _client(control_server(table, default)) as client:
        yield client


@asynccontextmanager
async def _client(server: Server[Any]) -> AsyncIterator[Client]:
    try:
        # A listing is asked for once per rollout: the client's response cache would only copy it.
        async with Client(server, cache=None) as client:
            yield client
    except BaseExceptionGroup as group:
        # The client's task groups wrap whatever its user raises, and users catch what they raised.
        error = leaf(group)
        raise error from error.__cause__


def leaf(error: BaseException) -> BaseException:
    """The first error inside nested groups; `error` itself where it is none."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
