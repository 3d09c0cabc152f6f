"""A limit on what a tool may compute: upstream's evaluate what the agent writes, and some of that has no end."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

CALL_S = 10.0
"""Seconds of computing that a tool call may take; upstream's take milliseconds."""


@contextlib.contextmanager
def computing(seconds: float) -> Iterator[None]:
    """Raise `TimeoutError` inside after `seconds` of this process's computing, however busy the machine is."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"the tool was stopped: it computed for {seconds:g} s")

    held = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, held)
