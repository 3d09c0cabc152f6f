"""Traces on disk: append-only JSON lines in verifiers' trace schema, read back strictly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import verifiers.v1 as vf
from pydantic import ValidationError
from verifiers.v1.trace import EXCLUDE_FIELDS, TRACE_VERSION

from trace_agents.files import bad_line, mend_tail, read_lines


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
    for number, row in read_lines(path):
        try:
            if row.get("version") != TRACE_VERSION:
                raise bad_line(path, number, f"trace schema version {row.get('version')!r}, this reads {TRACE_VERSION}")
            yield vf.WireTrace.model_validate(row)
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join(str(part) for part in problem["loc"])
            raise bad_line(path, number, f"{place}: {problem['msg']}") from error
