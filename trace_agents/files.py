"""Files that survive a kill: atomic replacement, and append-only JSON lines whose torn tail is recovered."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from trace_agents.errors import UsageError


def write_atomically(path: Path, data: str | bytes) -> None:
    """Replace `path` by `data`: readers see the old file or the new one, never a part.

    A path that exists and is no regular file (a terminal, a pipe) is written to directly.
    """
    _replace(path, [data.encode() if isinstance(data, str) else data])


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """`write_atomically` for lines of any number: they are written as they come, never held together."""
    _replace(path, _batched(lines))


def _batched(lines: Iterable[str], characters: int = 1 << 20) -> Iterator[bytes]:
    held: list[str] = []
    size = 0
    for line in lines:
        held.append(line)
        size += len(line)
        if size >= characters:
            yield "".join(f"{one}\n" for one in held).encode()
            held, size = [], 0
    yield "".join(f"{one}\n" for one in held).encode()


def _replace(path: Path, parts: Iterable[bytes]) -> None:
    if path.exists() and not path.is_file():
        with _naming(path), path.open("wb", buffering=0) as stream:
            for part in parts:
                _write_all(stream, part)
        return
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with _naming(path), os.fdopen(descriptor, "wb", buffering=0) as stream:
            os.fchmod(stream.fileno(), 0o644)
            for part in parts:
                _write_all(stream, part)
            os.fsync(stream.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut; some file systems cannot, and say so."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def append_lines(path: Path, lines: Iterable[str]) -> None:
    """Append whole lines to `path` and sync them; on failure the file is cut back to what it was."""
    payload = "".join(f"{line}\n" for line in lines).encode()
    if not payload:
        return
    with _naming(path), path.open("ab", buffering=0) as stream:
        regular = path.is_file()
        start = stream.seek(0, os.SEEK_END) if regular else 0
        try:
            _write_all(stream, payload)
            if regular:
                os.fsync(stream.fileno())
        except OSError:
            if regular:
                stream.truncate(start)
            raise


def _write_all(stream: io.RawIOBase, payload: bytes) -> None:
    """Every byte: a short write means that the disk is nearly full, and writing the rest raises the reason."""
    rest = memoryview(payload)
    while rest:
        rest = rest[stream.write(rest) or 0 :]


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Give an `OSError` of a write the file's name, which the system leaves out."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def check_folder(path: Path, name: str) -> None:
    """Refuse, before any work, a path where no folder can be; `name` is what the user calls it.

    Raises:
        UsageError: it, or what should hold it, is a file.
    """
    there = next((one for one in (path, *path.parents) if one.exists()), path)
    if there.exists() and not there.is_dir():
        raise UsageError(f"{name} {str(path)!r} cannot be a folder, for {str(there)!r} is a file: give another path")


def mend_tail(path: Path) -> int:
    """Repair the last line of a JSON-lines file after a kill; returns the bytes dropped.

    A tail without a line end is kept where it is a whole JSON value and cut off where it is not.
    """
    if not path.is_file() or path.stat().st_size == 0:
        return 0
    with path.open("r+b") as stream:
        tail = _unended_tail(stream)
        if not tail:
            return 0
        if _is_json(tail):
            stream.seek(0, os.SEEK_END)
            stream.write(b"\n")
            return 0
        stream.truncate(stream.seek(0, os.SEEK_END) - len(tail))
        return len(tail)


def _unended_tail(stream: Any, block: int = 1 << 16) -> bytes:
    """Bytes after the last line end."""
    position = stream.seek(0, os.SEEK_END)
    tail = b""
    while position > 0 and b"\n" not in tail:
        step = min(block, position)
        position = stream.seek(position - step)
        tail = stream.read(step) + tail
    return tail[tail.rfind(b"\n") + 1 :]


def _is_json(raw: bytes) -> bool:
    try:
        json.loads(raw)
    except ValueError:
        return False
    return True


def read_lines(path: Path, wanted: Callable[[bytes], bool] | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number (from 1) and object of each line; a torn last line, left by a kill, is not yet written.

    Lines that are not `wanted` are passed over without being decoded, where a file has millions of them.

    Raises:
        UsageError: no such file, or a line that is not a JSON object, with its number.
    """
    try:
        stream = path.open("rb")
    except FileNotFoundError as error:
        raise missing(path) from error
    with stream:
        for number, raw in enumerate(stream, start=1):
            if not raw.strip() or (wanted is not None and not wanted(raw)):
                continue
            try:
                row = json.loads(raw)
            except ValueError as error:
                if not raw.endswith(b"\n"):
                    return
                raise bad_line(path, number, str(error)) from error
            if not isinstance(row, dict):
                raise bad_line(path, number, f"a JSON object is wanted, not {type(row).__name__}")
            yield number, row


def bad_line(path: Path, number: int, reason: str) -> UsageError:
    """The error for a malformed line."""
    return UsageError(f"line {number} of {str(path)!r} is malformed ({reason}): mend or remove that line")


def missing(path: Path) -> UsageError:
    """The error for a file that a run should have; lists what is there."""
    there = sorted(entry.name for entry in path.parent.iterdir()) if path.parent.is_dir() else []
    found = ", ".join(repr(name) for name in there if not name.startswith(".")) or "nothing"
    return UsageError(f"missing file {str(path)!r}: its folder has {found}; check the path, or run the stage before")


def digest(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form, for telling whether a stage's inputs changed."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of a file, or of every file below a folder with its relative path; empty where there is none."""
    if path.is_dir():
        files = sorted(entry for entry in path.rglob("*") if entry.is_file() and "__pycache__" not in entry.parts)
        return digest([[str(entry.relative_to(path)), digest_file(entry)] for entry in files])
    if not path.exists():
        return ""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
