"""How much memory a process and its children hold at once, watched while they work."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Self

PROC = Path("/proc")


class MemoryWatch:
    """Samples the resident memory of this process and all its descendants; `peak` is the largest sum seen.

    Shared pages count once for each process, so the figure errs upwards. Only Linux tells; elsewhere `peak` stays 0.
    """

    def __init__(self, every: float = 0.25) -> None:
        """`every`: seconds between samples."""
        self.peak = 0
        """Bytes."""
        self._every = every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory-watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self._every):
            self.peak = max(self.peak, sum(map(resident, family("self"))))


def family(pid: str) -> list[str]:
    """The process and its descendants, as far as they still live."""
    found, waiting = [], [pid]
    while waiting:
        process = waiting.pop()
        found.append(process)
        try:
            for task in (PROC / process / "task").iterdir():
                waiting += (task / "children").read_text().split()
        except OSError:  # It ended meanwhile, or this is not Linux.
            continue
    return found


def resident(pid: str) -> int:
    """Resident bytes of a process; 0 once it has ended."""
    try:
        lines = (PROC / pid / "status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:")), 0)
