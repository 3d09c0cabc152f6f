"""Which format rows are in: guessed from the first, and held against all that follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from trace_agents.errors import UsageError
from trace_agents.importers.rows import Row

Source = tuple[Path, bool, Iterator[Row]]
"""(file, whether it was found in a folder, its rows)."""

SHOWN = 5
"""Rows of each format that a refusal names."""


class Guess:
    """The format of a load.

    Rows of an unasked-for format are refused only where the format was guessed: who names one gets its reader's word
    on every row.
    """

    def __init__(self, looks_like: Mapping[str, Callable[[Mapping[str, Any]], bool]], format: str | None) -> None:
        self.format = format
        """None until the first good row."""
        self.ignored: list[str] = []
        """Files of folders without a first row of any format."""
        self._looks_like = looks_like
        self._asked = format is not None
        self._seen: dict[str, list[str]] = {}
        self._counts: dict[str, int] = {}

    def of(self, row: Mapping[str, Any]) -> str | None:
        """The first format that a row looks like."""
        return next((name for name, looks_like in self._looks_like.items() if looks_like(row)), None)

    def checked(self, sources: Iterator[Source]) -> Iterator[Row]:
        """The rows of all files.

        Raises:
            UsageError: the format cannot be guessed, or rows are in several.
        """
        for path, in_folder, rows in sources:
            for place, row in enumerate(rows):
                if row.value is not None:
                    name = self.of(row.value)
                    if name is None and in_folder and place == 0:
                        self.ignored.append(str(path))
                        break
                    if not self._asked:
                        self._hold(row, name, rows, sources)
                yield row

    def _hold(self, row: Row, name: str | None, rest: Iterator[Row], sources: Iterator[Source]) -> None:
        if self.format is None and name is None:
            keys = ", ".join(repr(key) for key in list(row.value or {})[:8]) or "of an empty object"
            options = ", ".join(repr(one) for one in sorted(self._looks_like))
            raise UsageError(
                f"the format of {str(row.file)!r} cannot be guessed from the keys {keys}: "
                f"give --format, one of {options}"
            )
        self.format = self.format or name
        if name is not None:
            self._count(row, name)
            if name != self.format:
                self._refuse(rest, sources)

    def _count(self, row: Row, name: str) -> None:
        self._counts[name] = self._counts.get(name, 0) + 1
        places = self._seen.setdefault(name, [])
        if len(places) < SHOWN:
            places.append(f"{row.file}:{row.number}")

    def _refuse(self, rest: Iterator[Row], sources: Iterator[Source]) -> None:
        """Refuse mixed formats, once the rows that follow are counted too."""
        following = [rest, *(rows for _, _, rows in sources)]
        for row in (row for rows in following for row in rows):
            if row.value is not None and (name := self.of(row.value)):
                self._count(row, name)
        files = {place.rpartition(":")[0] for places in self._seen.values() for place in places}
        told = "; ".join(self._told(name, len(files) == 1) for name in self._seen)
        raise UsageError(
            f"mixed formats in {', '.join(repr(file) for file in sorted(files)[:SHOWN])}: {told}: give one format at a "
            f"time, or pass --format NAME --skip-bad to read the rows of one"
        )

    def _told(self, name: str, one_file: bool) -> str:
        places = [place.rpartition(":")[2] if one_file else place for place in self._seen[name]]
        more = self._counts[name] - len(places)
        return f"{name!r} in rows {', '.join(places)}" + (f" and {more:,} more" if more else "")


__all__ = ["Guess", "Source"]
