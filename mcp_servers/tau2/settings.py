"""Where the benchmark is installed, which data it plays on and who is the user: from an installation and variables."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from mcp_servers.benchmark.installation import Installation, home, read_accepted, read_installation
from mcp_servers.benchmark.users import Endpoint, UserChoice, read_user
from trace_agents.errors import UsageError
from trace_agents.types import Record

RELEASES: tuple[str, ...] = ("v0.2.0", "v1.0.0", "v1.0.1")
"""The releases of upstream that are known here, by their tags; oldest first."""
DATA_VARIABLE = "TAU2_DATA_DIR"
"""Upstream's own: the data folder, with `tau2/domains` in it."""
JUDGE_VARIABLE = "TRACE_AGENTS_JUDGE"
"""With `_URL`, `_MODEL` and `_KEY`: the endpoint of the model that judges what upstream leaves to one."""
ACCEPT_VARIABLE = "TRACE_AGENTS_TAU2_ACCEPT"
"""SHA-256 hashes, with commas between them, of altered code, data or tool schemas to play on all the same."""


class Tau2Installation(Installation):
    """What `trace-agents benchmarks install tau2` made."""

    data: Path
    """Data folder."""
    release: str = RELEASES[0]
    """Upstream's release that code, data and tools are held against."""


class Settings(Record):
    """How τ²-bench is played."""

    python: Path
    """Interpreter that has upstream's `tau2`."""
    data: Path
    """Data folder, with `tau2/domains` in it."""
    release: str = RELEASES[0]
    """Upstream's release that code, data and tools are held against."""
    accept: tuple[str, ...] = ()
    """SHA-256 hashes of what may differ from upstream's release."""
    user: UserChoice = UserChoice()
    judge: Endpoint | None = None
    """Where the model is that judges assertions in plain language; None where there is none."""
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
        release=installed.release,
        user=read_user(named),
        judge=_read_judge(named),
    )


def _read_judge(named: Mapping[str, str]) -> Endpoint | None:
    url, model, key = (named.get(f"{JUDGE_VARIABLE}_{part}", "") for part in ("URL", "MODEL", "KEY"))
    if bool(url) != bool(model):
        there, missing = (f"{JUDGE_VARIABLE}_{part}" for part in (("URL", "MODEL") if url else ("MODEL", "URL")))
        raise UsageError(f"{there} {url or model!r} is no judge without {missing}: set that too")
    return Endpoint(url=url, model=model, key=key) if url else None


def release(name: str) -> dict[str, dict[str, str]]:
    """`code`, `data` and `tools` -> what -> its hash, of the release `name` of upstream."""
    found: dict[str, dict[str, str]] = json.loads(Path(__file__).with_name("release.json").read_text())[name]
    return found
