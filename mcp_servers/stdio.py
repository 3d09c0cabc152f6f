"""One episode a process, over standard input and output: `trace-agents serve ENV --stdio --task ID`."""

from __future__ import annotations

import asyncio

from mcp.server.stdio import stdio_server

from mcp_servers.control import control_server
from mcp_servers.episodes import EpisodeTable, Limits
from mcp_servers.pipes import standard_streams
from mcp_servers.user_tool import UserTool
from mcp_servers.wire import TaskChoice
from trace_agents.environment import Environment


def run_stdio(environment: Environment, choice: TaskChoice, user_tool: UserTool | None = None) -> None:
    """Play the task of `choice` until the client closes standard input.

    The agent's requests need no key: they mean the one episode. The host's vendor methods are those of
    `mcp_servers.control`; with `user_tool` the agent reaches the user by itself. While serving, stray prints go to
    standard error.

    Raises:
        UsageError: no such task. InfrastructureError: the environment could not start it.
    """
    asyncio.run(_serve(environment, choice, user_tool))


async def _serve(environment: Environment, choice: TaskChoice, user_tool: UserTool | None) -> None:
    table = EpisodeTable(environment, Limits(idle_timeout_s=None), user_tool=user_tool)
    try:
        live = await table.create(choice)
        server = control_server(table, default=live.id)
        async with standard_streams() as streams, stdio_server(*streams) as (reader, writer):
            await server.run(reader, writer, server.create_initialization_options())
    finally:
        await table.close()
