"""Trajectories from elsewhere: one function reads every known format, or guesses which one a file is in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trace_agents.errors import UsageError, unknown
from trace_agents.importers import messages, tau_bench, verifiers
from trace_agents.importers.rows import BadRow, rows_of
from trace_agents.types import Record, Trajectory

Reader = Callable[[Mapping[str, Any], int], Trajectory]
"""(row, its index from 0) → trajectory; raises `BadRow` with what is wrong."""

FORMATS: dict[str, tuple[Reader, Callable[[Mapping[str, Any]], bool]]] = {
    "tau-bench": (tau_bench.read_row, tau_bench.looks_like),
    "verifiers": (verifiers.read_row, verifiers.looks_like),
    "messages": (messages.read_row, messages.looks_like),
}
"""Format → (its reader, whether a row looks like it), in the order in which a file is guessed."""


class Skipped(Record):
    """A row that could not be read."""

    row: int
    """Line number in a file of JSON lines, position in a JSON array; from 1."""
    reason: str


class LoadReport(Record):
    """What a file held."""

    format: str
    trajectories: tuple[Trajectory, ...]
    """With unique ids, infrastructure failures (no success label) among them."""
    skipped: tuple[Skipped, ...] = ()
    """Malformed rows, left out."""

    @property
    def excluded_infrastructure(self) -> int:
        """Trajectories that infrastructure failed: no analysis uses them."""
        return sum(trajectory.success is None for trajectory in self.trajectories)


def load_trajectories(path: Path | str, format: str | None = None, skip_bad: bool = False) -> LoadReport:
    """Read the trajectories of a file.

    Args:
        path: JSON lines, or one JSON array.
        format: a key of `FORMATS`; None guesses from the first row that can be read.
        skip_bad: leave out malformed rows and report them, instead of refusing the file.

    Raises:
        UsageError: no such file, an unknown format or one that cannot be guessed, a malformed row (with its
            number) unless `skip_bad`, or no trajectory at all.
    """
    path = Path(path)
    if format is not None and format not in FORMATS:
        raise unknown("format", format, list(FORMATS))
    found: list[Trajectory] = []
    skipped: list[Skipped] = []
    names: dict[str, int] = {}
    for number, row, problem in rows_of(path):
        try:
            if problem is not None or row is None:
                raise BadRow(problem or "empty")
            format = format or _guess(row, path)
            found.append(_unique(FORMATS[format][0](row, len(found)), names))
        except (BadRow, ValidationError) as error:
            reason = _reason(error)
            if not skip_bad:
                raise UsageError(
                    f"row {number} of {str(path)!r} is malformed ({reason}): "
                    "mend it, or pass --skip-bad to leave it out"
                ) from error
            skipped.append(Skipped(row=number, reason=reason))
    if not found:
        raise UsageError(f"{str(path)!r} holds no trajectory that can be read: check the file and --format")
    return LoadReport(format=str(format), trajectories=tuple(found), skipped=tuple(skipped))


def _guess(row: Mapping[str, Any], path: Path) -> str:
    for name, (_, looks_like) in FORMATS.items():
        if looks_like(row):
            return name
    keys = ", ".join(repr(key) for key in list(row)[:8])
    options = ", ".join(repr(name) for name in sorted(FORMATS))
    raise UsageError(
        f"the format of {str(path)!r} cannot be guessed from the keys {keys}: give --format, one of {options}"
    )


def _unique(trajectory: Trajectory, names: dict[str, int]) -> Trajectory:
    """The trajectory under an id of its own: a repeated one gets a number."""
    times = names[trajectory.id] = names.get(trajectory.id, 0) + 1
    if times == 1:
        return trajectory
    return _unique(trajectory.model_copy(update={"id": f"{trajectory.id}.{times}"}), names)


def _reason(error: BadRow | ValidationError) -> str:
    if isinstance(error, BadRow):
        return str(error)
    problem = error.errors()[0]
    return f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"


__all__ = ["FORMATS", "LoadReport", "Skipped", "load_trajectories"]
