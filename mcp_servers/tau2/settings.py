"""Where the benchmark is installed, which data it plays on and who is the user: from an installation and variables."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from mcp_servers.benchmark.installation import Installation, home, read_accepted, read_installation
from mcp_servers.benchmark.users import UserChoice, read_user
from trace_agents.types import Record

RELEASE = "v0.2.0"
"""The release of upstream that is known here, by its tag."""
DATA_VARIABLE = "TAU2_DATA_DIR"
"""Upstream's own: the data folder, with `tau2/domains` in it."""
ACCEPT_VARIABLE = "TRACE_AGENTS_TAU2_ACCEPT"
"""SHA-256 hashes, with commas between them, of altered code, data or tool schemas to play on all the same."""


class Tau2Installation(Installation):
    """What `trace-agents benchmarks install tau2` made."""

    data: Path
    """Data folder."""


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


def read_settings(variables: Mapping[str, str] | None = None) -> Settings:
    """The settings of an installation, and of the variables of this process or those given, which go first.

    Raises:
        UsageError: the benchmark is not installed, or a variable's value is none it takes.
    """
    named = os.environ if variables is None else variables
    installed = read_installation(home(named), "tau2", Tau2Installation)
    return Settings(
        python=installed.python,
        data=Path(named.get(DATA_VARIABLE) or installed.data),
        accept=(*installed.accept, *read_accepted(named, ACCEPT_VARIABLE)),
        user=read_user(named),
    )


def release() -> dict[str, dict[str, str]]:
    """`code`, `data` and `tools` -> what -> its hash, of upstream's release `RELEASE`."""
    found: dict[str, dict[str, str]] = json.loads(Path(__file__).with_name("release.json").read_text())[RELEASE]
    return found
