"""An agent that can do nothing but call tools plays to the end, over plain JSON-RPC that knows none of this house."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from environment_serving import serving
from ledger_environment import TOOLS, Ledger, LedgerEpisode, RecordedEpisode
from tau2_benchmark import installed

from mcp_servers.episodes import EpisodeTable
from mcp_servers.helpdesk import Helpdesk
from mcp_servers.http import HttpConfig
from mcp_servers.tau2 import Tau2Environment
from mcp_servers.user_tool import OVER, TalkingEpisode, UserTool, free_name
from mcp_servers.wire import TaskChoice
from trace_agents.cli import main
from trace_agents.environment import HasOracle, KeepsRecord
from trace_agents.errors import InfrastructureError
from trace_agents.importers import load_trajectories
from trace_agents.types import Message, StopReason, ToolCall, ToolResult, ToolSpec

Call = Callable[[str, dict[str, Any]], dict[str, Any]]
"""Calls a tool by name; its result as it came."""
CLIENT = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "tools only", "version": "0"}}


Ending = Callable[[subprocess.Popen[str]], None]
"""Asks a server to end."""


def end_of_input(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.close()


def signalled(process: subprocess.Popen[str]) -> None:
    process.terminate()


def _serve(environment: str, *options: str) -> list[str]:
    return [sys.executable, "-m", "trace_agents.cli", "serve", environment, *options]


@contextmanager
def over_stdio(environment: str, task: str, *options: str, ending: Ending = end_of_input) -> Iterator[Call]:
    """A foreign client of one episode in another process."""
    command = _serve(environment, "--stdio", "--task", task, *options)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def ask(method: str, params: dict[str, Any]) -> dict[str, Any]:
            asked = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            process.stdin.write(json.dumps(asked) + "\n")
            process.stdin.flush()
            return dict(json.loads(process.stdout.readline())["result"])

        ask("initialize", CLIENT)
        yield lambda name, arguments: ask("tools/call", {"name": name, "arguments": arguments})
        ending(process)
        assert process.wait() == 0


def over_http(url: str) -> Call:
    """A foreign client of one episode's endpoint."""
    headers = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-06-18"}

    def call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        params = {"name": name, "arguments": arguments}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        return dict(httpx.post(url, json=body, headers=headers).json()["result"])

    return call


def play(call: Call, environment: HasOracle, task: Any) -> list[str]:
    """Do the gold actions, texts through the tool; what each result said."""
    told = []
    for action in environment.oracle(task):
        name, arguments = ("reply_to_user", {"message": action}) if isinstance(action, str) else _named(action)
        told.append(call(name, arguments)["content"][0]["text"])
        if told[-1] == OVER:
            break
    return told


def _named(action: ToolCall) -> tuple[str, dict[str, Any]]:
    assert isinstance(action.arguments, dict)
    return action.name, action.arguments


def test_tool_calls_alone_solve_a_task_over_stdio_and_the_record_says_so(tmp_path: Path) -> None:
    desk, record = Helpdesk(), tmp_path / "record.jsonl"
    task = desk.task("train-000")
    with over_stdio("helpdesk", task.id, "--user-tool", "--record", str(record)) as call:
        assert call("reply_to_user", {"message": ""})["content"][0]["text"] == task.prompt
        assert play(call, desk, task)[-1] == OVER
        assert call("get_order", {"order_id": "W1"})["isError"]
    [kept] = load_trajectories(record).trajectories
    assert (kept.task_id, kept.reward, kept.success, kept.stop) == (task.id, 1.0, True, StopReason.USER)
    assert kept.messages[0] == Message(role="user", content=task.prompt)
    assert "reply_to_user" not in {spec.name for spec in kept.tools}
    assert not any(call.name == "reply_to_user" for message in kept.messages for call in message.tool_calls)
    texts = [action for action in desk.oracle(task) if isinstance(action, str)]
    assert [one.content for one in kept.messages if one.role == "assistant" and not one.tool_calls] == texts


@pytest.mark.parametrize("ending", [end_of_input, signalled])
def test_a_server_over_stdio_that_is_asked_to_end_records_its_episode(ending: Ending, tmp_path: Path) -> None:
    record = tmp_path / "record.jsonl"
    with over_stdio("helpdesk", "train-000", "--user-tool", "--record", str(record), ending=ending) as call:
        call("get_order", {"order_id": "W1"})
    [kept] = load_trajectories(record).trajectories
    assert (kept.task_id, kept.success, kept.stop) == ("train-000", False, StopReason.AGENT)
    assert [one.name for message in kept.messages for one in message.tool_calls] == ["get_order"]


def test_a_server_over_http_that_is_asked_to_end_records_the_episodes_that_are_live(tmp_path: Path) -> None:
    record = tmp_path / "record.jsonl"
    command = _serve("helpdesk", "--port", "0", "--user-tool", "--record", str(record))
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        url = process.stderr.readline().split(" on ")[1].split()[0]
        ids = []
        for task_id in ("train-000", "train-001"):
            info = httpx.post(f"{url}/episodes", json={"task_id": task_id}).json()
            over_http(url + info["mcp_path"])("get_order", {"order_id": "W1"})
            ids.append(info["id"])
        process.terminate()
        assert process.wait() in (0, -15)
    kept = load_trajectories(record).trajectories
    assert [(one.id, len(one.messages), one.stop) for one in kept] == [(one, 3, StopReason.AGENT) for one in ids]


def test_tool_calls_alone_solve_a_task_over_http_and_the_control_plane_judges_it(tmp_path: Path) -> None:
    desk, record = Helpdesk(), tmp_path / "record.jsonl"
    with serving(desk, HttpConfig(user_tool=UserTool(record))) as served:
        for task in desk.tasks("train")[:2]:
            info = httpx.post(f"{served.url}/episodes", json={"task_id": task.id}).json()
            assert [tool["name"] for tool in info["tools"]][-1] == "reply_to_user"
            play(over_http(served.url + info["mcp_path"]), desk, task)
            verdict = httpx.post(f"{served.url}/episodes/{info['id']}/evaluate", json={"messages": []}).json()
            assert verdict["success"]
            assert httpx.delete(f"{served.url}/episodes/{info['id']}").status_code == 204
        idle = httpx.post(f"{served.url}/episodes", json={"task_id": "train-002"}).json()
    kept = load_trajectories(record).trajectories
    assert [one.success for one in kept] == [True, True, False]
    assert (kept[2].id, kept[2].stop) == (idle["id"], StopReason.AGENT)


def test_tool_calls_alone_solve_a_task_of_another_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mock, record = Tau2Environment("mock", installed()), tmp_path / "record.jsonl"
    task = mock.task("create_task_1")
    monkeypatch.setenv("TRACE_AGENTS_USER", "scripted")
    with over_stdio("tau2/mock", task.id, "--user-tool", "--record", str(record)) as call:
        assert play(call, mock, task)[-1] == OVER
    with serving(mock, HttpConfig(user_tool=UserTool(record))) as served:
        asked = {"task_id": task.id}
        info = httpx.post(f"{served.url}/episodes", json=asked, timeout=60).json()  # The worker is loaded first.
        assert play(over_http(served.url + info["mcp_path"]), mock, task)[-1] == OVER
    kept = load_trajectories(record).trajectories
    assert [(one.task_id, one.reward, one.stop) for one in kept] == [(task.id, 1.0, StopReason.USER)] * 2


async def test_the_benchmarks_own_tools_and_results_stay_as_they_are() -> None:
    episode = TalkingEpisode(LedgerEpisode(Ledger().task("train/1")))
    assert list(episode.tools)[:-1] == list(TOOLS)
    assert await episode.call("balance", {"account": "nobody"}) == ToolResult(
        content='{"error": "no account nobody"}', is_error=True
    )
    assert (await episode.unknown_tool("erase", {})).content.startswith("unknown tool 'erase': use one of")
    assert [call.name for message in episode.messages for call in message.tool_calls] == ["balance", "erase"]
    assert [one.is_error for one in episode.messages if one.role == "tool"] == [True, True]
    for wrong in ({}, {"message": 1}, {"message": "a", "loudly": True}):
        assert (await episode.call("reply_to_user", wrong)).is_error
    assert len(episode.messages) == 5


async def test_a_last_text_that_only_the_host_knows_is_judged_too() -> None:
    task = Ledger().task("train/1")
    episode = TalkingEpisode(LedgerEpisode(task))
    await episode.call("transfer", {"from": "ann", "to": "bob", "amount": task.data["amount"]})
    assert (await episode.evaluate([])).reward == 0.5
    assert (await episode.evaluate([Message(role="assistant", content="All done.")])).success
    assert (await episode.call("reply_to_user", {"message": "All done."})).content == OVER
    assert (await episode.evaluate([])).success


class BrokenEpisode(LedgerEpisode):
    """An episode that cannot be judged."""

    async def evaluate(self, messages: Any) -> Any:
        raise KeyError("verdict")


class Broken(Ledger):
    async def start(self, task: Any) -> LedgerEpisode:
        return BrokenEpisode(task)


async def test_a_benchmark_keeps_its_record_of_the_conversation_that_was_judged() -> None:
    task = Ledger().task("train/1")
    assert not isinstance(TalkingEpisode(LedgerEpisode(task)), KeepsRecord)
    episode = TalkingEpisode(RecordedEpisode(task))
    assert isinstance(episode, KeepsRecord)
    await episode.call("reply_to_user", {"message": "well?"})
    kept = await episode.record([Message(role="user", content="made up"), Message(role="assistant", content="done")])
    said = [task.prompt, "well?", f"'well?'? I want {task.data['amount']}.", "done"]
    assert kept == {"accounts": task.data["accounts"], "spoken": said}


async def test_an_episode_that_cannot_be_judged_is_recorded_as_a_failure_of_infrastructure(tmp_path: Path) -> None:
    record = tmp_path / "record.jsonl"
    table = EpisodeTable(Broken(), user_tool=UserTool(record))
    live = await table.create(TaskChoice(task_id="train/1"))
    with pytest.raises(InfrastructureError):
        await live.guarded.call("reply_to_user", {"message": "crash"})
    await table.delete(live.id)
    [kept] = load_trajectories(record).trajectories
    assert (kept.success, kept.stop, len(kept.messages)) == (None, StopReason.ERROR, 1)
    assert kept.error == "evaluating task 'train/1' failed: KeyError: 'verdict'"


def test_the_tools_name_never_clashes() -> None:
    assert free_name({"reply_to_user": 1, "reply_to_user_2": 1}) == "reply_to_user_3"
    episode = LedgerEpisode(Ledger().task("train/1"))
    episode.tools = (ToolSpec(name="reply_to_user"),)
    assert [spec.name for spec in TalkingEpisode(episode).tools] == ["reply_to_user", "reply_to_user_2"]


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("--record 'r.jsonl' is for --user-tool", ["--record", "r.jsonl"]),
        ("--record 'no/r.jsonl' cannot be a file", ["--user-tool", "--record", "no/r.jsonl"]),
    ],
)
def test_bad_options_get_one_line(message: str, options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "helpdesk", *options]) == 2
    assert message in capsys.readouterr().err
