"""`trace-agents conform`: whether an environment keeps its contract."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections import Counter
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trace_agents.errors import UsageError
from trace_agents.registry import SPELLINGS

if TYPE_CHECKING:
    from mcp_servers.conformance import Finding, Report

_STYLES = {"passed": "green", "failed": "bold red", "skipped": "yellow"}


def conform(
    env: Annotated[str, typer.Argument(help=f"Environment: {SPELLINGS}.")],
    tasks: Annotated[int, typer.Option(help="Task instances to play, spread over splits and seeds.")] = 8,
    episodes: Annotated[int, typer.Option(help="Episodes to interleave.")] = 64,
    quick: Annotated[bool, typer.Option("--quick", help="Leave out what starts processes: HTTP and stdio.")] = False,
    check: Annotated[list[str] | None, typer.Option(help="Run this check only (repeatable).")] = None,
    timeout: Annotated[float, typer.Option(min=1.0, help="Seconds that one check may take.")] = 600.0,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Check that an environment keeps its contract.

    Played are: shapes, determinism, isolation, what agents read over memory, stdio and HTTP in both protocol eras,
    the evaluation of gold, idle and garbage, limits and errors. Exits with 1 where a check failed.
    """
    from mcp_servers.conformance import Options
    from mcp_servers.conformance import conform as examine
    from trace_agents.cli._progress import console, watch

    options = Options(tasks=tasks, episodes=episodes, quick=quick, timeout_s=timeout)
    # Progress, and what the environment prints, stay out of the report.
    try:
        with contextlib.redirect_stdout(sys.stderr), watch(console(stderr=True)) as progress:
            report = asyncio.run(_ending_on_request(examine(env, options, check or (), progress)))
    except asyncio.CancelledError:
        raise typer.Exit(128 + signal.SIGTERM) from None
    except SystemExit as error:  # Of a module that is imported, or a constructor.
        message = f"the code of environment {env!r} ended the process with code {error.code!r}: let it raise"
        raise UsageError(message) from error
    if json:
        print(report.model_dump_json(indent=2))
    else:
        _show(report)
    if not report.conformant:
        raise typer.Exit(1)


async def _ending_on_request(examining: Coroutine[Any, Any, Report]) -> Report:
    """The report; on SIGTERM the processes that were started end too, as they do on Ctrl-C."""
    task = asyncio.ensure_future(examining)
    if sys.platform != "win32":
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


def _words(finding: Finding) -> list[str]:
    if not finding.found:
        return [finding.expected]
    if finding.status == "passed":
        return [finding.expected, finding.found]
    return (
        [finding.expected, f"found: {finding.found}", f"remedy: {finding.remedy}"]
        if finding.remedy
        else [finding.found]
    )


def _show(report: Report) -> None:
    from rich.table import Table
    from rich.text import Text

    from trace_agents.cli._progress import console

    table = Table("check", "", "", box=None, pad_edge=False)
    causes = {cause: f"cause {number}" for number, cause in enumerate(report.causes, 1)}
    for finding in report.findings:
        words = "\n".join(_words(finding)) if finding.cause not in causes else f"{causes[finding.cause]}, below"
        table.add_row(finding.check, Text(finding.status, _STYLES[finding.status]), Text(words))
    counts = [f"{sum(one.status == status for one in report.findings)} {status}" for status in _STYLES]
    console().print(table)
    for cause, same in report.causes.items():
        shown = f"\n{causes[cause]}, of {len(same)} failed checks: {cause}\nremedy: {same[0].remedy}"
        console().print(Text(shown), soft_wrap=True)
    for remedy, count in Counter(
        one.remedy for one in report.findings if one.status == "passed" and one.remedy
    ).items():
        console().print(
            f"\npassed, with nothing but errors to compare: {count}; remedy: {remedy}", highlight=False, soft_wrap=True
        )
    left = f"; {len(report.unavailable)} left out that cannot be played here" if report.unavailable else ""
    console().print(f"\n{report.environment}: {', '.join(counts)}; {report.tasks} tasks played{left}", highlight=False)
