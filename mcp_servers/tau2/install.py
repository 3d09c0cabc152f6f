"""Installing upstream in a Python environment of its own, with pinned dependencies, checked against its release."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from mcp_servers.benchmark.install import Request, Say, make_python, replace
from mcp_servers.benchmark.installation import home
from mcp_servers.benchmark.source import fetch
from mcp_servers.benchmark.users import UserChoice, UserKind
from mcp_servers.tau2.environment import Tau2Environment
from mcp_servers.tau2.provenance import check_data, release_of
from mcp_servers.tau2.settings import Settings, Tau2Installation, release

DOMAINS = ("airline", "retail", "telecom", "mock")
REQUIREMENTS = "requirements-{}.txt"
"""File beside this one with what a release of upstream needs to be played, at the versions of its own lock file."""


def install(request: Request, say: Say, variables: Mapping[str, str] | None = None) -> Tau2Installation:
    """Make the environment, check all that it plays on, and describe it in `install.json`.

    What was installed before stays until the new one is complete.

    Args:
        request: what is to be installed.
        say: takes one line about each step.
        variables: environment variables; by default this process's.

    Raises:
        UsageError: the source cannot be had or installed, or is not upstream's release and was not accepted.
    """
    folder = home(os.environ if variables is None else variables) / "tau2"
    return replace(folder, lambda target: _made(request, target, say))


def _made(request: Request, target: Path, say: Say) -> Tau2Installation:
    with TemporaryDirectory(prefix="trace-agents-tau2-") as folder:
        say(f"fetching {request.source}")
        source = fetch(request.source, Path(folder))
        name = release_of(source)
        data = request.data.resolve() if request.data else _copied(source / "data", target / "data", name)
        for domain in DOMAINS:  # Before the environment is made, which takes a while.
            check_data(data, domain, request.accept, name)
        python = make_python(request, target, source, Path(__file__).with_name(REQUIREMENTS.format(name)), say)
    say("checking code, data and tools")
    user = UserChoice(kind=UserKind.NONE)
    settings = Settings(python=python, data=data, accept=request.accept, user=user, release=name)
    found = {Tau2Environment(domain, settings).provenance["revision"] for domain in DOMAINS}
    return Tau2Installation(
        python=python,
        data=data,
        source=request.source,
        revision=found.pop(),
        accept=request.accept,
        release=name,
    )


def _copied(data: Path, to: Path, name: str) -> Path:
    """The files of the data that are played on."""
    for file in release(name)["data"]:
        if (data / file).is_file():
            (to / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(data / file, to / file)
    return to
