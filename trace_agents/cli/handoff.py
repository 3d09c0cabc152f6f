"""`trace-agents handoff`: answer the requests of an analysis, by hand or over MCP."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from trace_agents.analysis.handoff import NOBODY, HandoffFolder
from trace_agents.analysis.requests import BadAnswer, parse_json
from trace_agents.errors import UsageError, unknown
from trace_agents.files import missing


class Action(StrEnum):
    """What to do with a hand-off folder."""

    LIST = "list"  # Name what is open.
    READ = "read"  # Print one request.
    ANSWER = "answer"  # Give one answer.
    SERVE = "serve"  # Let an MCP client do all that.


def handoff(
    action: Annotated[str, typer.Argument(help="list, read, answer or serve.", show_default=False)],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What `analyze --handoff` got.", show_default=False)],
    id: Annotated[
        str | None, typer.Argument(metavar="ID", help="read, answer: the request's id.", show_default=False)
    ] = None,
    file: Annotated[
        str | None,
        typer.Argument(metavar="FILE", help="answer: file with the JSON answer; - reads it from standard input."),
    ] = None,
    by: Annotated[str, typer.Option(help="answer: who answers, for the record.")] = NOBODY,
    port: Annotated[
        int | None,
        typer.Option(help="serve: over Streamable HTTP on this port of 127.0.0.1 (0: a free one).", show_default=False),
    ] = None,
) -> None:
    """Be the analyst: read and answer the requests that `analyze --handoff DIR` left in DIR.

    `serve` speaks MCP over standard input and output, or with --port over HTTP, with tools to list, read and answer:
    any agent that speaks MCP can then do the analysis.
    """
    try:
        wanted = Action(action)
    except ValueError:
        raise unknown("action", action, [one.value for one in Action]) from None
    held = HandoffFolder.existing(folder)
    if wanted is Action.LIST:
        _list(held)
    elif wanted is Action.READ:
        typer.echo(held.request(_given(id, "ID")).prompt)
    elif wanted is Action.ANSWER:
        _answer(held, _given(id, "ID"), _given(file, "FILE"), by)
    else:
        _serve(folder, port)


def _given(value: str | None, name: str) -> str:
    if value is None:
        raise UsageError(f"{name} is not given: `trace-agents handoff answer DIR ID FILE`, or `handoff read DIR ID`")
    return value


def _list(folder: HandoffFolder) -> None:
    waiting = folder.open()
    typer.echo(f"{len(waiting)} open, {len(folder.ids()) - len(waiting)} answered")
    for one in waiting:
        typer.echo(f"{one.id}  {one.about}")
    for identity, reason in folder.refusals().items():
        typer.echo(f"{identity}: the answer in its file cannot be taken: {reason}")


def _answer(folder: HandoffFolder, identity: str, file: str, by: str) -> None:
    try:
        folder.answer(identity, parse_json(_text(file)), by)
    except BadAnswer as error:
        raise UsageError(f"the answer to {identity!r} cannot be taken: {error}") from error
    typer.echo(f"taken; {len(folder.open())} open")


def _text(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise missing(Path(file)) from error
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise UsageError(f"answer {file!r} is no text file: give a JSON file, or - for standard input") from error


def _serve(folder: Path, port: int | None) -> None:
    from mcp_servers.handoff import MCP_PATH, serve_http, serve_stdio

    if port is None:
        serve_stdio(folder)
        return
    from trace_agents.cli.serve import listen

    listening = listen("127.0.0.1", port)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}{MCP_PATH}"
    print(f"serving the hand-off {str(folder)!r} on {url}", file=sys.stderr, flush=True)
    serve_http(folder, listening)
