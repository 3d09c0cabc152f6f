"""How many episodes may be live at once, on any event loops."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque

from trace_agents.errors import InfrastructureError


class Turns:
    """A semaphore that event loops share, first come first served."""

    def __init__(self, count: int, wait_s: float) -> None:
        """`count` turns; waiting longer than `wait_s` seconds for one is an error."""
        self._count = count
        self._free = count
        self._wait_s = wait_s
        self._lock = threading.Lock()
        self._waiting: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()

    async def take(self) -> None:
        """Wait for a turn.

        Raises:
            InfrastructureError: none came free in time.
        """
        with self._lock:
            if self._free:
                self._free -= 1
                return
            loop = asyncio.get_running_loop()
            turn = loop.create_future()
            self._waiting.append((loop, turn))
        try:
            async with asyncio.timeout(self._wait_s):
                await turn
        except BaseException as error:
            self._give_up(loop, turn)
            if not isinstance(error, TimeoutError):
                raise
            live = f"{self._count} episode{'' if self._count == 1 else 's'}"
            raise InfrastructureError(
                f"no turn came free in {self._wait_s:g} s: this environment plays {live} at once; close episodes as "
                "they end, or play fewer at once"
            ) from None

    def give(self) -> None:
        """Give a turn back: the longest waiting gets it."""
        with self._lock:
            while self._waiting:
                loop, turn = self._waiting.popleft()
                with contextlib.suppress(RuntimeError):  # Its loop has closed: it waits no more.
                    loop.call_soon_threadsafe(self._hand, turn)
                    return
            self._free += 1

    def _hand(self, turn: asyncio.Future[None]) -> None:
        if turn.done():  # Its asker was cancelled before it got here.
            self.give()
        else:
            turn.set_result(None)

    def _give_up(self, loop: asyncio.AbstractEventLoop, turn: asyncio.Future[None]) -> None:
        if turn.done() and not turn.cancelled():
            self.give()  # It was handed over as the asker was cancelled.
            return
        turn.cancel()
        with self._lock, contextlib.suppress(ValueError):
            self._waiting.remove((loop, turn))
