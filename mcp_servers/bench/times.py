"""How long serving takes: a tool call through every door and era beside the floor, the first listing, the reset.

The floor is a plain low-level MCP server (`bare.py`) with the same tools and the same answer, called by the same client
in turns with ours, so that a busy machine slows both. Over stdio and HTTP two clients call: one that only writes and
reads bytes (`raw.py`), which waits for the server alone, and MCP's own for Python, which takes time of its own.
`python -m graphs.bench --only serving` prints it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from mcp import StdioServerParameters
from mcp.client import Client
from mcp.client.stdio import stdio_client

from mcp_servers.bench.bare import Bare
from mcp_servers.bench.doors import DOORS, ERAS, RAW_DOORS, Call, by_mcp_client, by_raw_client
from mcp_servers.bench.subject import Floor, Subject, serving
from mcp_servers.remote import RemoteEnvironment
from trace_agents.types import Record

BLOCK = 20
"""Calls of one side before the other's turn."""


class CallTime(Record):
    """A tool call through one door in one era, by one client; medians, in milliseconds."""

    door: str
    era: str
    client: str
    """`raw`, which only writes and reads bytes, or `mcp`, MCP's own for Python."""
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
        floor = Floor(Path(folder) / "bare.json")
        floor.file.write_text((await _bare(subject)).model_dump_json())
        return ServingTimes(
            own=await _own_time(subject, rounds),
            echo=await _echo_time(subject, floor, rounds),
            calls=await _call_times(subject, floor, rounds),
            remote=await _remote_time(subject, rounds),
            listing=await _listing_time(subject.over_stdio(), starts),
            listing_floor=await _listing_time(floor.over_stdio(), starts),
            reset=await _reset_time(subject, rounds),
        )


async def _bare(subject: Subject) -> Bare:
    episode = await subject.environment.start(subject.environment.task(subject.task))
    try:
        answer = await episode.call(subject.tool, subject.arguments)
        return Bare(tools=tuple(episode.tools), answer=answer.content)
    finally:
        await episode.close()


async def _own_time(subject: Subject, rounds: int) -> float:
    episode = await subject.environment.start(subject.environment.task(subject.task))
    try:
        [own] = await _in_turns([partial(episode.call, subject.tool, subject.arguments)], rounds)
    finally:
        await episode.close()
    return own


async def _call_times(subject: Subject, floor: Floor, rounds: int) -> tuple[CallTime, ...]:
    times = []
    for name, client, doors in (("raw", by_raw_client, RAW_DOORS), ("mcp", by_mcp_client, DOORS)):
        for door in doors:
            for era in ERAS:
                async with client(subject, floor, door, era) as calls:
                    served, plain = await _in_turns(calls, rounds)
                times.append(CallTime(door=door, era=era, client=name, served=served, floor=plain))
    return tuple(times)


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


async def _echo_time(subject: Subject, floor: Floor, rounds: int) -> float:
    line = json.dumps({"name": subject.tool, "arguments": subject.arguments}).encode() + b"\n"
    with serving(floor.arguments("echo")) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))

        async def call() -> None:
            writer.write(line)
            await reader.readline()

        [echo] = await _in_turns([call], rounds)
        writer.close()
        await writer.wait_closed()
    return echo


async def _remote_time(subject: Subject, rounds: int) -> float:
    with serving(subject.over_http()) as url:
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
