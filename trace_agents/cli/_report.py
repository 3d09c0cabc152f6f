"""`trace-agents report`: the figures of a run, and its `report.html`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trace_agents.artifacts import EvaluationArtifact
from trace_agents.runstore import RunStore


def report(
    run_dir: Annotated[
        Path, typer.Argument(metavar="RUN_DIR", help="Folder of a run, such as runs/<id>.", show_default=False)
    ],
    out: Annotated[
        Path | None, typer.Option(help="Where to write the page; default: report.html in the run.", show_default=False)
    ] = None,
) -> None:
    """Print a run's final tables and write its self-contained report.html."""
    from trace_agents.cli._progress import console
    from trace_agents.cli._tables import evaluation_tables
    from trace_agents.report import build_report

    screen = console()
    store = RunStore.open(run_dir, write=False)
    if store.has("evaluation.json"):
        for table in evaluation_tables(store.read_json("evaluation.json", EvaluationArtifact)):
            screen.print(table)
    screen.print(f"report [bold]{build_report(run_dir, out)}[/]", highlight=False)
