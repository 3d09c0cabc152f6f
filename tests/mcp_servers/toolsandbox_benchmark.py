"""What the tests of ToolSandbox share: its installation, if there is one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mcp_servers.benchmark.users import UserChoice, UserKind
from mcp_servers.toolsandbox import ToolSandbox, ToolSandboxEpisode
from mcp_servers.toolsandbox.settings import Settings, read_settings
from trace_agents.errors import UsageError

REFERENCE = Path(__file__).with_name("toolsandbox_reference.py")
GO_ON = "Please go on."
"""What the user says where an agent is to go on after a text."""


def installed(**changes: Any) -> Settings:
    """The settings of this machine's installation with the scripted user; skips the test where there is none."""
    try:
        settings = read_settings()
    except UsageError as error:
        pytest.skip(f"needs upstream's code: {error}")
    plain = {"user": UserChoice(kind=UserKind.SCRIPTED), "facts": None, "facts_file": None, "key": "", "lines": {}}
    return settings.model_copy(update=plain | changes)


def playable(**changes: Any) -> ToolSandbox:
    """The environment with the scripted user; skips the test where upstream is not installed."""
    return ToolSandbox(installed(**changes))


@asynccontextmanager
async def episode_of(environment: ToolSandbox, task_id: str) -> AsyncIterator[ToolSandboxEpisode]:
    episode = await environment.start(environment.task(task_id))
    try:
        yield episode
    finally:
        await episode.close()


def in_upstreams_python(*words: str) -> str:
    """What upstream's own Python prints."""
    settings = installed()
    command = [str(settings.python), "-s", *words]
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | {"TZ": "UTC"}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=variables).stdout
