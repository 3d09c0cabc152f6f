"""One episode a process, over standard input and output: `trace-agents serve ENV --stdio --task ID`."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable

from mcp_servers.control import control_server
from mcp_servers.episodes import EpisodeTable, Limits
from mcp_servers.pipes import standard_streams
from mcp_servers.user_tool import UserTool
from mcp_servers.wire import TaskChoice
from trace_agents.environment import Environment


def run_stdio(environment: Environment, choice: TaskChoice, user_tool: UserTool | None = None) -> None:
    """Play the task of `choice` until the client closes standard input, or the process is asked to end (SIGTERM).

    The agent's requests need no key: they mean the one episode. The host's vendor methods are those of
    `mcp_servers.control`; with `user_tool` the agent reaches the user by itself. While serving, stray prints go to
    standard error.

    Raises:
        UsageError: no such task. InfrastructureError: the environment could not start it.
    """
    with asyncio.Runner(loop_factory=_fast_loops()) as runner:
        runner.run(_serve(environment, choice, user_tool))


async def _serve(environment: Environment, choice: TaskChoice, user_tool: UserTool | None) -> None:
    table = EpisodeTable(environment, Limits(idle_timeout_s=None), user_tool=user_tool)
    playing = asyncio.create_task(_play(table, choice))
    if sys.platform != "win32":
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, playing.cancel)
    try:
        await asyncio.wait([playing])
        if not playing.cancelled():
            playing.result()
    finally:
        playing.cancel()
        await asyncio.wait([playing])
        await table.close()


async def _play(table: EpisodeTable, choice: TaskChoice) -> None:
    live = await table.create(choice)
    server = control_server(table, default=live.id)
    async with standard_streams() as (reader, writer):
        await server.run(reader, writer, server.create_initialization_options())


def _fast_loops() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Loops that pass a message on sooner; None, for asyncio's own, where there are none."""
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop
