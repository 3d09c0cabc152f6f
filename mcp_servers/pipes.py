"""Standard input and output as MCP's streams, on the event loop: MCP's own transport passes every line through threads
and two more tasks, which takes as long again as all else that a call costs."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import Any, Self

import anyio
import mcp_types as types
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage

LONGEST_LINE = 256 * 2**20
"""Bytes of the longest message that is read."""


@asynccontextmanager
async def standard_streams() -> AsyncIterator[tuple[Any, Any]]:
    """The read and the write stream that an MCP server runs on.

    Those that are no pipes or sockets are left to MCP: a file is always ready, and a terminal is shared with others,
    who do not expect it to be non-blocking. Meanwhile descriptor 0 is empty and 1 is standard error, so that stray
    prints, of children too, stay out of the protocol.
    """
    if not _are_pipes():
        async with stdio_server() as streams:
            yield streams
        return
    with _diverted() as (incoming, outgoing):
        reader = asyncio.StreamReader(limit=LONGEST_LINE)
        pipe = os.fdopen(os.dup(incoming), "rb", buffering=0)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        os.set_blocking(outgoing, False)
        try:
            yield _Incoming(reader), _Outgoing(outgoing)
        finally:
            transport.close()
            os.set_blocking(outgoing, True)


class _Stream:
    """What MCP asks of a stream besides its items; whoever made it closes it."""

    async def aclose(self) -> None:
        """Nothing is held."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class _Incoming(_Stream):
    """The messages that arrive, a line each; of a line that is none, its fault."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader

    async def receive(self) -> SessionMessage | Exception:
        line = await self._reader.readline()
        if not line:
            raise anyio.EndOfStream
        try:
            text = line.decode(errors="replace")
            return SessionMessage(types.jsonrpc_message_adapter.validate_json(text, by_name=False))
        except ValueError as error:
            return error

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None


class _Outgoing(_Stream):
    """Messages are written whole and one after the other: at once where the pipe has room."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._turn = asyncio.Lock()

    async def send(self, item: SessionMessage) -> None:
        text = item.message.model_dump_json(by_alias=True, exclude_unset=True)
        async with self._turn:
            left = self._written(memoryview(f"{text}\n".encode()))
            if left:
                with anyio.CancelScope(shield=True):  # A line that has begun is ended, though its request be cancelled.
                    while left:
                        await anyio.wait_writable(self._descriptor)
                        left = self._written(left)

    def _written(self, line: memoryview) -> memoryview:
        """What is left of `line`.

        Raises:
            ClosedResourceError: the client has gone, which ends the connection.
        """
        try:
            return line[os.write(self._descriptor, line) :]
        except BlockingIOError:
            return line
        except BrokenPipeError as error:
            raise anyio.ClosedResourceError from error


@contextmanager
def _diverted() -> Iterator[tuple[int, int]]:
    """The pipes as descriptors of their own, while 0 is empty and 1 is standard error; put back at the end."""
    sys.stdout.flush()
    kept = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    try:
        yield kept
    finally:
        sys.stdout.flush()
        for number, descriptor in enumerate(kept):
            os.dup2(descriptor, number)
            os.close(descriptor)


def _are_pipes() -> bool:
    try:
        incoming, outgoing, errors = map(os.fstat, range(3))
    except OSError:  # One of them is closed.
        return False
    if os.path.samestat(outgoing, errors):
        return False
    return all(stat.S_ISFIFO(one.st_mode) or stat.S_ISSOCK(one.st_mode) for one in (incoming, outgoing))
