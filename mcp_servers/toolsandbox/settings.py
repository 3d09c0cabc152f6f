"""Where ToolSandbox is installed, who is the user and who answers for RapidAPI: from an installation and variables."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from pydantic import Field, TypeAdapter, ValidationError

from mcp_servers.benchmark.installation import Installation, home, read_accepted, read_installation
from mcp_servers.benchmark.users import USER_VARIABLE, UserChoice, read_user
from mcp_servers.toolsandbox.facts import Fact, read_facts
from trace_agents.errors import UsageError
from trace_agents.types import Record

ACCEPT_VARIABLE = "TRACE_AGENTS_TOOLSANDBOX_ACCEPT"
"""SHA-256 hashes, with commas between them, of altered code or tool schemas to play on all the same."""
FACTS_VARIABLE = "TRACE_AGENTS_TOOLSANDBOX_FACTS"
"""File with answers of RapidAPI's."""
NOW_VARIABLE = "TRACE_AGENTS_TOOLSANDBOX_NOW"
"""The time at which the clock stands, in ISO form with its zone."""
LINES_VARIABLE = f"{USER_VARIABLE}_LINES"
"""JSON file: scenario -> what the scripted user says after their first message, in order."""
KEY_VARIABLE = "RAPID_API_KEY"
"""Upstream's own: the key for RapidAPI."""
NOW = "2024-08-08T12:00:00+00:00"
"""Where the clock stands unless it is told otherwise: a Thursday, the day of the paper's first version."""


class Settings(Record):
    """How ToolSandbox is played."""

    python: Path
    """Interpreter that has upstream's `tool_sandbox`."""
    kept: Path
    """Folder where upstream's scenarios are kept once they are built."""
    accept: tuple[str, ...] = ()
    """SHA-256 hashes of what may differ from upstream's."""
    user: UserChoice = UserChoice()
    lines: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    """Scenario -> what a scripted user says after their first message; they then end the conversation. For others they
    let the agent go on as often as the milestones want it to say something."""
    facts: tuple[Fact, ...] | None = None
    """Answers of RapidAPI's; None where there is neither a file of them nor a key."""
    facts_file: Path | None = None
    """Where new answers are written to; None where they are not kept."""
    key: str = Field(default="", repr=False)
    """Key for RapidAPI; empty without one."""
    now: str = NOW
    """The time at which upstream's clock stands, in ISO form with its zone."""
    seconds: float = 1800.0
    """Longest time for one operation. Upstream's evaluator tries all ways to match milestones, and may compute for
    minutes where an agent goes on to the last message."""


def read_settings(variables: Mapping[str, str] | None = None) -> Settings:
    """The settings of an installation, and of the variables of this process or those given.

    Raises:
        UsageError: the benchmark is not installed, or a variable's value is none it takes.
    """
    named = os.environ if variables is None else variables
    installed = read_installation(home(named), "toolsandbox", Installation)
    key, file = named.get(KEY_VARIABLE, ""), named.get(FACTS_VARIABLE, "")
    path = Path(file).expanduser() if file else None
    return Settings(
        python=installed.python,
        kept=home(named) / "toolsandbox" / "scenarios",
        accept=(*installed.accept, *read_accepted(named, ACCEPT_VARIABLE)),
        user=read_user(named),
        lines=_lines(named.get(LINES_VARIABLE, "")),
        facts=read_facts(path, bool(key)) if path or key else None,
        facts_file=path,
        key=key,
        now=_instant(named.get(NOW_VARIABLE) or NOW),
    )


def _lines(file: str) -> Mapping[str, tuple[str, ...]]:
    if not file:
        return {}
    try:
        content = Path(file).expanduser().read_bytes()
        return TypeAdapter(dict[str, tuple[str, ...]]).validate_json(content)
    except (OSError, ValidationError) as error:
        wanted = json.dumps({"SCENARIO": ["FIRST LINE"]})
        raise UsageError(f"{LINES_VARIABLE} {file!r} cannot be read ({_short(error)}): give a file {wanted}") from error


def _short(error: OSError | ValidationError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else f"{error.error_count()} faults"


def _instant(stated: str) -> str:
    try:
        moment = datetime.fromisoformat(stated)
    except ValueError:
        moment = datetime.min
    if moment.tzinfo is None:
        raise UsageError(f"{NOW_VARIABLE} {stated!r} is no time with a zone: write it like {NOW!r}")
    return moment.isoformat()
