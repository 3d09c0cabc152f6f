"""The MCP server of one episode: started or reached, reset, called, and let go."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any, TextIO, cast

import httpx2
import mcp_types as types
from mcp import StdioServerParameters
from mcp.client import Client, Transport
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from mcp_servers.client import HeldClient
from mcp_servers.listing import stated_tools
from mcp_servers.said import in_brackets, tail
from mcp_servers.server import tool_result
from mcp_servers.tls import tls_context
from mcp_servers.wrapped.alias import Alias
from mcp_servers.wrapped.benchmark import Benchmark
from mcp_servers.wrapped.description import Call, Read, TaskRow
from mcp_servers.wrapped.fitting import check_calls
from mcp_servers.wrapped.programs import run
from trace_agents.errors import InfrastructureError
from trace_agents.scratch import scratch
from trace_agents.types import ToolResult, ToolSpec

_GONE = (types.CONNECTION_CLOSED, types.REQUEST_TIMEOUT)
"""Codes of errors that the client makes itself; all others are the server's answers."""


class _OneLine(logging.Filter):
    """A server's line that is no message of the protocol, such as a greeting, is worth a line and no traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep the record, without its traceback."""
        record.exc_info = record.exc_text = None
        return True


_ONE_LINE = _OneLine()


class LiveServer:
    """One connection to the benchmark's MCP server, and the state behind it."""

    def __init__(self, benchmark: Benchmark, row: TaskRow) -> None:
        """A server that is not connected, for the task of `row`."""
        self.row = row
        self.folder: Path
        """The episode's own folder, gone when the server is closed."""
        self.alias = Alias("", Path())
        """Its name to everybody but the server."""
        self.tools: Sequence[ToolSpec] = ()
        """All tools of the server."""
        self.instructions = ""
        """What the server tells agents."""
        self.broken = False
        """It failed, and is not to be used again."""
        self._benchmark = benchmark
        self._seconds = benchmark.described.server.timeout_s
        self._held = HeldClient(self._opened)
        self._said: IO[bytes] | None = None
        self._words = ""

    @classmethod
    async def begin(cls, benchmark: Benchmark, row: TaskRow) -> LiveServer:
        """A server ready for `row`: state laid out, server connected, calls made.

        Raises:
            InfrastructureError: the state cannot be laid out, or the server cannot be reached.
            UsageError: what the benchmark calls does not fit the server's tools.
        """
        live = await cls.look(benchmark, row)
        try:
            await live._make_state()
        except BaseException:
            await live.close()
            raise
        return live

    @classmethod
    async def look(cls, benchmark: Benchmark, row: TaskRow) -> LiveServer:
        """A server that is connected for `row`, and not called yet. Raises as `begin` does."""
        logging.getLogger("mcp.client.stdio").addFilter(_ONE_LINE)
        live = cls(benchmark, row)
        try:
            await live._connect()
            check_calls(benchmark, row, live.tools)
        except BaseException:
            await live.close()
            raise
        return live

    async def begin_again(self, row: TaskRow) -> None:
        """The same server, reset for `row`.

        Raises:
            InfrastructureError: it cannot be.
        """
        self.row = row
        try:
            await asyncio.to_thread(_empty, self.folder)
            await self._lay_out()
            await self._make_state()
        except BaseException:
            await self.close()
            raise

    async def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        """The server's answer; its refusals are `is_error` results.

        Raises:
            InfrastructureError: the server is gone, takes too long, or breaks the protocol or its own schemas.
        """
        try:
            client = await self._held.connected()
            given = self.alias.inward(dict(arguments))
            result = await client.call_tool(name, given, read_timeout_seconds=self._seconds)
            return self.alias.result(tool_result(result))
        except MCPError as error:
            if error.code in _GONE:
                raise self._failed(f"during tool {name!r}", error) from error
            return ToolResult(content=self.alias.outward(str(error)), is_error=True)
        except (httpx2.HTTPError, OSError, RuntimeError, ValueError) as error:
            raise self._failed(f"during tool {name!r}", error) from error
        except asyncio.CancelledError:
            self.broken = True  # The server may still be at it.
            raise

    async def must(self, call: Call, purpose: str) -> ToolResult:
        """The answer to a call of the benchmark's own, which has to succeed.

        Raises:
            InfrastructureError: it did not.
        """
        result = await self.call(call.name, call.arguments)
        if result.is_error:
            problem = f"tool {call.name!r}, called {purpose} of task {self.row.id!r}, failed"
            raise InfrastructureError(f"{problem}: {result.content:.300}")
        return result

    async def read(self, reads: Iterable[Read]) -> tuple[Any, ...]:
        """What each read gives: JSON where it is JSON, else text.

        Raises:
            InfrastructureError: one cannot be read.
        """
        return tuple([await self._read(one) for one in reads])

    async def _read(self, read: Read) -> Any:
        if read.name is not None:
            result = await self.must(Call(name=read.name, arguments=read.arguments), "to read the state")
            return _value(result.content) if result.structured is None else result.structured
        try:
            client = await self._held.connected()
            uri = self.alias.inward(str(read.resource))
            found = await asyncio.wait_for(client.read_resource(uri), self._seconds)
        except (MCPError, httpx2.HTTPError, OSError, RuntimeError, ValueError) as error:
            raise self._failed(f"reading resource {read.resource!r}", error) from error
        parts = [one.text if isinstance(one, types.TextResourceContents) else one.blob for one in found.contents]
        return _value(self.alias.outward("\n".join(parts)))

    async def close(self) -> None:
        """End the connection and what was started for it. Idempotent."""
        await self._held.close()

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Client]:
        """Everything that is there as long as the connection: folder, state, process or HTTP client."""
        # Without links, as a server may state the folder as the system knows it.
        with scratch("trace-agents-episode-") as self.folder:
            self.alias = Alias(self._benchmark.described.folder_as, self.folder)
            await self._lay_out()
            async with self._transport() as transport, Client(transport, cache=None) as client:
                yield client

    async def _lay_out(self) -> None:
        """The episode's folder filled, and the reset command run."""
        reset = self._benchmark.described.reset
        for name in (reset.snapshot, self.row.snapshot):
            if name:
                source = self._benchmark.here / name
                await asyncio.to_thread(shutil.copytree, source, self.folder, symlinks=True, dirs_exist_ok=True)
        if reset.command:
            given = self.row.model_dump_json()
            await run(self._filled(reset.command), (self._benchmark.here, reset.timeout_s), given, "[reset] command")

    @asynccontextmanager
    async def _transport(self) -> AsyncIterator[Transport]:
        server = self._benchmark.described.server
        if server.url:
            timeout, headers = httpx2.Timeout(self._seconds), self._benchmark.headers
            async with httpx2.AsyncClient(verify=tls_context(), timeout=timeout, headers=headers) as http:
                yield streamable_http_client(server.url, http_client=http)
            return
        command = self._filled(server.command)
        parameters = StdioServerParameters(
            command=command[0],
            args=command[1:],
            env={name: self._filled([value])[0] for name, value in self._benchmark.env.items()},
            cwd=self._filled([server.cwd])[0],
        )
        with tempfile.TemporaryFile() as self._said:
            try:
                yield stdio_client(parameters, errlog=cast(TextIO, self._said))
            finally:
                self._words = tail(self._said)

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                client = await self._held.connected()
                self.tools = await stated_tools(client)
        except InfrastructureError:
            raise
        except Exception as error:  # A server of someone else's may fail in any way while it starts.
            raise self._failed("while connecting", error) from error
        self.tools = [self.alias.spec(spec) for spec in self.tools]
        self.instructions = self.alias.outward(client.instructions or "")

    async def _make_state(self) -> None:
        for call in (*self._benchmark.described.reset.calls, *self.row.setup):
            await self.must(call, "to reset the state")

    def _filled(self, texts: Iterable[str]) -> list[str]:
        return [self._benchmark.filled(text, self.folder, self.row.id) for text in texts]

    def _failed(self, when: str, error: BaseException) -> InfrastructureError:
        self.broken = True
        server = self._benchmark.described.server
        # {folder} and {task} stay, so that one cause reads alike in every episode.
        named = server.url or self._benchmark.filled(" ".join(server.command), Path("{folder}"), "{task}")
        reason = f"no answer in {self._seconds:g} s" if isinstance(error, TimeoutError) else str(error)
        said = self._words if self._said is None or self._said.closed else tail(self._said)
        told = f"MCP server {named!r} failed {when}: {reason or type(error).__name__}{in_brackets(said)}"
        return InfrastructureError(self.alias.outward(told))


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
