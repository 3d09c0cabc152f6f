"""Trajectories from elsewhere: one function reads every known format, or guesses which one a file is in."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trace_agents.errors import UsageError, unknown
from trace_agents.importers import adp, harbor, langsmith, messages, tau2, tau_bench, toolsandbox, verifiers
from trace_agents.importers.guess import Guess
from trace_agents.importers.rows import BadRow, Outcomes, Reading, Row
from trace_agents.importers.sources import files_in, rows_of
from trace_agents.refusals import wanted
from trace_agents.types import Record, Trajectory


@dataclass(frozen=True)
class Format:
    """How a format is read."""

    read: Callable[[Mapping[str, Any], Reading], Trajectory]
    """Row → trajectory; raises `BadRow`, and `ValidationError` where a value does not fit the vocabulary."""
    looks_like: Callable[[Mapping[str, Any]], bool]
    owns: Callable[[Path], bool] | None = None
    """Whether a folder is laid out in the format's own way."""
    rows_in: Callable[[Path], Iterator[Row]] | None = None
    """The rows of such a folder."""
    joined: Callable[[Iterable[Row]], Iterator[Row]] | None = None
    """For formats whose trajectories lie over several rows."""
    wanted: Callable[[Mapping[str, Any]], bool] | None = None
    """For formats that have rows of others than the agent."""


FORMATS: dict[str, Format] = {
    "tau-bench": Format(tau_bench.read_row, tau_bench.looks_like),
    "tau2": Format(tau2.read_row, tau2.looks_like, owns=tau2.owns, rows_in=tau2.rows_in),
    "toolsandbox": Format(
        toolsandbox.read_row, toolsandbox.looks_like, owns=toolsandbox.owns, rows_in=toolsandbox.rows_in
    ),
    "langsmith": Format(langsmith.read_row, langsmith.looks_like, joined=langsmith.joined),
    "verifiers": Format(verifiers.read_row, verifiers.looks_like, wanted=verifiers.wanted),
    "adp": Format(adp.read_row, adp.looks_like, owns=harbor.owns, rows_in=harbor.rows_in),
    "messages": Format(messages.read_row, messages.looks_like, owns=messages.owns, rows_in=messages.rows_in),
}
"""Format → how it is read, in the order in which a file is guessed."""


MAIN = ("results.json", harbor.RESULT)
"""Files that stand for the folder that they lie in, where a format lays it out in its own way."""


class Skipped(Record):
    """A row that could not be read."""

    row: int
    """Line number in a file of JSON lines, position in a JSON array; from 1."""
    reason: str
    file: str = ""
    """Path of the file that the row is in."""


class LoadReport(Record):
    """What the files held."""

    format: str
    trajectories: tuple[Trajectory, ...]
    """With unique ids, infrastructure failures (no success label) among them."""
    skipped: tuple[Skipped, ...] = ()
    """Malformed rows, left out."""
    ignored: tuple[str, ...] = ()
    """Files of a folder that hold something else than trajectories, left out."""

    @property
    def excluded_infrastructure(self) -> int:
        """Trajectories that infrastructure failed: no analysis uses them."""
        return sum(trajectory.success is None for trajectory in self.trajectories)


def load_trajectories(
    paths: Path | str | Sequence[Path | str],
    format: str | None = None,
    skip_bad: bool = False,
    outcomes: Outcomes | None = None,
) -> LoadReport:
    """Read the trajectories of files and folders, all in one format.

    Args:
        paths: files of JSON lines or of one JSON document, and folders of them.
        format: a key of `FORMATS`; None guesses from the first row that can be read.
        skip_bad: leave out malformed rows and report them, instead of refusing them.
        outcomes: how success is read; None leaves it to the format.

    Raises:
        UsageError: no such file, an unknown format, one that cannot be guessed or more than one, a malformed row
            (with its number) unless `skip_bad`, or no trajectory at all.
    """
    if format is not None and format not in FORMATS:
        raise unknown("format", format, list(FORMATS))
    outcomes = outcomes or Outcomes()
    if outcomes.threshold is not None and not math.isfinite(outcomes.threshold):
        raise UsageError(f"threshold {outcomes.threshold!r} is no finite number: give the least reward of a success")
    given = [Path(path) for path in ([paths] if isinstance(paths, Path | str) else paths)]
    guess = Guess({name: one.looks_like for name, one in FORMATS.items()}, format)
    found: list[Trajectory] = []
    skipped: list[Skipped] = []
    names: dict[str, int] = {}
    for result in _results(guess, given, Reading(outcomes)):
        if isinstance(result, Trajectory):
            found.append(_unique(result, names))
        elif skip_bad:
            skipped.append(result)
        else:
            raise UsageError(
                f"row {result.row} of {result.file!r} is malformed ({result.reason}): "
                "mend it, or pass --skip-bad to leave it out"
            )
    if not found:
        shown = ", ".join(repr(str(path)) for path in given) or "no path"
        first = f" (row {skipped[0].row}: {skipped[0].reason})" if skipped else ""
        raise UsageError(f"{shown} holds no trajectory that can be read{first}: check the file and --format")
    return LoadReport(
        format=str(guess.format), trajectories=tuple(found), skipped=tuple(skipped), ignored=tuple(guess.ignored)
    )


def _results(guess: Guess, paths: Sequence[Path], reading: Reading) -> Iterator[Trajectory | Skipped]:
    """A trajectory for each row, or what is wrong with it."""
    rows = guess.checked(_sources(paths, guess.format))
    head: list[Row] = []
    for row in rows:
        head.append(row)
        if row.value is not None:
            break
    # The format is known from here on, where there is a good row at all.
    form = FORMATS.get(guess.format or "")
    chained = itertools.chain(head, rows)
    for row in form.joined(chained) if form and form.joined else chained:
        if form is not None and form.wanted is not None and row.value is not None and not form.wanted(row.value):
            continue
        try:
            if row.value is None or form is None:
                raise BadRow(row.problem or "empty")
            yield read(form, row, reading)
        except BadRow as error:
            seems = None if row.value is None else guess.of(row.value)
            hint = f"; it looks like {seems!r}" if seems not in (None, guess.format) else ""
            yield Skipped(row=row.number, reason=f"{error}{hint}", file=str(row.file))


def read(form: Format, row: Row, reading: Reading) -> Trajectory:
    """The trajectory of a row.

    Raises:
        BadRow: the row is not what the format says; nothing else, whatever the row.
    """
    reading.row = row
    try:
        return form.read(row.value or {}, reading)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise BadRow(f"{where}: {wanted(problem)}" if where else wanted(problem)) from error


def _sources(paths: Sequence[Path], format: str | None) -> Iterator[tuple[Path, bool, Iterator[Row]]]:
    """(file, whether it was found in a folder, its rows) for each file to read, once however often it is named."""
    seen: set[str] = set()
    for path in paths:
        for source in _source(path, format):
            # Also where one of the names is a link.
            if (place := os.path.realpath(source[0])) not in seen:
                seen.add(place)
                yield source


def _source(path: Path, format: str | None) -> Iterator[tuple[Path, bool, Iterator[Row]]]:
    try:
        own, is_folder = _layout(path, format), path.is_dir()
    except OSError as error:
        shown = f"{str(path)[:80]!r}"
        raise UsageError(f"{shown} cannot be read ({error.strerror or error}): give another path") from error
    if own is not None:
        yield path, False, own
    elif is_folder:
        yield from _folder(path, format)
    else:
        yield path, False, rows_of(path)


def _folder(folder: Path, format: str | None) -> Iterator[tuple[Path, bool, Iterator[Row]]]:
    done: list[Path] = []
    for file in files_in(folder):
        if any(file.is_relative_to(root) for root in done):
            continue
        inside = [parent for parent in reversed(file.parents) if parent.is_relative_to(folder)]
        root, own = next(((one, rows) for one in inside if (rows := _layout(one, format))), (file, None))
        if own is not None:
            done.append(root)
        yield root, True, own or rows_of(file)


def _layout(path: Path, format: str | None) -> Iterator[Row] | None:
    """The rows of a folder, or of the folder of its main file, that a format lays out in its own way."""
    folder = path if path.is_dir() else path.parent if path.name in MAIN else None
    for name, form in FORMATS.items():
        if folder and form.owns and form.rows_in and format in (None, name) and form.owns(folder):
            return form.rows_in(folder)
    return None


def _unique(trajectory: Trajectory, names: dict[str, int]) -> Trajectory:
    """The trajectory under an id of its own: a repeated one gets a number."""
    times = names[trajectory.id] = names.get(trajectory.id, 0) + 1
    if times == 1:
        return trajectory
    return _unique(trajectory.model_copy(update={"id": f"{trajectory.id}.{times}"}), names)


__all__ = ["FORMATS", "Format", "LoadReport", "Outcomes", "Skipped", "load_trajectories", "read"]
