"""Where the benchmark is installed, which data it plays on and who is the user: from an installation and variables."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from mcp_servers.tau2.users import UserChoice, UserKind
from trace_agents.errors import UsageError, unknown
from trace_agents.types import Record

RELEASE = "v0.2.0"
"""The release of upstream that is known here, by its tag."""
HOME_VARIABLE = "TRACE_AGENTS_BENCHMARKS"
"""Folder of installed benchmarks."""
DATA_VARIABLE = "TAU2_DATA_DIR"
"""Upstream's own: the data folder, with `tau2/domains` in it."""
ACCEPT_VARIABLE = "TRACE_AGENTS_TAU2_ACCEPT"
"""SHA-256 hashes, with commas between them, of altered code, data or tool schemas to play on all the same."""
USER_VARIABLE = "TRACE_AGENTS_USER"
"""The simulated user: `model`, `scripted` or `none`; with `_URL`, `_MODEL` and `_KEY`, the model's endpoint."""


class Installation(Record):
    """What `trace-agents benchmarks install tau2` made: `install.json` of its folder."""

    version: int = 1
    """Version of this file's shape."""
    python: Path
    """Interpreter of the benchmark's own environment."""
    data: Path
    """Data folder."""
    source: str
    """Path or URL that upstream was installed from."""
    revision: str
    """Upstream's release, or `unknown` where its code is none that is known here."""
    accept: tuple[str, ...] = ()
    """SHA-256 hashes of what may differ from upstream's release."""


class Settings(Record):
    """How τ²-bench is played."""

    python: Path
    """Interpreter that has upstream's `tau2`."""
    data: Path
    """Data folder, with `tau2/domains` in it."""
    accept: tuple[str, ...] = ()
    """SHA-256 hashes of what may differ from upstream's release."""
    user: UserChoice = UserChoice()
    seconds: float = 60.0
    """Longest time for one tool call, reset or evaluation."""


def home(variables: Mapping[str, str]) -> Path:
    """The folder of installed benchmarks."""
    if named := variables.get(HOME_VARIABLE):
        return Path(named).expanduser()
    data = variables.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "trace-agents" / "benchmarks"


def read_installation(folder: Path) -> Installation:
    """What is installed below `folder`, the folder of benchmarks.

    Raises:
        UsageError: nothing is, or its description is damaged.
    """
    path = folder / "tau2" / "install.json"
    remedy = "run 'trace-agents benchmarks install tau2 --from PATH_OR_URL'"
    try:
        return Installation.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise UsageError(f"benchmark 'tau2' is not installed in {str(folder)!r}: {remedy}") from error
    except ValidationError as error:
        raise UsageError(f"{str(path)!r} is damaged ({error.error_count()} faults): {remedy}") from error


def read_settings(variables: Mapping[str, str] | None = None) -> Settings:
    """The settings of an installation, and of the variables of this process or those given, which go first.

    Raises:
        UsageError: the benchmark is not installed, or a variable's value is none it takes.
    """
    named = os.environ if variables is None else variables
    installed = read_installation(home(named))
    accept = tuple(part.strip() for part in named.get(ACCEPT_VARIABLE, "").split(",") if part.strip())
    return Settings(
        python=installed.python,
        data=Path(named.get(DATA_VARIABLE) or installed.data),
        accept=(*installed.accept, *accept),
        user=_user(named),
    )


def _user(named: Mapping[str, str]) -> UserChoice:
    kind = named.get(USER_VARIABLE, UserKind.MODEL.value)
    if kind not in set(UserKind):
        raise unknown(f"simulated user in {USER_VARIABLE}", kind, [each.value for each in UserKind])
    given = {field: named.get(f"{USER_VARIABLE}_{field.upper()}", "") for field in ("url", "model", "key")}
    return UserChoice(kind=UserKind(kind), **given)


def release() -> dict[str, dict[str, str]]:
    """`code`, `data` and `tools` -> what -> its hash, of upstream's release `RELEASE`."""
    found: dict[str, dict[str, str]] = json.loads(Path(__file__).with_name("release.json").read_text())[RELEASE]
    return found
