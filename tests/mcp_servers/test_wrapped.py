"""An existing MCP server with a task file and a checker is an environment like any other."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import shelf_server
import speaking_endpoint
from environment_serving import serving
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_environment import Ledger
from mcp.client import Client
from mcp_types import ListToolsRequest
from pydantic import TypeAdapter
from shelf_benchmark import COMMAND, READS, SERVER, TASK, opened, shared_shelf, write

from mcp_servers.episodes import EpisodeTable
from mcp_servers.listing import stated_tools
from mcp_servers.memory import connect
from mcp_servers.remote import RemoteEnvironment
from mcp_servers.server import episode_server, tool_result
from mcp_servers.wire import TaskChoice
from mcp_servers.wrapped.checker import verdict
from mcp_servers.wrapped.turns import Turns
from trace_agents import scratch
from trace_agents.cli import main
from trace_agents.environment import Environment, Episode, HasOracle, HasProvenance, PlaysFew, at_once
from trace_agents.errors import InfrastructureError, UsageError
from trace_agents.registry import load_environment
from trace_agents.types import Evaluation, Message, TaskInstance


async def words(episode: Episode) -> list[str]:
    result = await episode.call("words", {})
    return list(result.structured["words"])


async def process(episode: Episode) -> int:
    return int((await episode.call("words", {})).structured["process"])


async def test_a_server_that_knows_of_no_benchmark_is_played_and_judged(tmp_path: Path) -> None:
    environment = opened(tmp_path)
    assert isinstance(environment, Environment)
    assert isinstance(environment, HasOracle)
    assert isinstance(environment, HasProvenance)
    assert isinstance(environment, PlaysFew)
    assert environment.most_episodes == 16
    [task] = environment.tasks("test")
    episode = await environment.start(task)
    beside = await environment.start(task)
    try:
        assert [spec.name for spec in episode.tools] == ["add", "words", "crash", "picture"]
        assert episode.policy == "Keep words in /episode-folder."
        assert (await episode.evaluate(())).success is False
        hidden = await episode.call("clear", {})
        assert (hidden.is_error, hidden.content) == (
            True,
            "unknown tool 'clear': use one of 'add', 'words', 'crash', 'picture'",
        )
        assert (await episode.call("add", {"word": "tree"})).content.startswith("added tree")
        assert (await episode.evaluate(())) == Evaluation(reward=1.0, success=True, breakdown={"words": 1.0})
        assert await words(beside) == []
    finally:
        await episode.close()
        await beside.close()
        await beside.close()
    assert not episode._live.folder.exists()


async def test_agents_read_what_the_server_says_and_reach_only_what_they_are_offered(tmp_path: Path) -> None:
    environment = opened(tmp_path, reset={"folder_as": "/shelf"})
    episode = await environment.start(environment.task("a"))
    try:
        assert episode.policy == "Keep words in /shelf."
        async with connect(episode) as client:
            added = tool_result(await client.call_tool("add", {"word": "/shelf/x"}))
            hidden = tool_result(await client.call_tool("clear", {}))
            refused = tool_result(await client.call_tool("add", {"word": "naughty"}))
            faulty = tool_result(await client.call_tool("add", {"word": 1}))
            listed = await client.call_tool("words", {})
            seen = tool_result(await client.call_tool("picture", {}))
        assert (added.content, added.is_error) == ("added /shelf/x to /shelf/words", False)
        assert hidden.is_error
        assert "unknown tool 'clear'" in hidden.content
        assert refused.is_error
        assert "No such words here." in refused.content
        assert faulty.is_error
        assert listed.structured_content["words"] == ["/shelf/x"]
        assert seen.content == "[image, image/png, 3 bytes: not text]\n[resource shelf://sound: a sound]\nand words"
        assert (episode._live.folder / "words").read_text() == f"{episode._live.folder}/x\n"
    finally:
        await episode.close()


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_servers_tools_reach_agents_to_the_byte(tmp_path: Path, mode: str) -> None:
    environment = opened(tmp_path)
    episode = await environment.start(environment.task("a"))
    stated = [
        json.dumps(tool, sort_keys=False) for tool in map(in_one_order, shelf_server.TOOLS) if tool["name"] != "clear"
    ]
    try:
        async with Client(episode_server(episode), mode=mode) as client:
            raw = await client.session.send_request(ListToolsRequest(), TypeAdapter(dict[str, Any]))
            assert [json.dumps(in_one_order(tool)) for tool in raw["tools"]] == stated
            assert await stated_tools(client) == list(episode.tools)
    finally:
        await episode.close()


def in_one_order(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool with its own keys in one order; the values are as they were."""
    return {key: tool[key] for key in sorted(tool)}


async def test_gold_actions_setup_and_reads_write_the_folders_name_too(tmp_path: Path) -> None:
    named = {"name": "add", "arguments": {"word": "/episode-folder/tree"}}
    task = TASK | {"setup": [named], "gold": [named]}
    environment = opened(tmp_path, [task], check=READS | {"reads": [*READS["reads"], {"resource": "shelf://words"}]})
    episode = await environment.start(environment.task("a"))
    try:
        assert (episode._live.folder / "words").read_text() == f"{episode._live.folder}/tree\n"
        await episode.call("add", named["arguments"])
        assert (await episode.evaluate(())).success
    finally:
        await episode.close()


async def test_a_folder_without_a_name_is_read_as_it_is(tmp_path: Path) -> None:
    environment = opened(tmp_path, reset={"folder_as": ""})
    episode = await environment.start(environment.task("a"))
    assert episode.policy == f"Keep words in {episode._live.folder}."
    await episode.close()


async def test_a_kept_process_begins_each_episode_anew_unless_it_has_failed(tmp_path: Path) -> None:
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "words").write_text("moss\n")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "words").write_text("fern\n")
    tasks = [TASK, TASK | {"id": "b", "snapshot": "more", "setup": [{"name": "add", "arguments": {"word": "ivy"}}]}]
    environment = opened(tmp_path, tasks, reset={"snapshot": "start", "keep": True}, check={"reads": READS["reads"]})
    first = await environment.start(environment.task("a"))
    held = await process(first)
    assert await words(first) == ["moss"]
    (first._live.folder / "rubbish").mkdir()
    await first.close()
    second = await environment.start(environment.task("b"))
    assert (await process(second), await words(second)) == (held, ["fern", "ivy"])
    assert [entry.name for entry in second._live.folder.iterdir()] == ["words"]
    with pytest.raises(InfrastructureError, match=r"failed during tool 'crash': .*its last words: the shelf fell down"):
        await second.call("crash", {})
    await second.close()
    third = await environment.start(environment.task("a"))
    other = await process(third)
    assert other != held
    calling = asyncio.create_task(third.call("words", {}))
    await asyncio.sleep(0)
    calling.cancel()
    await asyncio.wait([calling])
    await third.close()
    fourth = await environment.start(environment.task("a"))
    assert await process(fourth) not in (held, other)
    await fourth.close()


async def test_a_kept_server_that_makes_its_files_when_they_are_wanted_needs_no_more_than_its_folder(
    tmp_path: Path,
) -> None:
    environment = opened(tmp_path, reset={"keep": True}, check={"reads": READS["reads"]})
    first = await environment.start(environment.task("a"))
    await first.call("add", {"word": "oak"})
    held = await process(first)
    await first.close()
    second = await environment.start(environment.task("a"))
    assert (await process(second), await words(second)) == (held, [])
    await second.close()
    await environment.close()


PLAYS = """\
import asyncio, sys
from trace_agents.registry import load_environment

async def play():
    environment = load_environment(sys.argv[1])
    episode = await environment.start(environment.task("a"))
    print(episode._live.folder, flush=True)
    await asyncio.to_thread(sys.stdin.read)

asyncio.run(play())
"""


async def test_the_folder_of_a_killed_evaluation_goes_when_the_next_episode_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = opened(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(scratch, "_swept", set())
    command = [sys.executable, "-c", PLAYS, str(tmp_path / "benchmark.toml")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        left = Path(process.stdout.readline().strip())
        assert left.is_dir()
        process.kill()
    episode = await environment.start(environment.task("a"))
    assert not left.parent.exists()
    assert episode._live.folder.is_dir()
    await episode.close()


CHECKER = """\
import json, sys

def check(finished):
    said = [message.content for message in finished.messages]
    return judged(finished.state, (finished.folder / "words").exists(), finished.task.data, said)

async def later(finished):
    return check(finished)

def judged(state, exists, data, said):
    [listed, lines] = state
    assert listed["words"] == lines.split() and exists
    parts = {"words": float(listed["words"] == data["wanted"]), "thanks": float(said[-1:] == ["Thanks."])}
    return {"reward": sum(parts.values()) / 2, "breakdown": parts}

if __name__ == "__main__":
    given = json.load(sys.stdin)
    said = [message["content"] for message in given["messages"]]
    print(json.dumps(judged(given["state"], True, given["task"]["data"], said)))
"""


@pytest.mark.parametrize(
    "checker", [{"function": "check.py:check"}, {"function": "check.py:later"}, {"command": ["{python}", "check.py"]}]
)
async def test_functions_and_programs_judge_state_folder_and_conversation(
    tmp_path: Path, checker: Mapping[str, Any]
) -> None:
    (tmp_path / "check.py").write_text(CHECKER)
    reads = [{"name": "words"}, {"resource": "shelf://words"}]
    row = {"id": "a", "prompt": "Add tree.", "data": {"wanted": ["tree"]}}
    environment = opened(tmp_path, [row], check={"reads": reads, **checker})
    assert not isinstance(environment, HasOracle)
    episode = await environment.start(environment.task("a"))
    try:
        await episode.call("add", {"word": "tree"})
        half = await episode.evaluate([Message(role="user", content="Hm.")])
        full = await episode.evaluate([Message(role="user", content="Thanks.")])
    finally:
        await episode.close()
    assert half == Evaluation(reward=0.5, success=False, breakdown={"words": 1.0, "thanks": 0.0})
    assert full == Evaluation(reward=1.0, success=True, breakdown={"words": 1.0, "thanks": 1.0})


BROKEN = """\
import os, subprocess, sys, time

def raises(finished):
    return finished.task.data["no such key"]

def exits(finished):
    sys.exit("enough")

def computes(finished):
    while not os.path.exists(finished.folder / "never"):
        pass

if __name__ == "__main__":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    open(sys.argv[1], "w").write(str(child.pid))
    time.sleep(600)
"""
BROKEN_CHECKERS: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "it raises": ({"function": "check.py:raises"}, r"raised KeyError: 'no such key' \(check.py, line 4\) on task 'a'$"),
    "it exits": ({"function": "check.py:exits"}, "checker 'check.py:exits' raised RuntimeError: SystemExit: enough"),
    "it never ends": ({"function": "check.py:computes", "timeout_s": 0.2}, "checker .* took longer than 0.2 s"),
    "its program talks": ({"command": ["{python}", "-c", "print('hi', 1)"]}, "printed 'hi 1.*: standard output has to"),
    "its program never ends": ({"command": ["{python}", "check.py", "{here}/child"], "timeout_s": 2}, "than 2 s"),
}  # fmt: skip


@pytest.mark.parametrize(("checker", "message"), BROKEN_CHECKERS.values(), ids=BROKEN_CHECKERS)
async def test_a_checker_that_breaks_costs_the_episode_its_verdict_and_leaves_nothing(
    tmp_path: Path, checker: Mapping[str, Any], message: str
) -> None:
    (tmp_path / "check.py").write_text(BROKEN)
    environment = opened(tmp_path, check=checker)
    episode = await environment.start(environment.task("a"))
    try:
        with pytest.raises(InfrastructureError, match=message):
            await episode.evaluate(())
    finally:
        (episode._live.folder / "never").touch()
        await episode.close()
    if (tmp_path / "child").exists():
        child = int((tmp_path / "child").read_text())
        status = Path(f"/proc/{child}/status")
        assert not status.exists() or "State:\tZ" in status.read_text()


async def test_what_is_kept_ends_with_the_server_that_plays_it(tmp_path: Path) -> None:
    environment = opened(tmp_path, reset={"calls": [{"name": "clear"}], "keep": True}, check={"reads": READS["reads"]})
    table = EpisodeTable(environment)
    live = await table.create(TaskChoice(task_id="a"))
    folder = live.guarded._episode._live.folder
    await table.delete(live.id)
    assert folder.exists()
    await table.close()
    assert not folder.exists()


async def test_a_line_that_is_no_message_is_told_without_a_traceback(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    start = f"import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path({str(SERVER)!r}, None, '__main__')"
    noisy = ["{python}", "-c", f"print('Welcome!', flush=True); {start}", "shelf", "{folder}/words"]
    environment = opened(tmp_path, server={"command": noisy})
    episode = await environment.start(environment.task("a"))
    await episode.close()
    told = [record.exc_info for record in caplog.records if record.name == "mcp.client.stdio"]
    assert told == [None, None]  # The gold actions' server, and the episode's.


def test_an_evaluation_of_the_benchmark_as_it_was_is_told_from_one_of_now(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path)
    asked = [
        "evaluate",
        str(path),
        "--split",
        "test",
        "--agent",
        "do-nothing",
        "--no-floors",
        "--out",
        str(tmp_path / "o"),
    ]
    assert main(asked) == 0
    (tmp_path / "tasks.jsonl").write_text(json.dumps(TASK | {"replies": ["Thanks."]}))
    assert main(asked) == 2
    assert "holds results of the environment as it was before tasks changed: choose another" in capsys.readouterr().err


VERDICTS: Mapping[str, tuple[Any, Evaluation | str]] = {
    "a truth": (True, Evaluation(reward=1.0, success=True)),
    "a number": (0.25, Evaluation(reward=0.25, success=False)),
    "a lenient success": ({"reward": 0.8, "success": True}, Evaluation(reward=0.8, success=True)),
    "nothing": (None, "gave None: it has to give True or False"),
    "a reward above one": (1.5, "gave reward 1.5: rewards and their parts are in"),
    "not a number": (float("nan"), "gave reward nan"),
    "a part below nought": ({"reward": 1, "breakdown": {"a": -1}}, "gave a -1.0"),
    "a word": ({"reward": "good"}, "gave {'reward': 'good'}"),
    "a misspelt key": ({"reward": 1, "sucess": True}, "gave {'reward': 1, 'sucess': True}"),
    "no reward": ({"success": True}, "gave {'success': True}"),
}


@pytest.mark.parametrize(("given", "wanted"), VERDICTS.values(), ids=VERDICTS)
def test_a_checker_gives_a_verdict_or_is_told_what_one_is(given: Any, wanted: Evaluation | str) -> None:
    if isinstance(wanted, Evaluation):
        assert verdict(given, "checker 'check.py:check'") == wanted
    else:
        with pytest.raises(InfrastructureError) as raised:
            verdict(given, "checker 'check.py:check'")
        assert str(raised.value).startswith(f"checker 'check.py:check' {wanted}")


async def test_replies_are_said_in_order_and_then_the_conversation_is_over(tmp_path: Path) -> None:
    environment = opened(tmp_path, [TASK | {"replies": ["Yes.", "No."]}])
    episode = await environment.start(environment.task("a"))
    try:
        heard = [(await episode.user_turn("Well?")).content for _ in range(3)]
    finally:
        await episode.close()
    assert heard == ["Yes.", "No.", None]


async def test_a_model_speaks_for_the_user_that_a_task_describes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [TASK | {"user": "You like ###trees.", "replies": ["Yes."]}]
    with speaking_endpoint.listening() as endpoint:
        endpoint.lines = [speaking_endpoint.says("An oak."), speaking_endpoint.says("Fine. ###OVER###")]
        choice = endpoint.choice()
        for name, value in (("URL", choice.url), ("MODEL", choice.model), ("KEY", choice.key)):
            monkeypatch.setenv(f"TRACE_AGENTS_USER_{name}", value)
        environment = opened(tmp_path, tasks)
        assert environment.provenance["user model"] == "speaker"
        episode = await environment.start(environment.task("a"))
        try:
            first, second = await episode.user_turn("Which?"), await episode.user_turn("Done.")
        finally:
            await episode.close()
    assert (first.content, second.done) == ("An oak.", True)
    told = [(one["role"], one["content"]) for one in endpoint.asked[1]["messages"]]
    assert told[1:] == [("assistant", "Add tree."), ("user", "Which?"), ("assistant", "An oak."), ("user", "Done.")]
    assert told[0][1].endswith("You like ###trees.")
    monkeypatch.setenv("TRACE_AGENTS_USER", "scripted")
    scripted = opened(tmp_path, tasks)
    assert scripted.provenance["user"] == "scripted"
    monkeypatch.delenv("TRACE_AGENTS_USER")
    monkeypatch.delenv("TRACE_AGENTS_USER_URL")
    with pytest.raises(UsageError, match="set TRACE_AGENTS_USER_URL"):
        load_environment(str(tmp_path / "benchmark.toml"))


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[str]:
    """The shelf behind a URL, with a file of words that all its clients share."""
    with shared_shelf(tmp_path) as url:
        yield url


async def test_a_shared_server_is_reset_for_one_episode_after_the_other(tmp_path: Path, shared: str) -> None:
    reset = {"calls": [{"name": "clear"}], "command": ["{python}", "-c", "import sys; sys.stdin.read()"]}
    tasks = [TASK, TASK | {"id": "b", "setup": [{"name": "add", "arguments": {"word": "ivy"}}]}]
    environment = opened(tmp_path, tasks, server={"url": shared}, reset=reset)
    assert environment.most_episodes == 1
    first = await environment.start(environment.task("a"))
    waiting = asyncio.create_task(environment.start(environment.task("b")))
    await first.call("add", {"word": "tree"})
    assert (await first.evaluate(())).success
    assert not waiting.done()
    await first.close()
    second = await waiting
    assert await words(second) == ["ivy"]
    assert not (await second.evaluate(())).success
    await second.close()


async def test_a_served_environment_tells_how_many_episodes_it_plays(tmp_path: Path, shared: str) -> None:
    with serving(opened(tmp_path, server={"url": shared}, reset={"calls": [{"name": "clear"}]})) as served:
        remote = await asyncio.to_thread(RemoteEnvironment, served.url)
        assert at_once(remote, 8) == 1
        assert at_once(Ledger(), 8) == 8
        [task] = await asyncio.to_thread(remote.tasks, "test")
        episode = await remote.start(task)
        result = await episode.call("words", {})
        await episode.close()
    assert (result.content, result.structured["words"]) == ("0 words", [])


async def test_headers_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = {"url": "http://127.0.0.1:9/mcp", "headers": {"Authorization": "Bearer ${SHELF_KEY}"}}
    path = write(tmp_path, server=server, reset={"by_connection": True})
    with pytest.raises(
        UsageError, match=r"header 'Authorization' of \[server\] needs the environment variable 'SHELF_KEY'"
    ):
        load_environment(str(path))
    monkeypatch.setenv("SHELF_KEY", "k")
    environment = load_environment(str(path))
    assert environment._benchmark.headers == {"Authorization": "Bearer k"}
    with pytest.raises(InfrastructureError, match=r"MCP server 'http://127.0.0.1:9/mcp' failed while connecting"):
        await environment.start(environment.task("a"))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="a process's variables are read from /proc")
async def test_a_process_gets_no_key_that_the_description_does_not_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHELF_KEY", "k")
    monkeypatch.setenv("OTHER_KEY", "o")
    env = {"GIVEN": "${SHELF_KEY}!", "PLACE": "{folder}"}
    environment = opened(tmp_path, server={"command": COMMAND, "env": env})
    episode = await environment.start(environment.task("a"))
    pid = await process(episode)
    found = dict(one.partition("=")[::2] for one in Path(f"/proc/{pid}/environ").read_text().split("\0"))
    folder = str(episode._live.folder)
    await episode.close()
    assert (found["GIVEN"], found["PLACE"]) == ("k!", folder)
    assert not {"SHELF_KEY", "OTHER_KEY"} & found.keys()


FAILURES: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "it ends at once": (
        {"server": {"command": ["{python}", "-c", "import sys; sys.exit('no licence')"]}},
        "failed while connecting: .*its last words: no licence",
    ),
    "it never answers": (
        {"server": {"command": ["{python}", "-c", "import sys; sys.stdin.read()"], "timeout_s": 0.5}},
        "failed while connecting: no answer in 0.5 s",
    ),
    "its state cannot be set": (
        {"reset": {"calls": [{"name": "add", "arguments": {"word": "naughty"}}]}},
        "tool 'add', called to reset the state of task 'a', failed: .*No such words here.",
    ),
    "the reset command fails": (
        {"reset": {"command": ["{python}", "-c", "import sys; sys.exit('disk full')"]}},
        r"\[reset\] command .* ended with 1 \(its last words: disk full\)",
    ),
    "the reset command hangs": (
        {"reset": {"command": ["{python}", "-c", "import sys, time; time.sleep(600)"], "timeout_s": 0.5}},
        r"\[reset\] command .* took longer than 0.5 s",
    ),
}


@pytest.mark.parametrize(("tables", "message"), FAILURES.values(), ids=FAILURES)
async def test_a_server_that_fails_is_infrastructure_and_leaves_its_turn(
    tmp_path: Path, tables: Mapping[str, Any], message: str
) -> None:
    check = {"reads": [{"name": "words"}], "command": ["{python}", "-c", "print(1)"]}
    environment = opened(tmp_path, check=check, **tables)
    for _ in range(2):
        with pytest.raises(InfrastructureError, match=message):
            await environment.start(environment.task("a"))
    assert environment._turns._free == environment.most_episodes


async def test_a_command_is_told_as_it_was_run_but_for_what_differs_from_episode_to_episode(tmp_path: Path) -> None:
    environment = opened(tmp_path, server={"command": ["{python}", "{here}/desk.py", "{folder}/words", "{task}"]})
    with pytest.raises(InfrastructureError) as raised:
        await environment.start(environment.task("a"))
    command = f"{sys.executable} {tmp_path}/desk.py {{folder}}/words {{task}}"
    assert str(raised.value).startswith(f"MCP server {command!r} failed while connecting")


async def test_a_tool_that_the_server_has_not_is_named(tmp_path: Path) -> None:
    environment = opened(tmp_path, tools={"offer": ["add", "subtract"]})
    with pytest.raises(UsageError, match=r"unknown tool 'subtract' in \[tools\] of .*: use one of 'add', 'clear'"):
        await environment.start(environment.task("a"))
    other = TaskInstance(**{**environment.task("a").model_dump(), "prompt": "Add oak."})
    with pytest.raises(UsageError, match=r"task 'a' differs from the one in 'tasks.jsonl'"):
        await environment.start(other)
    with pytest.raises(UsageError, match="unknown task 'z'"):
        environment.task("z")
    with pytest.raises(UsageError, match="unknown split 'train': use one of 'test'"):
        environment.tasks("train")
    with pytest.raises(UsageError, match="has fixed tasks only"):
        environment.generate(1)


DESCRIPTIONS: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "no server": ({"server": {}}, r"\[server\] of '.*benchmark.toml': give either 'command'"),
    "two servers": ({"server": {"command": COMMAND, "url": "http://x"}}, "give either 'command'"),
    "a misspelt key": ({"server": {"comand": COMMAND}}, "unknown key 'server.comand' in .*: use one of 'command'"),
    "a section too much": ({"rest": {"a": 1}}, "unknown key 'rest' in .*: use one of 'check', 'name'"),
    "a misspelt read": ({"check": {"reads": [{"nme": "x"}]}}, "unknown key 'check.reads.0.nme' in .*'arguments'"),
    "no program": ({"server": {"command": ["no-such-program"]}}, r"command 'no-such-program' of \[server\] .* is no"),
    "no state between episodes": ({"server": {"url": "http://x"}}, r"give \[reset\] a 'command' or 'calls'"),
    "both tool lists": ({"tools": {"offer": ["add"], "hide": ["clear"]}}, "give 'offer' or 'hide', not both"),
    "no checker": ({"check": {}}, "give 'function', 'command', or 'reads'"),
    "a checker of no file": ({"check": {"function": "nowhere.py:check"}}, "checker file '.*nowhere.py' does not exist"),
    "a checker of no name": ({"check": {"function": "check.py"}}, r"\[check\] function 'check.py' names no function"),
    "a checker of a number": ({"check": {"function": "math:pi"}}, r"\[check\] function 'math:pi' is a float"),
    "a misspelt placeholder": ({"server": {"command": ["{python}", "{foldr}/x"]}}, "unknown placeholder .* '{foldr}'"),
    "a hidden gold tool": ({"tools": {"hide": ["add"]}}, r"gold action 'add' of task 'a' \(line 1 of .*'add'\]"),
    "no snapshot": ({"reset": {"snapshot": "gone"}}, "snapshot = 'gone' in .*: there is no"),
    "kept without a reset": (
        {"server": {"command": ["{python}", str(SERVER), "words"]}, "reset": {"keep": True}},
        r"\[reset\] keep is for a server that 'command' starts and that can be reset: name its {folder}",
    ),
    "a word for a time": (
        {"server": {"command": COMMAND, "timeout_s": "long"}},
        "server.timeout_s = 'long' in .*: give a number$",
    ),
    "a command line": (
        {"server": {"command": "uv run desk.py"}},
        "server.command = 'uv run desk.py' in .*: give a list, in square brackets$",
    ),
    "a truth in quotes": ({"reset": {"keep": "true"}}, "reset.keep = 'true' in .*: give true or false, without"),
}  # fmt: skip


@pytest.mark.parametrize(("tables", "message"), DESCRIPTIONS.values(), ids=DESCRIPTIONS)
def test_a_description_that_cannot_work_is_refused_with_the_remedy(
    tmp_path: Path, tables: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        load_environment(str(write(tmp_path, **tables)))


TASKS: Mapping[str, tuple[list[Mapping[str, Any]], str]] = {
    "an id twice": ([TASK, TASK], r"task 'a' is 2 times in .*tasks.jsonl' \(lines 1, 2\)"),
    "no gold to compare with": ([{"id": "a", "prompt": "x"}], "task 'a' in 'tasks.jsonl' has no gold actions"),
    "no prompt": ([TASK, {"id": "b"}], "missing key 'prompt' in line 2 of"),
    "a misspelt key": ([TASK | {"repiles": []}], "unknown key 'repiles' in line 1 of .*: use one of 'capabilities'"),
    "a misspelt call": ([TASK | {"gold": [{"nme": "add"}]}], "unknown key 'gold.0.nme' in line 1"),
    "no snapshot": ([TASK | {"snapshot": "gone"}], "snapshot of task 'a' = 'gone'"),
    "gold in a word": ([TASK | {"gold": "add"}], "gold = 'add' in line 1 of .*: give a list, in square brackets$"),
    "a number in gold": (
        [TASK | {"gold": [5]}],
        r"gold.0 = 5 in line 1 of .*: give a table \(in JSON an object\), in braces or text, in quotes$",
    ),
    "arguments in a list": (
        [TASK | {"gold": [{"name": "add", "arguments": [202]}]}],
        r"gold.0.arguments = \[202\] in line 1 of .*: give a table \(in JSON an object\), in braces$",
    ),
}


@pytest.mark.parametrize(("tasks", "message"), TASKS.values(), ids=TASKS)
def test_a_task_that_cannot_work_is_refused_with_its_line(
    tmp_path: Path, tasks: list[Mapping[str, Any]], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        load_environment(str(write(tmp_path, tasks)))


def test_a_last_line_without_its_end_is_a_task_or_refused_and_never_left_out(tmp_path: Path) -> None:
    path = write(tmp_path)
    whole, last = json.dumps(TASK), json.dumps(TASK | {"id": "b"})
    (tmp_path / "tasks.jsonl").write_text(f"{whole}\n{last}")
    assert load_environment(str(path)).splits == {"test": 2}
    (tmp_path / "tasks.jsonl").write_text(f"{whole}\n{last[:-1]}")
    with pytest.raises(UsageError, match=r"line 2 of .*tasks.jsonl' is malformed"):
        load_environment(str(path))


def test_files_that_are_missing_or_no_toml_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"environment file 'nowhere/benchmark.toml' does not exist"):
        load_environment("nowhere/benchmark.toml")
    path = write(tmp_path)
    (tmp_path / "tasks.jsonl").write_text("\n")
    with pytest.raises(UsageError, match=r"task file '.*tasks.jsonl' is empty"):
        load_environment(str(path))
    path.write_text("name = 'a'\nkeep = yes\n")
    with pytest.raises(
        UsageError, match=r"'.*benchmark.toml' is not TOML: invalid value at line 2, column 8, 'keep = yes': text goes"
    ):
        load_environment(str(path))
    path.write_bytes(b"name = '\xe9'")
    with pytest.raises(UsageError, match=r"'.*benchmark.toml' is no text in UTF-8"):
        load_environment(str(path))


@settings(max_examples=50, deadline=None)
@given(count=st.integers(1, 3), steps=st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=30))
def test_never_more_have_a_turn_than_there_are_and_none_is_lost(count: int, steps: list[tuple[int, bool]]) -> None:
    async def play() -> None:
        turns = Turns(count, wait_s=60.0)
        tasks: dict[int, asyncio.Task[None]] = {}
        for asker, gives in steps:
            if asker not in tasks:
                tasks[asker] = asyncio.create_task(turns.take())
            elif tasks[asker].done() and gives:
                del tasks[asker]
                turns.give()
            elif not tasks[asker].done():
                tasks.pop(asker).cancel()  # Perhaps just as it is handed its turn.
            for _ in range(steps[0][0]):
                await asyncio.sleep(0)
            assert sum(task.done() for task in tasks.values()) <= count
        while tasks:
            await asyncio.wait(tasks.values(), return_when=asyncio.FIRST_COMPLETED)
            name = next(name for name, task in tasks.items() if task.done())
            del tasks[name]
            turns.give()
        for _ in range(5):
            await asyncio.sleep(0)
        assert turns._free == count

    asyncio.run(play())


async def test_waiting_too_long_for_a_turn_says_how_many_play_at_once() -> None:
    turns = Turns(1, wait_s=0.01)
    await turns.take()
    with pytest.raises(
        InfrastructureError, match=r"no turn came free in 0.01 s: this environment plays 1 episode at once"
    ):
        await turns.take()
    turns.give()
    await turns.take()
