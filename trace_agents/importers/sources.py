"""Rows of files and folders: JSON lines, one JSON array, one JSON object that is a row or holds a list of rows, or
Parquet."""

from __future__ import annotations

import codecs
import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from trace_agents.errors import UsageError
from trace_agents.importers import parquet
from trace_agents.importers.json_stream import JsonStream
from trace_agents.importers.rows import Row

HOLDERS = ("simulations", "per_scenario_results", "runs", "traces", "items")
"""Keys under which an object may hold a list of rows; what stands beside the list is their context."""

ENDINGS = (".json", ".jsonl", ".json.gz", ".jsonl.gz", ".parquet")
"""Of the names of files that a folder stands for."""

_PARQUET = b"PAR1"
_GZIP = b"\x1f\x8b"
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_ARCHIVES = {b"PK\x03\x04": "zip", b"\x28\xb5\x2f\xfd": "zstandard", b"\xfd7zX": "xz"}
"""First bytes of a file → what it is packed with."""

_BESIDE = {
    "simulations": ("info",),
    "per_scenario_results": ("category_aggregated_results",),
    "runs": ("cursors",),
    "traces": ("env", "errors"),
    "items": ("next_cursor",),
}
"""Holder → keys of which one stands beside it; a row of another format may use the holder's word itself."""


def rows_of(path: Path) -> Iterator[Row]:
    """The rows of a file.

    Raises:
        UsageError: no such file, an array or an object that is not JSON, or Parquet that cannot be read.
    """
    try:
        head = _head(path)
        if path.suffix == ".parquet" or head == _PARQUET:
            for number, value in enumerate(parquet.values_of(path), start=1):
                yield from _unpacked(_row(path, number, value))
            return
        with _opened(path, head) as stream:
            yield from _rows(path, stream)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UsageError(f"{str(path)!r} is no whole gzip file ({error}): fetch or compress it again") from error
    except OSError as error:
        raise UsageError(f"{str(path)!r} cannot be read ({error.strerror or error}): give another file") from error


def _head(path: Path) -> bytes:
    """The first bytes of a file, which tell its kind.

    Raises:
        UsageError: no such file, or an archive of a kind that is not unpacked.
    """
    if not path.exists():
        raise UsageError(f"missing file {str(path)!r}: give the path of a file or folder of trajectories")
    if not path.is_file():
        raise UsageError(f"{str(path)!r} is neither a file nor a folder: save what it gives to a file first")
    with path.open("rb") as file:
        head = file.read(4)
    if (kind := _ARCHIVES.get(head)) is not None:
        raise UsageError(f"{str(path)!r} is packed with {kind}: unpack it first")
    return head


def _opened(path: Path, head: bytes) -> TextIO:
    """The file's text; one that ends in `.gz`, or begins like gzip, is unpacked as it is read."""
    if path.suffix == ".gz" or head.startswith(_GZIP):
        return gzip.open(path, "rt", encoding="utf-8", errors="replace")
    return path.open(encoding="utf-16" if head.startswith(_UTF_16) else "utf-8", errors="replace")


def _rows(path: Path, stream: TextIO) -> Iterator[Row]:
    kind = _kind(stream)
    stream.seek(0)
    if kind == "lines":
        for number, line in enumerate(stream, start=1):
            if line.strip():
                yield from _unpacked(_parsed(path, number, line))
        return
    try:
        yield from _array(path, JsonStream(stream)) if kind == "array" else _object(path, JsonStream(stream))
    except ValueError as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else error
        told = f"begins like a JSON {kind} and is none ({reason})"
        raise UsageError(f"{str(path)!r} {told}: mend the file") from error


def _kind(stream: Iterable[str]) -> str:
    """`array`, `object` (spread over lines) or `lines`."""
    full = (line for line in map(_stripped, stream) if line)
    first = next(full, "")
    if first.startswith("["):
        return "array"
    if not first.startswith("{") or _is_json(first):
        return "lines"
    # The first line of JSON lines may be broken; the second is then an object of its own.
    second = next(full, "{}")
    return "lines" if second.startswith("{") and _is_json(second) else "object"


def _stripped(line: str) -> str:
    return line.strip().removeprefix("\ufeff").strip()


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _array(path: Path, stream: JsonStream) -> Iterator[Row]:
    for number, value in enumerate(stream.items(), start=1):
        yield from _unpacked(_row(path, number, value))
    _ended(stream)


def _object(path: Path, stream: JsonStream) -> Iterator[Row]:
    """The object as a row, or the rows of the list that it holds, one at a time."""
    members: dict[str, Any] = {}
    held = False
    for key in stream.members():
        if key in HOLDERS and stream.peek() == "[" and _beside(key, members):
            held = True
            for number, value in enumerate(stream.items(), start=1):
                yield _row(path, number, value, members)
        else:
            members[key] = stream.value()
    _ended(stream)
    if not held:
        yield from _unpacked(_row(path, 1, members))


def _ended(stream: JsonStream) -> None:
    if stream.peek():
        raise ValueError("something follows its end")


def _beside(holder: str, members: Mapping[str, Any]) -> bool:
    return any(key in members for key in _BESIDE[holder])


def _unpacked(row: Row) -> Iterator[Row]:
    """The row, or the rows that it holds; a trace has the number of its episode."""
    value = row.value or {}
    key = next((key for key in HOLDERS if isinstance(value.get(key), list) and _beside(key, value)), None)
    if key is None or (key == "traces" and not value[key]):
        yield row
        return
    context = {name: other for name, other in value.items() if name != key}
    for number, held in enumerate(value[key], start=1):
        yield _row(row.file, row.number if key == "traces" else number, held, context)


def _parsed(path: Path, number: int, line: str) -> Row:
    try:
        return _row(path, number, json.loads(line.removeprefix("\ufeff")), escaped="\\ud" in line.lower())
    except (ValueError, RecursionError) as error:
        return Row(path, number, None, f"not JSON: {error}")


def _row(path: Path, number: int, value: Any, context: Mapping[str, Any] | None = None, escaped: bool = True) -> Row:
    if not isinstance(value, dict):
        return Row(path, number, None, f"a JSON object is wanted, not {type(value).__name__}")
    return Row(path, number, _whole(value) if escaped else value, None, context or {})


def _whole(value: Any) -> Any:
    """`value` with halves of broken characters, which no text can hold, replaced."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_whole(key): _whole(item) for key, item in value.items()}
    return [_whole(item) for item in value] if isinstance(value, list) else value


def read_json(path: Path) -> Any:
    """What a whole JSON file says.

    Raises:
        UsageError: it cannot be read, or is not JSON.
    """
    try:
        return _whole(json.loads(path.read_text(encoding="utf-8", errors="replace")))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{str(path)!r} cannot be read ({error}): mend the file") from error


def files_in(folder: Path) -> Iterator[Path]:
    """Files of JSON and of Parquet under a folder, in order; hidden ones are left out."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.name.endswith(ENDINGS) and path.is_file() and not hidden:
            yield path
