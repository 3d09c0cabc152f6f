"""`trace-agents benchmarks`: install a target benchmark in its own Python environment, or see what is installed."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trace_agents.errors import UsageError, unknown

if TYPE_CHECKING:
    from mcp_servers.benchmark.install import Request

ACTIONS = ("check", "install", "show")
BENCHMARKS = ("tau2", "toolsandbox")


def benchmarks(
    action: Annotated[str, typer.Argument(help="'install', 'show' what is installed, or 'check' it.")],
    name: Annotated[str, typer.Argument(help="Benchmark: 'tau2' or 'toolsandbox'.")] = "tau2",
    source: Annotated[
        str | None,
        typer.Option("--from", help="Upstream: a folder, an archive's URL, or 'git+URL@REF' (install)."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Data folder to play on, instead of a copy of the source's (install).")
    ] = None,
    accept: Annotated[
        list[str] | None, typer.Option(help="SHA-256 of altered code, data or tools to accept (repeatable; install).")
    ] = None,
    python: Annotated[
        Path | None, typer.Option(help="Interpreter to make the environment from; this one if left out (install).")
    ] = None,
    domain: Annotated[
        list[str] | None,
        typer.Option(help="tau2: domain to check (repeatable); all of them if left out (check)."),
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option(help="toolsandbox: split to check (repeatable); 'base' if left out (check)."),
    ] = None,
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Accept upstream's licence without being asked (install).")
    ] = False,
    folder: Annotated[
        Path | None,
        typer.Option(envvar="TRACE_AGENTS_BENCHMARKS", help="Folder of installed benchmarks."),
    ] = None,
) -> None:
    """Install a target benchmark from its own repository, show what is installed, or check it.

    A benchmark gets a Python environment of its own, so that its dependencies never meet these. Its code, data and
    tools are checked against upstream's release; what differs is refused unless its hash is accepted. A check plays
    every task over MCP: its gold actions, which must solve it, and an agent that does nothing, which is the floor.
    A licence that has to be accepted is shown before anything is installed.
    """
    if action not in ACTIONS:
        raise unknown("action", action, ACTIONS)
    if name not in BENCHMARKS:
        raise unknown("benchmark", name, BENCHMARKS)
    from mcp_servers.benchmark.installation import HOME_VARIABLE

    variables = dict(os.environ) | ({HOME_VARIABLE: str(folder)} if folder else {})
    if action == "show":
        _show(name, variables)
    elif action == "check":
        _check(name, variables, domain or [], split or [])
    elif source is None:
        raise UsageError(f"--from is missing: give upstream's repository of benchmark {name!r}, a folder or a URL")
    else:
        from mcp_servers.benchmark.install import Request

        request = Request(source, data, tuple(accept or ()), python or Path(sys.executable))
        _install(name, request, variables, accept_license)


def _install(name: str, request: Request, variables: dict[str, str], accept_license: bool) -> None:
    from mcp_servers.tau2.install import install as install_tau2
    from mcp_servers.toolsandbox.install import install as install_toolsandbox

    if name == "tau2":
        made = install_tau2(request, _say, variables)
        print(f"installed tau2 {made.revision}: {str(made.python)!r} plays on {str(made.data)!r}")
        return
    installed = install_toolsandbox(request, partial(_agree, accept_license), _say, variables)
    print(f"installed toolsandbox {installed.revision}: {str(installed.python)!r}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _agree(accept_license: bool, text: str) -> bool:
    """Show a licence, and ask where it was not accepted already and somebody can answer."""
    print(text, file=sys.stderr)
    if accept_license:
        return True
    return sys.stdin.isatty() and typer.confirm("Do you accept upstream's licence?", err=True)


def _show(name: str, variables: dict[str, str]) -> None:
    from mcp_servers.benchmark.installation import Installation, home, read_installation
    from mcp_servers.tau2.settings import Tau2Installation

    kind = Tau2Installation if name == "tau2" else Installation
    print(read_installation(home(variables), name, kind).model_dump_json(indent=2))


def _check(name: str, variables: dict[str, str], domains: list[str], splits: list[str]) -> None:
    """A line for each part, and exit code 1 where gold actions do not solve all that can be played."""
    if name == "tau2" and splits:
        raise UsageError(f"--split {splits[0]!r} is for benchmark 'toolsandbox': tau2 has --domain")
    if name == "toolsandbox" and domains:
        raise UsageError(f"--domain {domains[0]!r} is for benchmark 'tau2': toolsandbox has --split")
    solved = _check_tau2(variables, domains) if name == "tau2" else _check_toolsandbox(variables, splits)
    if not solved:
        raise typer.Exit(1)


def _check_tau2(variables: dict[str, str], domains: list[str]) -> bool:
    from mcp_servers.benchmark.users import USER_VARIABLE
    from mcp_servers.tau2.check import check
    from mcp_servers.tau2.install import DOMAINS
    from mcp_servers.tau2.settings import read_settings

    for strange in set(domains) - set(DOMAINS):
        raise unknown("domain", strange, DOMAINS)
    settings = read_settings(variables | {USER_VARIABLE: "scripted"})
    failed = False
    for domain in domains or DOMAINS:
        found = check(settings, domain)
        run = found.tasks - found.not_run
        failed |= bool(found.failed)
        left_out = f"not run without a judge {found.not_run}, " if found.not_run else ""
        left_out += f"without gold actions {found.no_gold}, " if found.no_gold else ""
        print(
            f"{domain}: gold {found.gold}/{run - found.no_gold}, do nothing {found.floor}/{run}, {left_out}"
            f"infrastructure failures {found.broken}, revision {found.provenance['revision']}, {found.seconds:g} s",
            flush=True,
        )
        for task in found.failed:
            print(f"{domain}: the gold actions do not solve task {task!r}", file=sys.stderr)
    return not failed


def _check_toolsandbox(variables: dict[str, str], splits: list[str]) -> bool:
    from mcp_servers.benchmark.users import USER_VARIABLE
    from mcp_servers.toolsandbox.check import check
    from mcp_servers.toolsandbox.settings import read_settings

    settings = read_settings(variables | {USER_VARIABLE: "scripted"})
    failed = False
    for split in splits or ["base"]:
        found = check(settings, split)
        failed |= bool(found.failed)
        print(
            f"{split}: gold {found.gold}/{found.scenarios - found.not_run}, not run without RapidAPI {found.not_run}, "
            f"decline mean {found.floor_mean:.3f} with {found.floor_perfect} of {found.scenarios} perfect, "
            f"infrastructure failures {found.broken}, revision {found.provenance['revision']}, {found.seconds:g} s",
            flush=True,
        )
        for task in found.failed:
            print(f"{split}: gold actions do not solve task {task!r}", file=sys.stderr)
    return not failed
