"""A new benchmark's files: templates beside this module, rendered for a name and, where there is one, for a server."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from pydantic import Field

from mcp_servers.scaffold.tools import described, look, readers
from trace_agents.errors import UsageError, unknown
from trace_agents.files import write_atomically
from trace_agents.toml import toml
from trace_agents.types import Record

ROUTES: Mapping[str, str] = {
    "class": "a Python class on the contract",
    "server": "an existing MCP server, a task file and a checker",
}
"""Route -> what it is, in words."""
_NAME = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*")


class Wanted(Record):
    """A benchmark that is to be begun."""

    name: str
    route: str = "class"
    """One of `ROUTES`."""
    command: tuple[str, ...] = ()
    """The command that starts the server; without it and a URL, a small server is written too."""
    url: str = ""
    """Where the server runs already."""
    folder: Path = Field(default=Path())
    """Where the files go; made where there is none."""


def write(wanted: Wanted) -> Sequence[Path]:
    """Write the files of a new benchmark; which ones.

    Raises:
        UsageError: the name or the route cannot be, the folder holds files, or the server does not answer.
    """
    if wanted.route not in ROUTES:
        raise unknown("route", wanted.route, list(ROUTES))
    if not _NAME.fullmatch(wanted.name):
        raise UsageError(
            f"name {wanted.name!r} cannot be: use small letters, digits and hyphens, such as 'my-benchmark'"
        )
    if wanted.folder.exists() and (not wanted.folder.is_dir() or any(wanted.folder.iterdir())):
        raise UsageError(f"folder {str(wanted.folder)!r} is not empty: name another with --out, nothing is overwritten")
    if wanted.route != "server" and (wanted.command or wanted.url):
        raise UsageError(f"a server is for route 'server', not {wanted.route!r}: leave --command and --url out")
    if wanted.command and wanted.url:
        raise UsageError(f"--command and --url {wanted.url!r} are two ways to one server: give one of them")
    values = _values(wanted)
    made = {name: text for name, text in _rendered(wanted.route, values).items() if _needed(name, wanted, values)}
    paths = []
    for name, text in made.items():
        path = wanted.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
        paths.append(path)
    return paths


def _values(wanted: Wanted) -> Mapping[str, Any]:
    """What the templates read."""
    module = wanted.name.replace("-", "_")
    named: dict[str, Any] = {
        "name": wanted.name,
        "module": module,
        "camel": "".join(part.title() for part in module.split("_")),
    }
    if wanted.route == "class":
        return named
    if not (wanted.command or wanted.url):
        return named | _SAMPLE
    tools, instructions = look(wanted.command, wanted.url)
    # Paths in a command are those of the folder in which it was given.
    place = os.path.relpath(Path.cwd(), wanted.folder)
    return (
        named
        | _OWN
        | {
            "url": wanted.url,
            "command": list(wanted.command),
            "cwd": "{here}" if place == "." else f"{{here}}/{place}",
            "tools": [described(spec) for spec in tools],
            "reads": [{"name": spec.name} for spec in readers(tools)[:1]],
            "policy": instructions or "What agents have to know and to keep: replace this.",
        }
    )


_OWN: dict[str, Any] = {
    "hide": [],
    "snapshot": "",
    "tasks": [{"id": "first", "split": "test", "prompt": "What a user asks for: replace this.", "gold": []}],
}
"""What is said of a server of the user's own, to be filled in."""

_SAMPLE: dict[str, Any] = {
    "url": "",
    "command": ["{python}", "server.py", "{folder}/orders.json"],
    "cwd": "{here}",
    "hide": ["all_orders"],
    "tools": [],
    "snapshot": "start",
    "reads": [{"name": "all_orders"}],
    "policy": "You serve the customers of a shop. Look an order up before you change it. An order that has been sent "
    "cannot be cancelled.",
    "tasks": [
        {
            "id": "cancel-open",
            "split": "train",
            "prompt": "Please cancel my order A1.",
            "gold": [
                {"name": "look_up", "arguments": {"order": "A1"}},
                {"name": "cancel", "arguments": {"order": "A1"}},
                "It is cancelled.",
            ],
        },
        {
            "id": "cancel-other",
            "split": "validation",
            "prompt": "I no longer want order D3.",
            "gold": [
                {"name": "look_up", "arguments": {"order": "D3"}},
                {"name": "cancel", "arguments": {"order": "D3"}},
                "It is cancelled.",
            ],
        },
        {
            "id": "cancel-second",
            "split": "test",
            "prompt": "Please cancel my order.",
            "replies": ["B2."],
            "gold": ["Which one?", {"name": "cancel", "arguments": {"order": "B2"}}, "It is cancelled."],
        },
        {
            "id": "cancel-sent",
            "split": "test",
            "prompt": "Please cancel my order C7.",
            "gold": [{"name": "look_up", "arguments": {"order": "C7"}}, "It has been sent already."],
        },
    ],
}
"""What is said of the small server that is written where the user has none."""


def _needed(name: str, wanted: Wanted, values: Mapping[str, Any]) -> bool:
    """A server of the user's own takes the small one's place; a checker is for where no tool reads the state."""
    if name == "check.py":
        return not values["reads"]
    return name not in ("server.py", "start/orders.json") or not (wanted.command or wanted.url)


def _rendered(route: str, values: Mapping[str, Any]) -> dict[str, str]:
    """File name -> text."""
    jinja = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    jinja.filters |= {"toml": toml, "json": lambda value: json.dumps(value, ensure_ascii=False)}
    found = {}
    for entry in sorted(_templates(route), key=lambda entry: entry.name):
        name = entry.name.removesuffix(".jinja").replace("module.py", f"{values['module']}.py")
        name = f"start/{name}" if name == "orders.json" else name
        found[name] = jinja.from_string(entry.read_text(encoding="utf-8")).render(values)
    return found


def _templates(route: str) -> list[Traversable]:
    return [entry for entry in (files(__package__) / route).iterdir() if entry.name.endswith(".jinja")]
