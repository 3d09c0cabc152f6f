"""Folders for as long as something plays; what a killed process left behind, the next one removes.

Each folder lies in one of its own that holds a locked file. The kernel lets go of the lock however its process ends, so
a folder whose lock is free is nobody's; one without such a file, or of another user, is not touched.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

OWNER = ".owner"
"""The locked file."""
MOST = 256
"""Left folders that a sweep removes; the others are for the next one."""

_swept: set[str] = set()
"""Prefixes whose left folders this process has looked for."""


@contextmanager
def scratch(prefix: str) -> Iterator[Path]:
    """An empty folder among the system's temporary ones, without links in its path; gone at the end of the context.

    The first of a process and `prefix` removes what killed processes left under that prefix.
    """
    if prefix not in _swept:
        _swept.add(prefix)
        sweep(prefix)
    outer = Path(tempfile.mkdtemp(prefix=prefix)).resolve()
    owner = None
    try:
        owner = _own(outer)
        inner = outer / "files"
        inner.mkdir()
        yield inner
    finally:
        _remove(outer)
        if owner is not None:
            os.close(owner)


def sweep(prefix: str) -> list[Path]:
    """Remove folders under `prefix` whose process has ended, at most `MOST`; which ones."""
    removed: list[Path] = []
    for outer in sorted(Path(tempfile.gettempdir()).glob(f"{prefix}*")):
        if len(removed) == MOST:
            break
        # What changes while it is looked at is somebody's.
        with contextlib.suppress(OSError):
            if outer.is_symlink() or not outer.is_dir() or outer.stat().st_uid != os.getuid():
                continue
            owner = os.open(outer / OWNER, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(outer)
                removed.append(outer)
            finally:
                os.close(owner)
    return removed


def _remove(outer: Path) -> None:
    """The folder with all that is in it, write-protected folders too."""
    for place, names, _ in os.walk(outer):
        for inner in (Path(place) / name for name in names):
            with contextlib.suppress(OSError):
                if not inner.is_symlink():
                    inner.chmod(0o700)
    shutil.rmtree(outer, ignore_errors=True)


def _own(outer: Path) -> int:
    """Lock the folder's file; it has its name only then, so that no sweep finds it free."""
    making = outer / f"{OWNER}.part"
    owner = os.open(making, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    with contextlib.suppress(OSError):  # A file system without locks: the folder is never swept.
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        making.rename(outer / OWNER)
    return owner
