"""How long serving takes: a tool call through every door and era beside the floor, the first listing, the reset.

The floor is a plain low-level MCP server (`bare.py`) with the same tools and the same answer, called by the same client
in turns with ours, so that a busy machine slows both. `python -m graphs.bench --only serving` prints it.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from mcp import StdioServerParameters
from mcp.client import Client
from mcp.client.stdio import stdio_client

from mcp_servers.bare import Bare, bare_server
from mcp_servers.remote import RemoteEnvironment
from mcp_servers.server import episode_server
from trace_agents.environment import Environment
from trace_agents.registry import load_environment
from trace_agents.types import Record

ERAS = {"2026": "auto", "2025": "legacy"}
"""Protocol era -> the client's mode."""
DOORS = ("memory", "stdio", "http")
BLOCK = 20
"""Calls of one side before the other's turn."""

Call = Callable[[], Awaitable[Any]]


@dataclass(frozen=True)
class Subject:
    """A served environment, and the call that is timed."""

    name: str
    """The environment's registered name."""
    environment: Environment
    task: str
    tool: str
    arguments: dict[str, Any]


CALLS = {
    "helpdesk": ("train-000", "get_order", {"order_id": "W1"}),
    "tau2/airline": ("0", "get_user_details", {"user_id": "mia_li_3668"}),
    "tau2/retail": ("0", "find_user_id_by_name_zip", {"first_name": "Yusuf", "last_name": "Rossi", "zip": "19122"}),
    "tau2/telecom": ("", "get_customer_by_phone", {"phone_number": "555-123-2002"}),
}
"""Environment -> a task ('' for the first of `base`), a tool and its arguments: a look-up that may be repeated."""


def subject(name: str) -> Subject:
    """The environment of `CALLS` by its name.

    Raises:
        UsageError: it is not installed.
    """
    environment = load_environment(name)
    task, tool, arguments = CALLS[name]
    return Subject(name, environment, task or environment.tasks("base")[0].id, tool, arguments)


class CallTime(Record):
    """A tool call through one door in one era; medians, in milliseconds."""

    door: str
    era: str
    served: float
    """Through our server, the environment's own time included."""
    floor: float
    """Through the plain server."""


class ServingTimes(Record):
    """What was measured of one environment; medians, in milliseconds."""

    own: float
    """The episode's own call, without MCP."""
    echo: float
    """A line of the call's length to another process and back, over a socket."""
    calls: tuple[CallTime, ...]
    remote: float
    """The call as `RemoteEnvironment` makes it, over HTTP."""
    listing: float
    """From the start of `serve --stdio` to its answered first listing."""
    listing_floor: float
    """The same of the plain server."""
    reset: float
    """A fresh episode, and its end."""


async def measure(subject: Subject, rounds: int = 15, starts: int = 5) -> ServingTimes:
    """Time `rounds` blocks of calls through every door, and `starts` first listings."""
    with TemporaryDirectory(prefix="trace-agents-bench-") as folder:
        path = Path(folder) / "bare.json"
        path.write_text((await _bare(subject)).model_dump_json())
        episode = await subject.environment.start(subject.environment.task(subject.task))
        try:
            [own] = await _in_turns([partial(episode.call, subject.tool, subject.arguments)], rounds)
        finally:
            await episode.close()
        calls = [await _call_time(subject, path, door, era, rounds) for door in DOORS for era in ERAS]
        plain = StdioServerParameters(command=sys.executable, args=_plain(path, "stdio"))
        return ServingTimes(
            own=own,
            echo=await _echo_time(subject, path, rounds),
            calls=tuple(calls),
            remote=await _remote_time(subject, rounds),
            listing=await _listing_time(_ours(subject), starts),
            listing_floor=await _listing_time(plain, starts),
            reset=await _reset_time(subject, rounds),
        )


async def _bare(subject: Subject) -> Bare:
    episode = await subject.environment.start(subject.environment.task(subject.task))
    try:
        answer = await episode.call(subject.tool, subject.arguments)
        return Bare(tools=tuple(episode.tools), answer=answer.content)
    finally:
        await episode.close()


async def _call_time(subject: Subject, path: Path, door: str, era: str, rounds: int) -> CallTime:
    async with _clients(subject, path, door, ERAS[era]) as clients:
        for client in clients:
            await client.list_tools()
        calls = [partial(client.call_tool, subject.tool, subject.arguments) for client in clients]
        served, floor = await _in_turns(calls, rounds)
    return CallTime(door=door, era=era, served=served, floor=floor)


@asynccontextmanager
async def _clients(subject: Subject, path: Path, door: str, mode: str) -> AsyncIterator[list[Client]]:
    """A client on our server, and one on the plain server."""
    if door == "memory":
        episode = await subject.environment.start(subject.environment.task(subject.task))
        bare = bare_server(Bare.model_validate_json(path.read_bytes()))
        async with Client(episode_server(episode), mode=mode) as ours, Client(bare, mode=mode) as plain:
            yield [ours, plain]
        await episode.close()
    elif door == "stdio":
        parameters = StdioServerParameters(command=sys.executable, args=_plain(path, "stdio"))
        doors = stdio_client(_ours(subject)), stdio_client(parameters)
        async with Client(doors[0], mode=mode) as ours, Client(doors[1], mode=mode) as plain:
            yield [ours, plain]
    else:
        with _process(_served(subject)) as url, _process(_plain(path, "http")) as plain_url:
            remote = await asyncio.to_thread(RemoteEnvironment, url)
            played = await remote.start(await asyncio.to_thread(remote.task, subject.task))
            mcp_url = f"{url}/episodes/{played.id}/mcp"
            async with Client(mcp_url, mode=mode) as ours, Client(plain_url, mode=mode) as plain:
                yield [ours, plain]
            await played.close()


async def _in_turns(calls: Sequence[Call], rounds: int) -> list[float]:
    """The median of each call, in milliseconds: blocks in turns, the first of each left out."""
    taken: list[list[float]] = [[] for _ in calls]
    for number in range(rounds + 1):
        for call, times in zip(calls, taken, strict=True):
            for _ in range(BLOCK):
                clock = time.perf_counter()
                await call()
                if number:
                    times.append(1000 * (time.perf_counter() - clock))
    return [median(times) for times in taken]


async def _echo_time(subject: Subject, path: Path, rounds: int) -> float:
    line = json.dumps({"name": subject.tool, "arguments": subject.arguments}).encode() + b"\n"
    with _process(_plain(path, "echo")) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))

        async def call() -> None:
            writer.write(line)
            await reader.readline()

        [echo] = await _in_turns([call], rounds)
        writer.close()
        await writer.wait_closed()
    return echo


async def _remote_time(subject: Subject, rounds: int) -> float:
    with _process(_served(subject)) as url:
        remote = await asyncio.to_thread(RemoteEnvironment, url)
        episode = await remote.start(await asyncio.to_thread(remote.task, subject.task))
        try:
            [taken] = await _in_turns([partial(episode.call, subject.tool, subject.arguments)], rounds)
        finally:
            await episode.close()
    return taken


async def _listing_time(parameters: StdioServerParameters, starts: int) -> float:
    times = []
    for _ in range(starts):
        clock = time.perf_counter()
        async with Client(stdio_client(parameters)) as client:
            await client.list_tools()
            times.append(1000 * (time.perf_counter() - clock))
    return median(times)


async def _reset_time(subject: Subject, rounds: int) -> float:
    task = subject.environment.task(subject.task)

    async def reset() -> None:
        await (await subject.environment.start(task)).close()

    [taken] = await _in_turns([reset], max(1, rounds // 5))
    return taken


def _ours(subject: Subject) -> StdioServerParameters:
    arguments = ["-m", "trace_agents.cli", "serve", subject.name, "--stdio", "--task", subject.task]
    return StdioServerParameters(command=sys.executable, args=arguments, env=dict(os.environ))


def _served(subject: Subject) -> list[str]:
    return ["-m", "trace_agents.cli", "serve", subject.name, "--port", "0"]


def _plain(path: Path, door: str) -> list[str]:
    return ["-m", "mcp_servers.bare", str(path), door]


@contextmanager
def _process(arguments: Sequence[str]) -> Iterator[str]:
    """The URL that a server's first line on standard error tells; it ends with the context."""
    with subprocess.Popen([sys.executable, *arguments], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            yield next(word for word in line.split() if word.startswith("http://"))
        finally:
            process.terminate()
