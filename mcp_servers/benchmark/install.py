"""Making a benchmark's own Python environment, with pinned dependencies; what was there stays until it is complete."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TypeVar

from mcp_servers.benchmark.installation import Installation
from trace_agents.errors import UsageError
from trace_agents.files import write_atomically

Installed = TypeVar("Installed", bound=Installation)
Say = Callable[[str], None]
"""Takes one line about each step."""


@dataclass(frozen=True)
class Request:
    """What is to be installed."""

    source: str
    """A folder with upstream's repository, or a URL: of an archive, or of a git repository with `@REF` after it."""
    data: Path | None = None
    """Data folder; None where the source's own is copied, or there is none."""
    accept: tuple[str, ...] = ()
    """SHA-256 hashes of code, data or tools that may differ from upstream's release."""
    python: Path = Path(sys.executable)
    """Interpreter, 3.10 or newer, that the environment is made from."""


def replace(folder: Path, make: Callable[[Path], Installed]) -> Installed:
    """Let `make` fill a new folder below `folder`, the benchmark's, and describe it in `install.json`.

    What was installed before stays until the new one is complete.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = next(path for number in count(1) if not (path := folder / f"made-{number}").exists())
    target.mkdir()
    try:
        installed = make(target)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    write_atomically(folder / "install.json", installed.model_dump_json(indent=2) + "\n")
    for other in folder.glob("made-*"):
        if other != target:
            shutil.rmtree(other, ignore_errors=True)
    return installed


def make_python(request: Request, target: Path, source: Path, requirements: Path, say: Say) -> Path:
    """The interpreter of a new environment in `target` with `requirements` and, without what it asks for, `source`.

    Raises:
        UsageError: one of them cannot be installed.
    """
    say(f"making a Python environment in {str(target)!r}")
    _run([str(request.python), "-m", "venv", str(target / "venv")], "making a virtual environment")
    python = target / "venv" / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    say("installing upstream and what it needs")
    _run([*pip, "--requirement", str(requirements)], "installing what upstream needs")
    _run([*pip, "--no-deps", str(source)], "installing upstream")
    return python


def _run(command: list[str], doing: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except OSError as error:
        raise UsageError(f"{doing} failed: {command[0]!r} cannot be run ({error.strerror})") from error
    except subprocess.CalledProcessError as error:
        lines = [line for line in (error.stderr + error.stdout).splitlines() if line.strip()]
        told = next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "no reason given")
        raise UsageError(f"{doing} failed ({told.strip()}): run {' '.join(command)!r} to see all of it") from error
