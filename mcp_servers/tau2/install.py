"""Installing upstream in a Python environment of its own, with pinned dependencies, checked against its release."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from mcp_servers.tau2.environment import Tau2Environment
from mcp_servers.tau2.provenance import check_data
from mcp_servers.tau2.settings import Installation, Settings, home, release
from mcp_servers.tau2.source import fetch
from mcp_servers.tau2.users import UserChoice, UserKind
from trace_agents.errors import UsageError
from trace_agents.files import write_atomically

DOMAINS = ("airline", "retail", "telecom", "mock")
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
"""What upstream needs to be played, at the versions of its own lock file."""


@dataclass(frozen=True)
class Request:
    """What is to be installed."""

    source: str
    """A folder with upstream's repository, or a URL: of an archive, or of a git repository with `@REF` after it."""
    data: Path | None = None
    """Data folder, with `tau2/domains` in it; None where the source's own is copied."""
    accept: tuple[str, ...] = ()
    """SHA-256 hashes of code, data or tools that may differ from upstream's release."""
    python: Path = Path(sys.executable)
    """Interpreter, 3.10 or newer, that the environment is made from."""


def install(request: Request, say: Callable[[str], None], variables: Mapping[str, str] | None = None) -> Installation:
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
    folder.mkdir(parents=True, exist_ok=True)
    target = next(path for number in count(1) if not (path := folder / f"made-{number}").exists())
    target.mkdir()
    try:
        installed = _made(request, target, say)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    write_atomically(folder / "install.json", installed.model_dump_json(indent=2) + "\n")
    for other in folder.glob("made-*"):
        if other != target:
            shutil.rmtree(other, ignore_errors=True)
    return installed


def _made(request: Request, target: Path, say: Callable[[str], None]) -> Installation:
    with TemporaryDirectory(prefix="trace-agents-tau2-") as folder:
        say(f"fetching {request.source}")
        source = fetch(request.source, Path(folder))
        data = request.data.resolve() if request.data else _copied(source / "data", target / "data")
        for domain in DOMAINS:  # Before the environment is made, which takes a while.
            check_data(data, domain, request.accept)
        say(f"making a Python environment in {str(target)!r}")
        _run([str(request.python), "-m", "venv", str(target / "venv")], "making a virtual environment")
        python = target / "venv" / "bin" / "python"
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        say("installing upstream and what it needs")
        _run([*pip, "--requirement", str(REQUIREMENTS)], "installing what upstream needs")
        _run([*pip, "--no-deps", str(source)], "installing upstream")
    say("checking code, data and tools")
    user = UserChoice(kind=UserKind.NONE)
    settings = Settings(python=python, data=data, accept=request.accept, user=user)
    found = {Tau2Environment(domain, settings).provenance["revision"] for domain in DOMAINS}
    return Installation(python=python, data=data, source=request.source, revision=found.pop(), accept=request.accept)


def _copied(data: Path, to: Path) -> Path:
    """The files of the data that are played on, and the splits where there are any."""
    splits = [f"tau2/domains/{domain}/split_tasks.json" for domain in DOMAINS]
    for name in (*release()["data"], *splits):
        if (data / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(data / name, to / name)
    return to


def _run(command: list[str], doing: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except OSError as error:
        raise UsageError(f"{doing} failed: {command[0]!r} cannot be run ({error.strerror})") from error
    except subprocess.CalledProcessError as error:
        lines = [line for line in (error.stderr + error.stdout).splitlines() if line.strip()]
        told = next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "no reason given")
        raise UsageError(f"{doing} failed ({told.strip()}): run {' '.join(command)!r} to see all of it") from error
