"""What `trace-agents new-benchmark` writes conforms and can be evaluated as it stands."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import shelf_server
from shelf_benchmark import shared_shelf

from mcp_servers.scaffold import ROUTES
from mcp_servers.wrapped import load
from trace_agents.cli import main
from trace_agents.errors import UsageError
from trace_agents.registry import load_environment

SHELF = f"{sys.executable} {os.path.relpath(shelf_server.__file__)} '{{folder}}/words'"
FLOOR = 0.5
"""Of the two test tasks that are written, doing nothing solves the one in which nothing may be done."""


def named(route: str, folder: Path) -> str:
    return {"class": f"{folder / 'my_shop.py'}:MyShop", "server": str(folder / "benchmark.toml")}[route]


@pytest.mark.parametrize("route", ["class", "server"])
def test_what_is_written_conforms_and_has_its_ceiling_and_floor(
    route: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new"
    assert main(["new-benchmark", "my-shop", "--route", route, "--out", str(folder)]) == 0
    said = capsys.readouterr().out
    assert {line for line in said.splitlines() if line.startswith(str(folder))} == {
        str(path) for path in folder.rglob("*") if path.is_file()
    }
    environment = named(route, folder)
    assert set(load_environment(environment).splits) == {"train", "validation", "test"}  # As a whole run needs them.
    assert environment.removeprefix(f"{folder}/") in (folder / "README.md").read_text()
    assert main(["conform", environment, "--json", "--quick", "--episodes", "4"]) == 0
    found = json.loads(capsys.readouterr().out)
    left_out = {"generation", "processes", "door-stdio", "door-http"}
    assert {one["check"] for one in found["findings"] if one["status"] != "passed"} == left_out
    asked = [
        "evaluate",
        environment,
        "--split",
        "test",
        "--agent",
        "do-nothing",
        "--out",
        str(tmp_path / "o"),
        "--json",
    ]
    assert main(asked) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["score"]["pass_rate"]["value"] == FLOOR
    assert next(one for one in found["beside"] if one["agent"] == "oracle")["pass_rate"]["value"] == 1


async def test_a_server_of_ones_own_is_looked_at_and_its_tools_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "shelf"
    asked = ["new-benchmark", "shelf", "--command", SHELF, "--out", str(folder)]
    assert await asyncio.to_thread(main, asked) == 0
    text = (folder / "benchmark.toml").read_text()
    for line in ("add(word): Add a word.", "words(): All words, and the server's process.", "crash()"):
        assert f"#   {line}" in text
    assert 'reads = [{ name = "words" }]' in text
    assert not (folder / "server.py").exists()
    # The command is run in the folder in which it was given, from wherever the benchmark is opened.
    monkeypatch.chdir(tmp_path)
    environment = load("shelf/benchmark.toml")
    episode = await environment.start(environment.task("first"))
    assert not (await episode.call("words", {})).is_error
    await episode.close()


def test_a_server_that_reads_nothing_gets_a_checker_to_fill_in(tmp_path: Path) -> None:
    server = tmp_path / "mute.py"
    server.write_text(Path(shelf_server.__file__).read_text().replace('"readOnlyHint": True', '"readOnlyHint": False'))
    folder = tmp_path / "mute"
    assert main(["new-benchmark", "mute", "--command", f"{sys.executable} {server} x", "--out", str(folder)]) == 0
    assert (folder / "check.py").exists()
    assert load(folder / "benchmark.toml").splits == {"test": 1}


def test_of_a_server_at_a_url_its_author_says_how_its_state_begins_anew(tmp_path: Path) -> None:
    with shared_shelf(tmp_path) as url:
        folder = tmp_path / "shelf"
        assert main(["new-benchmark", "shelf", "--url", url, "--out", str(folder)]) == 0
        path = folder / "benchmark.toml"
        with pytest.raises(UsageError, match=r"give \[reset\] a 'command' or 'calls' that reset it, or by_connection"):
            load(path)
        suggested = '# calls = [{ name = "reset", arguments = {} }]'
        assert suggested in path.read_text()
        path.write_text(path.read_text().replace(suggested, 'calls = [{ name = "clear", arguments = {} }]'))
        asyncio.run(load(path).check())


REFUSED: dict[str, tuple[Sequence[str], str]] = {
    "a name with capitals": (["MyShop"], "name 'MyShop' cannot be"),
    "an unknown route": (
        ["shop", "--route", "clas"],
        "unknown route 'clas': use one of " + ", ".join(map(repr, ROUTES)),
    ),
    "a server for a class": (["shop", "--route", "class", "--command", "node x"], "a server is for route 'server'"),
    "half a quotation": (["shop", "--command", "node 'a"], "is no command line"),
    "a server that does not run": (["shop", "--command", f"{sys.executable} -c 0"], "failed while connecting"),
    "a program that is not there": (["shop", "--command", "no-such-program"], "no-such-program"),
    "two ways to a server": (["shop", "--command", "x", "--url", "http://x"], "--command"),
}


@pytest.mark.parametrize(("asked", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_begun_is_refused_and_nothing_is_written(
    asked: Sequence[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new"
    assert main(["new-benchmark", *asked, "--out", str(folder)]) == 2
    assert message in capsys.readouterr().err
    assert not folder.exists()


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "precious").write_text("mine")
    assert main(["new-benchmark", "shop", "--out", str(tmp_path)]) == 2
    assert f"folder {str(tmp_path)!r} is not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
