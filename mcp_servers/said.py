"""What a process said last, for an error that is about its end."""

from __future__ import annotations

import os
from typing import IO

LONGEST = 64 * 2**10
"""Bytes that are looked at, from the end."""
SHOWN = 300
"""Characters of a line that an error shows."""


def tail(log: IO[bytes]) -> str:
    """The end of a file that a process writes to; the place where the next is written is not moved."""
    size = os.fstat(log.fileno()).st_size
    return os.pread(log.fileno(), LONGEST, max(0, size - LONGEST)).decode(errors="replace")


def last_words(said: str) -> str:
    """The last line that tells of an error, or else the last; empty where nothing was said."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    telling = (line for line in reversed(lines) if "error" in line.lower())
    return next(telling, lines[-1] if lines else "")[:SHOWN]


def in_brackets(said: str) -> str:
    """The last words as they end a message; empty where nothing was said."""
    words = last_words(said)
    return f" (its last words: {words})" if words else ""
