"""`trace-agents benchmarks`: install a target benchmark in its own Python environment, or see what is installed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from trace_agents.errors import UsageError, unknown

ACTIONS = ("check", "install", "show")
BENCHMARKS = ("tau2",)


def benchmarks(
    action: Annotated[str, typer.Argument(help="'install', 'show' what is installed, or 'check' it.")],
    name: Annotated[str, typer.Argument(help="Benchmark: 'tau2'.")] = "tau2",
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
        list[str] | None, typer.Option(help="Domain to check (repeatable); all of them if left out (check).")
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(envvar="TRACE_AGENTS_BENCHMARKS", help="Folder of installed benchmarks."),
    ] = None,
) -> None:
    """Install a target benchmark from its own repository, show what is installed, or check it.

    A benchmark gets a Python environment of its own, so that its dependencies never meet these. Its code, data and
    tools are checked against upstream's release; what differs is refused unless its hash is accepted. A check plays
    every task over MCP: its gold actions, which must solve it, and an agent that does nothing, which is the floor.
    """
    if action not in ACTIONS:
        raise unknown("action", action, ACTIONS)
    if name not in BENCHMARKS:
        raise unknown("benchmark", name, BENCHMARKS)
    from mcp_servers.benchmark.installation import HOME_VARIABLE, home, read_installation
    from mcp_servers.tau2.settings import Tau2Installation

    variables = dict(os.environ) | ({HOME_VARIABLE: str(folder)} if folder else {})
    if action == "show":
        print(read_installation(home(variables), "tau2", Tau2Installation).model_dump_json(indent=2))
        return
    if action == "check":
        _check(variables, domain or [])
        return
    if source is None:
        raise UsageError(f"--from is missing: give upstream's repository of benchmark {name!r}, a folder or a URL")
    from mcp_servers.benchmark.install import Request
    from mcp_servers.tau2.install import install

    request = Request(source, data, tuple(accept or ()), python or Path(sys.executable))
    installed = install(request, lambda line: print(line, file=sys.stderr, flush=True), variables)
    print(f"installed {name} {installed.revision}: {str(installed.python)!r} plays on {str(installed.data)!r}")


def _check(variables: dict[str, str], domains: list[str]) -> None:
    """A line for each domain, and exit code 1 where the gold actions do not solve every task."""
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
        failed |= found.gold < found.tasks
        print(
            f"{domain}: gold {found.gold}/{found.tasks}, do nothing {found.floor}/{found.tasks}, "
            f"infrastructure failures {found.broken}, revision {found.provenance['revision']}, {found.seconds:g} s",
            flush=True,
        )
        for task in found.failed:
            print(f"{domain}: the gold actions do not solve task {task!r}", file=sys.stderr)
    if failed:
        raise typer.Exit(1)
