"""Standard input and output on the event loop: MCP's own way passes every line through threads, which takes as long
again as all else that a call costs."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio

LONGEST_LINE = 256 * 2**20
"""Bytes of the longest message that is read."""


@asynccontextmanager
async def standard_streams() -> AsyncIterator[tuple[Any, Any]]:
    """`stdin` and `stdout` for MCP's `stdio_server`, or both None, where it must do with its own.

    Those that are no pipes or sockets are left to MCP: a file is always ready, and a terminal is shared with others,
    who do not expect it to be non-blocking. Meanwhile descriptor 0 is empty and 1 is standard error, so that stray
    prints, of children too, stay out of the protocol.
    """
    if not _are_pipes():
        yield None, None
        return
    with _diverted() as (incoming, outgoing):
        reader = asyncio.StreamReader(limit=LONGEST_LINE)
        pipe = os.fdopen(os.dup(incoming), "rb", buffering=0)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        os.set_blocking(outgoing, False)
        try:
            yield _Lines(reader), _Out(outgoing)
        finally:
            transport.close()
            os.set_blocking(outgoing, True)


class _Lines:
    """The lines that arrive."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader

    def __aiter__(self) -> _Lines:
        return self

    async def __anext__(self) -> str:
        line = await self._reader.readline()
        if not line:
            raise StopAsyncIteration
        return line.decode(errors="replace")


class _Out:
    """What is written arrives whole: at once where the pipe has room."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def write(self, text: str) -> None:
        left = memoryview(text.encode())
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:
                await anyio.wait_writable(self._descriptor)
            except BrokenPipeError as error:
                raise anyio.ClosedResourceError from error  # The client has gone: MCP ends the connection.

    async def flush(self) -> None:
        """Nothing is held back."""


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
