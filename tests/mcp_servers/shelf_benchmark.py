"""A benchmark around the shelf server, written into a folder."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import shelf_server

from mcp_servers.wrapped import WrappedEnvironment
from trace_agents.registry import load_environment

SERVER = Path(shelf_server.__file__)
COMMAND = ["{python}", str(SERVER), "{folder}/words"]
ADD: Mapping[str, Any] = {"name": "add", "arguments": {"word": "tree"}}
TASK: Mapping[str, Any] = {"id": "a", "prompt": "Add tree.", "gold": [ADD, "Done."]}
READS: Mapping[str, Any] = {"reads": [{"name": "words"}], "ignore": ["process"]}
TABLES = ("server", "tools", "reset", "check")


def write(folder: Path, tasks: list[Mapping[str, Any]] | None = None, **tables: Mapping[str, Any]) -> Path:
    """A description of the shelf server in `folder`, with its defaults replaced by `tables`."""
    given = {"server": {"command": COMMAND}, "tools": {"hide": ["clear"]}, "reset": {}, "check": READS} | tables
    lines = ['name = "shelf"']
    for name in given:
        lines += [f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in given[name].items())]
    path = folder / "benchmark.toml"
    path.write_text("\n".join(lines))
    (folder / "tasks.jsonl").write_text("".join(f"{json.dumps(task)}\n" for task in tasks or [TASK]))
    return path


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


def opened(
    folder: Path, tasks: list[Mapping[str, Any]] | None = None, **tables: Mapping[str, Any]
) -> WrappedEnvironment:
    environment = load_environment(str(write(folder, tasks, **tables)))
    assert isinstance(environment, WrappedEnvironment)
    return environment


@contextmanager
def shared_shelf(folder: Path) -> Iterator[str]:
    """The URL of a shelf whose clients all share a file of words in `folder`."""
    kind = type("SharedShelf", (shelf_server.Handler,), {"shelf": shelf_server.Shelf(folder / "shared-words")})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/mcp"
        finally:
            server.shutdown()
            thread.join()
