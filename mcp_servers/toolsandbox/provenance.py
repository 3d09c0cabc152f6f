"""Which ToolSandbox is played: its code and its tools, checked by hash and never silently others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mcp_servers.benchmark.provenance import accepted
from mcp_servers.toolsandbox.settings import ACCEPT_VARIABLE
from trace_agents.errors import UsageError


def release() -> dict[str, str]:
    """`commit`, `code` and `tools`: the revision of upstream that is known here, and its hashes."""
    found: dict[str, str] = json.loads(Path(__file__).with_name("release.json").read_text())
    return found


def check_code(found: str, accept: Sequence[str]) -> str:
    """The revision that code of the digest `found` is.

    Raises:
        UsageError: it is another, and was not accepted.
    """
    known = release()
    if found == known["code"]:
        return known["commit"]
    differing = (
        f"the installed tool_sandbox is not {known['commit']}: its code has SHA-256 {found}, not {known['code']}"
    )
    return f"unknown: {accepted(found, accept, differing, ACCEPT_VARIABLE)}"


def check_tools(found: str, accept: Sequence[str]) -> str:
    """The hash of the tools of all scenarios, equal to upstream's.

    Raises:
        UsageError: they are others, and were not accepted.
    """
    wanted = release()["tools"]
    if found == wanted:
        return found
    differing = f"the tools of the scenarios have SHA-256 {found}, not {wanted} (install toolsandbox again)"
    return accepted(found, accept, differing, ACCEPT_VARIABLE)


def license_of(source: Path) -> str:
    """The text of upstream's licence.

    Raises:
        UsageError: the source has none.
    """
    try:
        return (source / "LICENSE").read_text(encoding="utf-8")
    except OSError as error:
        problem = f"source {str(source)!r} has no 'LICENSE' ({error.strerror})"
        raise UsageError(f"{problem}: give upstream's repository, whose licence has to be accepted") from error
