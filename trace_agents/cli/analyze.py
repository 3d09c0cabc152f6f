"""`trace-agents analyze`: which capabilities an agent lacks, how sure that is, and where to look."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from trace_agents.analysis import Analysis, Candidate
    from trace_agents.importers import LoadReport

SHOWN = 5
"""Evidence trajectories that the table names; `capabilities.json` has more."""


def analyze(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Files and folders of trajectories.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder for capabilities.json and labels.jsonl.", show_default=False)],
    format: Annotated[
        str | None,
        typer.Option(
            help="adp, langsmith, messages, tau-bench, tau2, toolsandbox or verifiers; guessed where not given.",
            show_default=False,
        ),
    ] = None,
    success_column: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Key of a row with its success; a.b for nested ones.", show_default=False),
    ] = None,
    reward_column: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Key of a row with its reward; a.b for nested ones.", show_default=False),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Least reward of a success; 1 where not given.", show_default=False)
    ] = None,
    runs: Annotated[int, typer.Option(help="Independent labelling runs; kept is what passes in 8 of 10.")] = 10,
    seed: Annotated[int, typer.Option(help="Seed of the statistics and of the runs' samples.")] = 0,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out malformed rows and report them.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print capabilities.json instead of the table.")] = False,
) -> None:
    """Contrast failed with successful trajectories and name the capabilities that the failures lack."""
    from graphs.analysis import AnalysisConfig, run_analysis
    from trace_agents.analysis.statistical import StatisticalAnalyst
    from trace_agents.cli._progress import console, watch
    from trace_agents.contrast import Thresholds
    from trace_agents.importers import Outcomes, load_trajectories
    from trace_agents.progress import SilentProgress

    config = AnalysisConfig(thresholds=Thresholds.for_runs(runs))
    outcomes = Outcomes(success_column=success_column, reward_column=reward_column, threshold=threshold)
    report = load_trajectories(paths, format, skip_bad, outcomes)
    analyst, screen = StatisticalAnalyst(seed=seed), console()
    if json:
        analysis = run_analysis(report.trajectories, analyst, config, SilentProgress())
    else:
        with watch(screen) as progress:
            analysis = run_analysis(report.trajectories, analyst, config, progress)
    written = analysis.write(out)
    if json:
        typer.echo(written[0].read_text(encoding="utf-8"), nl=False)
        return
    _show(screen, analysis, report)
    screen.print(f"written: {' and '.join(str(file) for file in written)}", highlight=False, soft_wrap=True)


def _show(screen: Console, analysis: Analysis, report: LoadReport) -> None:
    summary = analysis.summary
    screen.print(
        f"{summary.trajectories} trajectories of {summary.tasks} tasks ({report.format}), {summary.failed} failed; "
        f"{summary.excluded} infrastructure failures excluded, {len(report.skipped)} malformed rows skipped"
        + (f", {len(report.ignored)} files without trajectories left out" if report.ignored else "")
    )
    if not summary.capabilities:
        screen.print(
            "no capability distinguishes failures from successes beyond chance: "
            "more trials of each task, or more tasks, would tell more"
        )
        return
    screen.print(_capability_table(analysis))
    for candidate in analysis.kept:
        screen.print(_evidence_table(candidate))


def _capability_table(analysis: Analysis) -> Table:
    from rich.table import Table

    table = Table(title="Capabilities, by coverage of the failures", show_lines=True)
    table.add_column("capability", overflow="fold")
    for heading in ("kept", "Cov", "Δ", "ER−", "ER+"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("why")
    for candidate in analysis.summary.capabilities:
        chosen = candidate.selection
        figures = [_figure(one.mean) for one in (chosen.coverage, chosen.delta, chosen.er_failed, chosen.er_succeeded)]
        table.add_row(
            _plain(candidate.capability.title), "yes" if chosen.kept else "no", *figures, _plain(chosen.reason)
        )
    return table


def _evidence_table(candidate: Candidate) -> Table:
    from rich.table import Table

    description = _plain(candidate.capability.description)
    table = Table(title=f"[bold]{candidate.capability.name}[/]", caption=description, title_justify="left")
    table.add_column("failed trajectory", no_wrap=True)
    table.add_column("step", justify="right")
    table.add_column("what it did", ratio=3)
    table.add_column("a success on the same task", ratio=2)
    for one in candidate.evidence[:SHOWN]:
        other = f"{one.contrast_id} at {one.contrast_step}: {one.contrast_excerpt}" if one.contrast_id else "–"
        table.add_row(_plain(one.trajectory_id), str(one.step), _plain(one.excerpt), _plain(other))
    return table


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _plain(text: str) -> str:
    """Text that rich prints as it is."""
    from rich.markup import escape

    return escape(text)
