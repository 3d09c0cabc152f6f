"""What `trace-agents benchmarks install` left on this machine, and where."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from trace_agents.errors import UsageError
from trace_agents.types import Record

HOME_VARIABLE = "TRACE_AGENTS_BENCHMARKS"
"""Folder of installed benchmarks."""


class Installation(Record):
    """What was installed of a benchmark: `install.json` of its folder."""

    version: int = 1
    """Version of this file's shape."""
    python: Path
    """Interpreter of the benchmark's own environment."""
    source: str
    """Path or URL that upstream was installed from."""
    revision: str
    """Upstream's release, or `unknown` where its code is none that is known here."""
    accept: tuple[str, ...] = ()
    """SHA-256 hashes of what may differ from upstream's release."""


Installed = TypeVar("Installed", bound=Installation)


def home(variables: Mapping[str, str]) -> Path:
    """The folder of installed benchmarks."""
    if named := variables.get(HOME_VARIABLE):
        return Path(named).expanduser()
    data = variables.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "trace-agents" / "benchmarks"


def read_installation(folder: Path, benchmark: str, kind: type[Installed]) -> Installed:
    """What is installed of `benchmark` below `folder`, the folder of benchmarks.

    Raises:
        UsageError: nothing is, or its description is damaged.
    """
    path = folder / benchmark / "install.json"
    remedy = f"run 'trace-agents benchmarks install {benchmark} --from PATH_OR_URL'"
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise UsageError(f"benchmark {benchmark!r} is not installed in {str(folder)!r}: {remedy}") from error
    except ValidationError as error:
        raise UsageError(f"{str(path)!r} is damaged ({error.error_count()} faults): {remedy}") from error


def read_accepted(named: Mapping[str, str], variable: str) -> tuple[str, ...]:
    """The hashes that `variable` accepts, with commas between them."""
    return tuple(part.strip() for part in named.get(variable, "").split(",") if part.strip())
