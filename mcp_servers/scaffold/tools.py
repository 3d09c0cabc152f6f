"""What a new benchmark's files say of a server that is there already."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from mcp_servers.wrapped.benchmark import Benchmark
from mcp_servers.wrapped.description import (
    CheckSection,
    Description,
    ResetSection,
    ServerSection,
    TaskRow,
)
from mcp_servers.wrapped.fitting import signature
from mcp_servers.wrapped.live import LiveServer
from trace_agents.errors import InfrastructureError, UsageError
from trace_agents.types import ToolSpec


def look(command: Sequence[str], url: str) -> tuple[Sequence[ToolSpec], str]:
    """All tools of a server, and what it tells agents.

    Args:
        command: what starts it in the current folder; or
        url: where it runs.

    Raises:
        UsageError: it does not answer.
    """
    described = Description(
        name="new",
        server=ServerSection(command=tuple(command), url=url),
        reset=ResetSection(by_connection=bool(url)),
        check=CheckSection(function="check.py:check"),  # Not looked for: nothing is judged.
    )
    benchmark = Benchmark(Path("benchmark.toml"), described, ())
    try:
        return asyncio.run(_look(benchmark))
    except InfrastructureError as error:
        raise UsageError(f"{error}: mend the server, or give another --command or --url") from error


async def _look(benchmark: Benchmark) -> tuple[Sequence[ToolSpec], str]:
    live = await LiveServer.look(benchmark, TaskRow(id="new", prompt="new"))
    try:
        return live.tools, live.instructions
    finally:
        await live.close()


def described(spec: ToolSpec) -> str:
    """A tool in a line."""
    first = spec.description.strip().splitlines()[:1]
    return signature(spec) + "".join(f": {line:.80}" for line in first)


def readers(tools: Sequence[ToolSpec]) -> Sequence[ToolSpec]:
    """Tools that say of themselves that they only read, and need no arguments."""
    return [spec for spec in tools if (spec.annotations or {}).get("readOnlyHint") and not _required(spec)]


def _required(spec: ToolSpec) -> Sequence[str]:
    return list(spec.input_schema.get("required", ()))
