"""`trace-agents environments`: what is registered, and what each offers."""

from __future__ import annotations

from rich.table import Table

from trace_agents.cli._progress import console
from trace_agents.errors import UsageError
from trace_agents.registry import environment_names, load_environment


def environments() -> None:
    """List the registered environments with their splits."""
    table = Table("environment", "tasks by split", box=None, pad_edge=False)
    for name in environment_names():
        table.add_row(name, _splits(name))
    console().print(table)


def _splits(name: str) -> str:
    try:
        splits = load_environment(name).splits
    except (ImportError, UsageError) as error:
        # A plug-in whose own dependencies are missing, or a benchmark not installed, must not hide the others.
        return f"cannot be loaded: {error}"
    return ", ".join(f"{split} {count}" for split, count in splits.items()) or "generated from seeds"
