"""An MCP client that is kept open between the calls of whoever holds it, and may be used from any task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from mcp.client import Client

from mcp_servers.memory import leaf


class HeldClient:
    """A client that connects when first needed, and stays connected until it is closed.

    A client's context must be left by the task that entered it, while an episode's calls and its close may come from
    different ones: a task of its own holds the context open.
    """

    def __init__(self, make: Callable[[], AbstractAsyncContextManager[Client]]) -> None:
        """A client that has not connected; `make` gives the context to enter."""
        self._make = make
        self._closing = asyncio.Event()
        self._client: asyncio.Future[Client] | None = None
        self._holder: asyncio.Task[None] | None = None

    async def connected(self) -> Client:
        """The client, connected.

        Raises:
            Exception: what kept it from connecting, for every caller.
        """
        if self._client is None:
            self._client = asyncio.get_running_loop().create_future()
            self._holder = asyncio.create_task(self._hold(self._client))
        return await asyncio.shield(self._client)

    async def close(self) -> None:
        """Leave the client's context; one that is still connecting is given up. Idempotent."""
        self._closing.set()
        if self._holder is None or self._client is None:
            return
        if not self._client.done():
            self._holder.cancel()
        await asyncio.wait([self._holder])

    async def _hold(self, connected: asyncio.Future[Client]) -> None:
        try:
            async with self._make() as client:
                connected.set_result(client)
                await self._closing.wait()
        except Exception as error:
            # After connecting, a broken connection has told its callers already; before, they wait for this.
            if not connected.done():
                connected.set_exception(leaf(error))
                connected.exception()  # Seen, though nobody may be waiting any more.
        finally:
            connected.cancel()  # Where it was given up before it connected.
