"""Installing ToolSandbox: its licence first, then a Python environment of its own, checked against its revision."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from mcp_servers.benchmark.install import Request, Say, make_python, replace
from mcp_servers.benchmark.installation import Installation, home
from mcp_servers.benchmark.source import fetch
from mcp_servers.benchmark.users import UserChoice, UserKind
from mcp_servers.toolsandbox.environment import ToolSandbox
from mcp_servers.toolsandbox.provenance import license_of
from mcp_servers.toolsandbox.settings import Settings
from trace_agents.errors import InfrastructureError, UsageError

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
"""What upstream needs to be played."""

Agree = Callable[[str], bool]
"""Takes the text of upstream's licence; whether the user accepts it."""


def install(request: Request, agree: Agree, say: Say, variables: Mapping[str, str] | None = None) -> Installation:
    """Make the environment, build the scenarios, check all of it, and describe it in `install.json`.

    What was installed before stays until the new one is complete.

    Args:
        request: what is to be installed.
        agree: shows upstream's licence, before anything is made.
        say: takes one line about each step.
        variables: environment variables; by default this process's.

    Raises:
        UsageError: the licence was not accepted, or the source cannot be had or installed, or is not upstream's
            revision and was not accepted.
    """
    if request.data is not None:
        raise UsageError(
            f"--data {str(request.data)!r} is not for benchmark 'toolsandbox', whose data is code: leave it out"
        )
    folder = home(os.environ if variables is None else variables) / "toolsandbox"
    with TemporaryDirectory(prefix="trace-agents-toolsandbox-") as scratch:
        say(f"fetching {request.source}")
        source = fetch(request.source, Path(scratch))
        if not agree(license_of(source)):
            raise UsageError("upstream's licence was not accepted: nothing is installed without it (--accept-license)")
        return replace(folder, lambda target: _made(request, source, target, say))


def _made(request: Request, source: Path, target: Path, say: Say) -> Installation:
    python = make_python(request, target, source, REQUIREMENTS, say)
    say("building the scenarios, checking code and tools")
    kept = target.parent / "scenarios"
    shutil.rmtree(kept, ignore_errors=True)  # What is missing is built again.
    settings = Settings(python=python, kept=kept, accept=request.accept, user=UserChoice(kind=UserKind.NONE))
    try:
        revision = ToolSandbox(settings).provenance["revision"]
    except InfrastructureError as error:
        remedy = "give upstream's repository, and a Python of version 3.11 or 3.12 with --python"
        raise UsageError(f"what was installed from {request.source!r} does not play ({error}): {remedy}") from error
    return Installation(python=python, source=request.source, revision=revision, accept=request.accept)
