"""`trace-agents report`: the figures of a run or an analysis, and its `report.html`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trace_agents.analysis.notes import FILE
from trace_agents.analysis.results import CAPABILITIES
from trace_agents.artifacts import EvaluationArtifact
from trace_agents.runstore import RunStore

if TYPE_CHECKING:
    from rich.console import RenderableType


def report(
    run_dir: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_DIR", help="Folder of a run, such as runs/<id>, or of an analysis.", show_default=False
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Where to write the page; default: report.html in the folder.", show_default=False),
    ] = None,
) -> None:
    """Print the tables of a run or an analysis and write its self-contained report.html."""
    from trace_agents.cli._progress import console
    from trace_agents.report import build_report

    screen = console()
    for table in _tables(run_dir):
        screen.print(table)
    screen.print(f"report [bold]{build_report(run_dir, out)}[/]", highlight=False)


def _tables(folder: Path) -> Iterator[RenderableType]:
    from rich.markup import escape

    from trace_agents.cli._tables import analysis_tables, evaluation_tables
    from trace_agents.report import is_analysis
    from trace_agents.report.findings import read_capabilities, read_notes

    if is_analysis(folder):
        yield from analysis_tables(read_capabilities(folder / CAPABILITIES))
        notes = read_notes(folder / FILE)
        if notes is not None:
            yield from (escape(line) for line in (notes.beside, notes.spent) if line)
        return
    store = RunStore.open(folder, write=False)
    if store.has("evaluation.json"):
        evaluation = store.read_json("evaluation.json", EvaluationArtifact)
        yield from evaluation_tables(evaluation, read_notes(store.path(FILE)))
