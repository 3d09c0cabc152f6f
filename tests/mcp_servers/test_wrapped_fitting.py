"""Mistakes in what a wrapped benchmark calls are told once, before an episode, with the place and the remedy."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import shelf_server
from shelf_benchmark import ADD, COMMAND, TASK, opened, write

from trace_agents.cli import main
from trace_agents.environment import ChecksFiles
from trace_agents.errors import InfrastructureError, UsageError

MISSPELT: Mapping[str, Any] = {"name": "ad", "arguments": {"word": "tree"}}
MISNAMED: Mapping[str, Any] = {"name": "add", "arguments": {"wort": "tree"}}
ALL = r"use one of 'add', 'clear', 'crash', 'picture', 'words'$"
MISTAKES: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any], str]] = {
    "a gold tool": (
        {"gold": [ADD, MISSPELT]},
        {},
        r"^unknown tool 'ad' in 'gold' of task 'b' \(line 2 of '.*tasks.jsonl'\): "
        r"use one of 'add', 'crash', 'picture', 'words'$",
    ),
    "a setup tool": (
        {"setup": [MISSPELT]},
        {},
        rf"^unknown tool 'ad' in 'setup' of task 'b' \(line 2 of '.*'\): {ALL}",
    ),
    "a reset tool": (
        {},
        {"reset": {"calls": [MISSPELT]}},
        rf"^unknown tool 'ad' in \[reset\] calls of '.*benchmark.toml': {ALL}",
    ),
    "a read": (
        {},
        {"check": {"reads": [{"name": "word"}]}},
        rf"^unknown tool 'word' in \[check\] reads of '.*benchmark.toml': {ALL}",
    ),
    "a gold argument": (
        {"gold": [MISNAMED]},
        {},
        r"""^arguments {"wort": "tree"} of tool 'add' in 'gold' of task 'b' \(line 2 of '.*'\) do not fit its input """
        r"""schema \(arguments: 'word' is a required property\): mend them, it takes add\(word\)$""",
    ),
    "a kind of argument": (
        {"setup": [{"name": "add", "arguments": {"word": 1}}]},
        {},
        r"""arguments {"word": 1} of tool 'add' in 'setup' of task 'b' .*\(word: 1 is not of type 'string'\)""",
    ),
}


@pytest.mark.parametrize(("task", "tables", "message"), MISTAKES.values(), ids=MISTAKES)
async def test_a_call_that_does_not_fit_the_servers_tools_is_refused_at_the_first_connection(
    tmp_path: Path, task: Mapping[str, Any], tables: Mapping[str, Any], message: str
) -> None:
    environment = opened(tmp_path, [TASK, TASK | {"id": "b"} | task], **tables)
    assert isinstance(environment, ChecksFiles)
    with pytest.raises(UsageError, match=message):
        await environment.check()
    with pytest.raises(UsageError, match=message):  # Whatever the task: its figures would not be those of the whole.
        await environment.start(environment.task("a"))
    assert environment._turns._free == environment.most_episodes


COMMANDS: Mapping[str, list[str]] = {
    "evaluate": ["--split", "test", "--agent", "oracle"],
    "conform": ["--quick", "--episodes", "2"],
    "serve": ["--port", "0"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_tell_a_misspelt_gold_action_once_and_play_nothing(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, [TASK, TASK | {"id": "b", "gold": [MISSPELT]}])
    monkeypatch.chdir(tmp_path)
    assert main([command, str(path), *COMMANDS[command]]) == 2
    said = capsys.readouterr()
    assert said.err.count("unknown tool 'ad' in 'gold' of task 'b' (line 2 of ") == 1
    assert "passed" not in said.out
    assert not list(tmp_path.rglob("trajectories.jsonl"))


async def test_a_mistake_that_is_mended_is_none_for_the_next_that_opens_the_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        await opened(tmp_path, [TASK | {"gold": [MISSPELT]}]).check()
    await opened(tmp_path).check()


async def test_a_server_that_is_down_is_no_mistake_in_the_files(tmp_path: Path) -> None:
    environment = opened(tmp_path, server={"command": ["{python}", "-c", "0"]})
    with pytest.raises(InfrastructureError, match="failed while connecting"):
        await environment.check()
    assert environment._turns._free == environment.most_episodes


async def test_a_server_started_for_a_task_is_held_against_that_task_alone(tmp_path: Path) -> None:
    server = {"command": COMMAND, "env": {"TASK": "{task}"}}
    environment = opened(tmp_path, [TASK, TASK | {"id": "b", "gold": [MISSPELT]}], server=server)
    episode = await environment.start(environment.task("a"))
    await episode.close()
    with pytest.raises(UsageError, match="unknown tool 'ad'"):
        await environment.start(environment.task("b"))


async def test_a_gold_action_may_be_refused_by_the_tool_itself(tmp_path: Path) -> None:
    refused = {"name": "add", "arguments": {"word": "naughty"}}
    environment = opened(tmp_path, [TASK | {"gold": [refused, ADD]}])
    episode = await environment.start(environment.task("a"))
    try:
        assert not (await episode.evaluate(())).success
        assert (await episode.call("add", refused["arguments"])).is_error
        await episode.call("add", ADD["arguments"])
        assert (await episode.evaluate(())).success
    finally:
        await episode.close()


def test_provenance_has_each_file_that_a_command_names(tmp_path: Path) -> None:
    server = tmp_path / "desk.py"
    server.write_text(Path(shelf_server.__file__).read_text())
    (tmp_path / "rules.json").write_text("{}")
    tables: dict[str, Any] = {
        "server": {"command": ["{python}", "{here}/desk.py", "{folder}/words", "--rules=rules.json", "x" * 5000]},
        "reset": {"command": ["{python}", "desk.py"]},
        "check": {"command": ["./judge", str(tmp_path / "rules.json")]},
    }
    (tmp_path / "judge").write_text("#!/bin/sh\n")
    (tmp_path / "judge").chmod(0o755)
    before = opened(tmp_path, **tables).provenance
    assert set(before) == {
        "description",
        "tasks",
        "server file '{here}/desk.py'",
        "server file '--rules=rules.json'",
        "reset file 'desk.py'",
        "check file './judge'",
        f"check file {str(tmp_path / 'rules.json')!r}",
    }
    server.write_text("raise SystemExit('closed')\n")
    after = opened(tmp_path, **tables).provenance
    assert {part for part in before if before[part] != after[part]} == {
        "server file '{here}/desk.py'",
        "reset file 'desk.py'",
    }


def test_an_evaluation_with_the_server_as_it_was_is_not_taken_for_one_with_the_server_of_now(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = tmp_path / "desk.py"
    server.write_text(Path(shelf_server.__file__).read_text())
    path = write(tmp_path, server={"command": [sys.executable, "{here}/desk.py", "{folder}/words"]})
    asked = ["evaluate", str(path), "--split", "test", "--agent", "oracle", "--out", str(tmp_path / "o"), "--no-floors"]
    assert main(asked) == 0
    server.write_text("raise SystemExit('closed')\n")
    assert main(asked) == 2
    assert "as it was before server file '{here}/desk.py' changed" in capsys.readouterr().err


async def test_a_program_in_the_descriptions_folder_judges_from_wherever_it_is_opened(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"command './judge' of \[check\] in .* is no program here"):
        opened(tmp_path, check={"command": ["./judge"]})
    (tmp_path / "judge").write_text("#!/bin/sh\necho 0.5\n")
    (tmp_path / "judge").chmod(0o755)
    environment = opened(tmp_path, check={"command": ["./judge"]})
    episode = await environment.start(environment.task("a"))
    assert (await episode.evaluate(())).reward == 0.5
    await episode.close()
