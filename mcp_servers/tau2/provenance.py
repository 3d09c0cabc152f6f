"""Which release of upstream is played: its code, its data and its tools, checked by hash and never silently others."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mcp_servers.benchmark.provenance import accepted
from mcp_servers.tau2.settings import ACCEPT_VARIABLE, RELEASES, release
from trace_agents.errors import UsageError


@dataclass(frozen=True)
class Data:
    """A data folder that one domain may be played on."""

    folder: Path
    hashes: Mapping[str, str]
    """File, below the folder -> its SHA-256."""


def code_digest(folder: Path) -> str:
    """SHA-256 over the Python files in upstream's `folder`, as the worker takes it of what is installed."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*.py"), key=lambda path: path.relative_to(folder).as_posix()):
        total.update(f"{path.relative_to(folder).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return total.hexdigest()


def release_of(source: Path) -> str:
    """The release that upstream's repository `source` is, by its code; else the newest known of its major version."""
    digest = code_digest(source / "src" / "tau2")
    for name in RELEASES:
        if release(name)["code"]["tau2"] == digest:
            return name
    stated = re.search(r'^version\s*=\s*"(\d+)', (source / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    alike = [name for name in RELEASES if stated and name.startswith(f"v{stated[1]}.")]
    return (alike or list(RELEASES))[-1]


def check_data(folder: Path, domain: str, accept: Sequence[str], name: str) -> Data:
    """The data folder, once every file that `domain` is played on is that of the release `name`, or accepted.

    Raises:
        UsageError: a file is missing, or is neither upstream's nor accepted.
    """
    marks = release(name)["data"].items()
    own = {file: mark for file, mark in marks if f"/{domain}/" in file or "/user_simulator/" in file}
    return Data(folder, {file: _checked(folder / file, mark, accept, name) for file, mark in own.items()})


def _checked(path: Path, wanted: str, accept: Sequence[str], name: str) -> str:
    """The file's SHA-256. `wanted` is a SHA-256, or `git:` and the id of a blob in upstream's repository."""
    try:
        content = path.read_bytes()
    except OSError as error:
        remedy = "set TAU2_DATA_DIR to upstream's data folder, the one with 'tau2/domains' in it"
        raise UsageError(f"data file {str(path)!r} cannot be read ({error.strerror}): {remedy}") from error
    found = hashlib.sha256(content).hexdigest()
    if wanted.startswith("git:"):
        blob = "git:" + hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        same, named = blob == wanted, f"git blob {blob[4:]} (SHA-256 {found}), not git blob {wanted[4:]}"
    else:
        same, named = found == wanted, f"SHA-256 {found}, not {wanted}"
    if same:
        return found
    return _accepted(found, accept, f"data file {str(path)!r} is not the one of tau2 {name}: it has {named}")


def code_release(found: str, accept: Sequence[str], name: str) -> str:
    """`name`, the release that code of the digest `found` is.

    Raises:
        UsageError: it is another, and was not accepted.
    """
    wanted = release(name)["code"]["tau2"]
    if found == wanted:
        return name
    differing = f"the installed tau2 is not {name}: its code has SHA-256 {found}, not {wanted}"
    return f"unknown: {_accepted(found, accept, differing)}"


def check_tools(found: str, domain: str, who: str, accept: Sequence[str], name: str) -> str:
    """The hash of the agent's or the user's tools, equal to upstream's with its own pydantic.

    Raises:
        UsageError: another pydantic has made other schemas, and they were not accepted.
    """
    wanted = release(name)["tools"][f"{domain}/{who}"]
    if found == wanted:
        return found
    differing = f"the {who}'s tools of domain {domain!r} have SHA-256 {found}, not {wanted}"
    return _accepted(found, accept, f"{differing} (another pydantic makes other schemas: install tau2 again)")


def _accepted(found: str, accept: Sequence[str], differing: str) -> str:
    return accepted(found, accept, differing, ACCEPT_VARIABLE)
