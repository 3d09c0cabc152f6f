"""What the tests of τ²-bench share: its data beside the project, and its installation if there is one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from mcp_servers.benchmark.users import UserChoice, UserKind
from mcp_servers.tau2 import Tau2Environment
from mcp_servers.tau2.settings import Settings, read_settings
from trace_agents.errors import UsageError

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "tau2-bench"
NOWHERE = Path("/nonexistent/python")

needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="the benchmark's data is not beside the project")


def data_folder(tmp_path: Path) -> Path:
    """The shared data where upstream would have it: below `tau2`."""
    (tmp_path / "tau2").symlink_to(SHARED)
    return tmp_path


def rebuilt(data: Path) -> str:
    """SHA-256 of the shared airline database, which is not upstream's to the byte."""
    return hashlib.sha256((data / "tau2/domains/airline/db.json").read_bytes()).hexdigest()


def unplayed(domain: str, data: Path, user: UserKind = UserKind.SCRIPTED) -> Tau2Environment:
    """The domain on shared data, with no upstream to play it."""
    settings = Settings(python=NOWHERE, data=data, accept=(rebuilt(data),), user=UserChoice(kind=user))
    return Tau2Environment(domain, settings)


def installed(user: UserChoice | None = None, seconds: float = 60.0) -> Settings:
    """The settings of this machine's installation; skips the test where there is none."""
    try:
        settings = read_settings()
    except UsageError as error:
        pytest.skip(f"needs upstream's code: {error}")
    chosen = user or UserChoice(kind=UserKind.SCRIPTED)
    return settings.model_copy(update={"user": chosen, "seconds": seconds})
