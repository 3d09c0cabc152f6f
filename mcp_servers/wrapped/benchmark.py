"""The files of a benchmark that is an existing MCP server, read and checked."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ValidationError

from mcp_servers.wrapped.description import Call, Description, TaskRow
from trace_agents.errors import UsageError, unknown
from trace_agents.files import bad_line, read_lines
from trace_agents.refusals import lowered, not_toml, wanted

PLACEHOLDERS = ("folder", "here", "python", "task")
"""What commands may name in braces."""
_PLACEHOLDER = re.compile(r"\{(" + "|".join(PLACEHOLDERS) + r")\}")
_BRACED = re.compile(r"(?<!\$)\{([a-z_]+)\}")


class Benchmark:
    """A description with its folder and its tasks."""

    def __init__(self, path: Path, described: Description, rows: Iterable[TaskRow]) -> None:
        """The benchmark that `described` describes; `path` is the description's file, there or not."""
        self.path = path
        self.here = path.resolve().parent
        self.described = described
        self.rows: Mapping[str, TaskRow] = {row.id: row for row in rows}
        self.lines: Mapping[str, int] = {}
        """Id of a task -> its line of the task file, from 1."""
        self.fitting: set[str] = set()
        """Ids of tasks of which all calls are known to fit the server's tools."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """The description at `path` and its tasks, all of it checked.

        Raises:
            UsageError: a file is missing, a key is unknown, a value is wrong, or a task cannot be judged.
        """
        described = _read_description(path)
        made = cls(path, described, ())
        found = _read_rows(made.file("tasks", described.tasks))
        made.rows = {row.id: row for row in found.values()}
        made.lines = {row.id: number for number, row in found.items()}
        made._check()
        return made

    def file(self, key: str, name: str) -> Path:
        """The file or folder `name` of the description.

        Raises:
            UsageError: there is none.
        """
        found = self.here / name
        if not found.exists():
            raise UsageError(f"{key} = {name!r} in {str(self.path)!r}: there is no {str(found)!r}; mend the path")
        return found

    def filled(self, text: str, folder: Path | None = None, task: str = "") -> str:
        """`text` with its placeholders replaced."""
        values = {"python": sys.executable, "here": str(self.here), "task": task, "folder": str(folder or "")}
        return _PLACEHOLDER.sub(lambda found: values[found[1]], text)

    @property
    def headers(self) -> dict[str, str]:
        """The request headers of a server at a URL.

        Raises:
            UsageError: a variable that one names is not set.
        """
        return {name: _expanded(f"header {name!r}", value) for name, value in self.described.server.headers.items()}

    @property
    def env(self) -> dict[str, str]:
        """The environment variables of a server that a command starts.

        Raises:
            UsageError: a variable that one names is not set.
        """
        return {name: _expanded(f"env {name!r}", value) for name, value in self.described.server.env.items()}

    def place(self, row: TaskRow) -> str:
        """A task and where it is written, as errors name it."""
        line = f"line {self.lines[row.id]} of " if row.id in self.lines else ""
        return f"task {row.id!r} ({line}{str(self.path.parent / self.described.tasks)!r})"

    def _check(self) -> None:
        described = self.described
        if described.policy:
            self.file("policy", described.policy)
        if described.reset.snapshot:
            self.file("snapshot", described.reset.snapshot)
        for row in self.rows.values():
            if row.snapshot:
                self.file(f"snapshot of task {row.id!r}", row.snapshot)
            self._check_gold(row)
            if described.check.compares and row.gold is None:
                remedy = "give it 'gold', or give [check] a 'function' or a 'command'"
                raise UsageError(
                    f"task {row.id!r} in {described.tasks!r} has no gold actions to compare with: {remedy}"
                )
        server = described.server
        for text in (
            *server.command,
            server.cwd,
            *server.env.values(),
            *described.reset.command,
            *described.check.command,
        ):
            self._check_placeholders(text)
        self._check_command("server", server.command, server.cwd)
        self._check_command("reset", described.reset.command)
        self._check_command("check", described.check.command)
        _ = self.headers, self.env

    def _check_placeholders(self, text: str) -> None:
        for word in _BRACED.findall(text):
            if word not in PLACEHOLDERS:
                raise unknown(
                    f"placeholder in {text!r} of {str(self.path)!r}",
                    f"{{{word}}}",
                    [f"{{{one}}}" for one in PLACEHOLDERS],
                )

    def _check_gold(self, row: TaskRow) -> None:
        """The gold actions call no tool that agents are not offered."""
        tools = self.described.tools
        for action in row.gold or ():
            if isinstance(action, Call) and not tools.offers(action.name):
                key = "offer" if tools.offer else "hide"
                raise UsageError(
                    f"gold action {action.name!r} of {self.place(row)} is no tool that agents are offered, by "
                    f"[tools] {key} = {[*(tools.offer or tools.hide)]!r}: mend one of them"
                )

    def _check_command(self, section: str, command: tuple[str, ...], cwd: str = "{here}") -> None:
        """Its program is there: on the path, or, where it is named with a slash, from the folder it runs in."""
        if not command or any("{folder}" in text or "{task}" in text for text in (command[0], cwd)):
            return
        program = self.filled(command[0])
        if "/" in program:
            program = str(self.here / self.filled(cwd) / program)
        if shutil.which(program) is None:
            raise UsageError(
                f"command {command[0]!r} of [{section}] in {str(self.path)!r} is no program here: install it, or give "
                "its path ('{python}' is the Python that runs this; './name' is a file that may be executed)"
            )


def _read_description(path: Path) -> Description:
    text = ""
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UsageError(f"environment file {str(path)!r} does not exist: give the path of a TOML file") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{str(path)!r} is no text in UTF-8 ({error}): save it as such") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(not_toml(str(path), text, error)) from error
    try:
        return Description.model_validate(data)
    except ValidationError as error:
        raise UsageError(explained(error, Description, repr(str(path)))) from error


def _read_rows(path: Path) -> dict[int, TaskRow]:
    """Line -> its task."""
    rows: dict[int, TaskRow] = {}
    for number, data in read_lines(path):
        try:
            rows[number] = TaskRow.model_validate(data)
        except ValidationError as error:
            raise UsageError(explained(error, TaskRow, f"line {number} of {str(path)!r}")) from error
    _check_last(path)
    if not rows:
        raise UsageError(f"task file {str(path)!r} is empty: give a task, as JSON, on each line")
    for task_id, count in Counter(row.id for row in rows.values()).items():
        if count > 1:
            lines = ", ".join(str(number) for number, row in rows.items() if row.id == task_id)
            raise UsageError(f"task {task_id!r} is {count} times in {str(path)!r} (lines {lines}): ids are unique")
    return rows


def _check_last(path: Path) -> None:
    """The last line is JSON too: without a newline behind it, `read_lines` takes a torn one for not yet written."""
    *before, last = path.read_bytes().split(b"\n")
    try:
        json.loads(last.strip() or b"{}")
    except ValueError as error:
        raise bad_line(path, len(before) + 1, str(error)) from error


def explained(error: ValidationError, kind: type[BaseModel], source: str) -> str:
    """The first problem in one line: where, what was given, and what is allowed there."""
    # A misspelt name explains a missing one, so it goes first.
    problems = error.errors(include_url=False)
    problem = min(problems, key=lambda found: found["type"] != "extra_forbidden")
    location = _location(problem)
    place = ".".join(map(str, location)) or "it"
    if problem["type"] == "extra_forbidden":
        known = ", ".join(repr(name) for name in _fields(kind, location[:-1]))
        return f"unknown key {place!r} in {source}: use one of {known}"
    if problem["type"] == "missing":
        return f"missing key {place!r} in {source}: add it"
    if problem["type"] == "value_error":
        where = f"[{place}] of " if location else ""
        return f"{where}{source}: {problem['ctx']['error']}"
    kinds = [found for found in problems if _location(found) == location]
    return f"{place} = {problem['input']!r:.80} in {source}: {lowered(wanted(*kinds))}"


def _location(problem: Mapping[str, Any]) -> list[Any]:
    """Where a problem is, without the kinds of a value that may be of several."""
    return [part for part in problem["loc"] if part not in ("str", "Call")]


def _fields(kind: type[BaseModel], location: list[Any]) -> Iterator[str]:
    """Names of the fields at `location` below `kind`."""
    for part in location:
        if isinstance(part, str):
            annotation = kind.model_fields[part].annotation
            inner = [one for one in (annotation, *getattr(annotation, "__args__", ())) if isinstance(one, type)]
            kind = next((one for one in inner if issubclass(one, BaseModel)), Call)
    yield from sorted(kind.model_fields)


_VARIABLE = re.compile(r"\$\{(\w+)\}")


def _expanded(what: str, value: str) -> str:
    def given(found: re.Match[str]) -> str:
        if found[1] not in os.environ:
            raise UsageError(f"{what} of [server] needs the environment variable {found[1]!r}: set it")
        return os.environ[found[1]]

    return _VARIABLE.sub(given, value)
