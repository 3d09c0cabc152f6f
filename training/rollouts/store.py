"""Traces on disk: append-only JSON lines in verifiers' trace schema, read back strictly."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import verifiers.v1 as vf
from pydantic import ValidationError
from verifiers.v1.trace import EXCLUDE_FIELDS, TRACE_VERSION

from trace_agents.errors import UsageError
from trace_agents.files import bad_line, mend_tail, missing


def trace_line(trace: vf.Trace) -> str:
    """The trace as one line of JSON, in verifiers' schema, with log-probabilities to the last digit."""
    return trace.model_dump_json(exclude=EXCLUDE_FIELDS, context={"float_decimals": None})


class TraceWriter:
    """Appends traces to a file; each is a whole line that the system holds before `write` returns.

    A last line that a kill had torn is cut off first. One writer a file.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        mend_tail(self.path)
        self._stream = self.path.open("ab", buffering=0)

    def write(self, trace: vf.Trace) -> None:
        """Append one trace; on a full disk the file is cut back to whole lines and the error says so."""
        start = self._stream.tell()
        rest = memoryview(f"{trace_line(trace)}\n".encode())
        try:
            while rest:
                rest = rest[self._stream.write(rest) or 0 :]
        except OSError as error:
            if self.path.is_file():
                self._stream.truncate(start)
            error.filename = error.filename or str(self.path)
            raise

    def close(self) -> None:
        """Idempotent."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_traces(path: Path | str, skip_bad: bool = False) -> Iterator[vf.WireTrace]:
    """The traces in the file at `path`, in order; a last line torn by a kill counts as not written.

    Tasks come back in wire form: `trace.task.data.environment` and the other fields are there.

    Raises:
        UsageError: no such file, or a malformed line, with its number, unless `skip_bad` leaves such lines out.
    """
    path = Path(path)
    if not path.is_file():
        raise missing(path)
    with path.open("rb") as stream:
        for number, raw in enumerate(stream, start=1):
            try:
                trace = _parsed(path, number, raw)
            except UsageError:
                if not skip_bad:
                    raise
                continue
            if trace is not None:
                yield trace


def _parsed(path: Path, number: int, raw: bytes) -> vf.WireTrace | None:
    """The trace of one line; None where there is none, or only the beginning of one."""
    if not raw.strip():
        return None
    try:
        row = json.loads(raw)
    except ValueError as error:
        if not raw.endswith(b"\n"):
            return None
        raise bad_line(path, number, str(error)) from error
    version = row.get("version") if isinstance(row, dict) else None
    if version != TRACE_VERSION:
        raise bad_line(path, number, f"trace schema version {version!r}, this reads {TRACE_VERSION}")
    try:
        return vf.WireTrace.model_validate(row)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise bad_line(path, number, f"{place}: {problem['msg']}") from error
