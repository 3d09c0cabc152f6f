"""`trace-agents new-benchmark`: the files of a new benchmark, to begin from."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from trace_agents.errors import UsageError


def new_benchmark(
    name: Annotated[str, typer.Argument(help="Its name, such as 'my-benchmark'.")],
    route: Annotated[
        str | None, typer.Option(help="'class': a Python class (default); 'server': an existing MCP server.")
    ] = None,
    command: Annotated[str, typer.Option(help="With 'server': what starts it, speaking over standard input.")] = "",
    url: Annotated[str, typer.Option(help="With 'server': where it runs already.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder for the files; by default one of the name.")] = None,
) -> None:
    """Write the files of a new benchmark, which conforms and can be evaluated as it stands.

    With --command or --url it looks at your own MCP server, lists its tools, and leaves the tasks to you: until one is
    written, `conform` fails at `gold` or at `idle`.
    """
    from mcp_servers.scaffold import Wanted, write

    try:
        words = tuple(shlex.split(command))
    except ValueError as error:
        raise UsageError(f"--command {command!r} is no command line ({error}): mend its quotation marks") from error
    folder = out or Path(name)
    chosen = route or ("server" if words or url else "class")
    paths = write(Wanted(name=name, route=chosen, command=words, url=url, folder=folder))
    for path in paths:
        print(path)
    print(f"\nnext: cd {folder}; see README.md there, and docs/add-a-benchmark.md")
