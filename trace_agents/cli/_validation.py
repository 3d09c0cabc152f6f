"""`trace-agents analyze --validate`: how well planted deficits are found, beside the ablations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from trace_agents.analysis.validation.kit import Summary, Validation


def validation(context: typer.Context, asked: bool) -> None:
    """Callback of `--validate`: measures, prints a table (or JSON with `--json`), and leaves the command."""
    if not asked or context.resilient_parsing:
        return
    from trace_agents.analysis.validation.kit import validate as measure
    from trace_agents.analysis.validation.kit import worlds
    from trace_agents.cli._progress import console, watch

    names, seeds = context.params.get("worlds"), range(context.params.get("seeds") or 5)
    only = worlds(names) if names else None
    if context.params.get("json"):
        typer.echo(measure(seeds, only=only).model_dump_json(indent=2))
        raise typer.Exit
    screen = console()
    with watch(screen) as progress:
        found = measure(seeds, progress, only)
    for title, summaries in (
        ("Planted deficits, domains that the analyst was developed with", found.developed),
        ("Planted deficits, held-out domains", found.held_out),
    ):
        if any(one.scores for one in summaries):
            screen.print(_methods(title, summaries))
    screen.print(_recovery(found))
    if found.stability:
        screen.print(_stability(found))
    raise typer.Exit


def _methods(title: str, summaries: tuple[Summary, ...]) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("method")
    for heading in ("precision", "recall", "rank correlation", "lists scored"):
        table.add_column(heading, justify="right")
    for one in summaries:
        figures = [f"{value:.2f}" for value in (one.precision, one.recall, one.rank_correlation)]
        table.add_row(one.method, *figures, str(len(one.scores)))
    return table


def _recovery(found: Validation) -> Table:
    from rich.table import Table

    table = Table(title="Ten labelling runs over one dictionary (Figure 2), worst deal", title_justify="left")
    table.add_column("domain")
    headings = ("deals", "least frequent of the top four", "select all four", "same four by rank")
    for heading in headings:
        table.add_column(heading, justify="right")
    for domain in dict.fromkeys(one.domain for one in found.recovery):
        deals = [one for one in found.recovery if one.domain == domain]
        figures = (
            min(min(one.frequency.values(), default=0.0) for one in deals),
            min(one.together for one in deals),
            min(one.same_top for one in deals),
        )
        table.add_row(domain, str(len(deals)), *(f"{figure:.0%}" for figure in figures))
    return table


def _stability(found: Validation) -> Table:
    from rich.table import Table

    table = Table(title="Ten whole analyses, each on 80 % of the trials", title_justify="left")
    for heading in ("domain", "same top four", "least frequent of the top four"):
        table.add_column(heading)
    for one in found.stability:
        least = sorted(one.frequency.values(), reverse=True)[:4][-1:]
        table.add_row(one.domain, f"{one.same_top:.0%}", f"{least[0]:.0%}" if least else "–")
    return table
