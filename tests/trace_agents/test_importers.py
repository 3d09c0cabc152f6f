"""Importers on real data, on each format's rows, and on what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import verifiers.v1 as vf
from verifiers.v1.graph import MessageNode
from verifiers.v1.trace import AgentInfo, Error, Reward, TraceTask
from verifiers.v1.types import AssistantMessage, SystemMessage, ToolMessage, UserMessage
from verifiers.v1.types import ToolCall as VfCall

from trace_agents.errors import UsageError
from trace_agents.importers import FORMATS, load_trajectories
from trace_agents.types import StopReason

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "tau-bench" / "gpt-4o-airline.json"

CALL = {"id": "c1", "type": "function", "function": {"name": "get_order", "arguments": '{"order_id": "W1"}'}}
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Where is W1?"}]},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": '{"status": "shipped"}'},
    {"role": "assistant", "content": "On its way."},
]


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(row if isinstance(row, str) else f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.skipif(not REAL.exists(), reason="the real trajectories are not beside this checkout")
def test_real_tau_bench_trajectories_are_read_whole_and_without_their_gold_actions() -> None:
    report = load_trajectories(REAL)
    assert (report.format, len(report.trajectories), report.skipped) == ("tau-bench", 200, ())
    assert sum(one.success is True for one in report.trajectories) == 84
    assert len({one.task_id for one in report.trajectories}) == 50
    assert len({one.id for one in report.trajectories}) == 200
    calls = [call for one in report.trajectories for message in one.messages for call in message.tool_calls]
    assert len(calls) == 1164
    assert all(isinstance(call.arguments, dict) for call in calls)
    assert all(one.info == {} for one in report.trajectories)


def test_chat_messages_are_read_with_parts_calls_and_tool_names(tmp_path: Path) -> None:
    tools = [
        {"type": "function", "function": {"name": "get_order", "parameters": {"type": "object"}}},
        {"name": "other"},
    ]
    row = {"task_id": 3, "trial": 1, "reward": 1, "messages": CHAT, "tools": tools, "agent": "m"}
    (one,) = load_trajectories(write(tmp_path / "a.jsonl", row)).trajectories
    assert (one.id, one.task_id, one.trial, one.success, one.reward, one.agent) == ("3#1", "3", 1, True, 1.0, "m")
    assert one.messages[1].content == "Where is W1?"
    assert one.messages[2].tool_calls[0].arguments == {"order_id": "W1"}
    assert one.messages[3].name == "get_order"
    assert [tool.name for tool in one.tools] == ["get_order", "other"]


@pytest.mark.parametrize(
    ("outcome", "success"),
    [
        ({"success": False, "reward": 1.0}, False),
        ({"success": True}, True),
        ({"reward": 0.99}, False),
        ({"reward": 1}, True),
    ],
)
def test_success_is_given_or_a_reward_of_one(tmp_path: Path, outcome: dict[str, Any], success: bool) -> None:
    (one,) = load_trajectories(write(tmp_path / "a.jsonl", {"task_id": "t", "messages": CHAT} | outcome)).trajectories
    assert one.success is success


def test_infrastructure_failures_carry_no_label_and_are_counted(tmp_path: Path) -> None:
    rows = [
        {"task_id": "t", "success": True, "messages": CHAT},
        {"task_id": "u", "error": "time-out\nlong", "messages": []},
    ]
    report = load_trajectories(write(tmp_path / "a.jsonl", *rows))
    assert report.excluded_infrastructure == 1
    assert (report.trajectories[1].success, report.trajectories[1].error) == (None, "time-out")
    crashed = [{"task_id": 0, "reward": 0.0, "traj": [], "info": {"error": "connection reset"}, "trial": 0}]
    path = tmp_path / "b.json"
    path.write_text(json.dumps(crashed))
    assert load_trajectories(path).excluded_infrastructure == 1


def test_repeated_ids_become_unique(tmp_path: Path) -> None:
    row = {"task_id": "t", "success": True, "messages": CHAT}
    report = load_trajectories(write(tmp_path / "a.jsonl", row, row, row))
    assert [one.id for one in report.trajectories] == ["t#0", "t#0.2", "t#0.3"]


def test_arguments_that_are_no_object_are_kept_as_text(tmp_path: Path) -> None:
    broken = {"id": "c1", "function": {"name": "get_order", "arguments": '{"order_id": '}}
    chat = [{"role": "assistant", "content": None, "tool_calls": [broken]}]
    (one,) = load_trajectories(
        write(tmp_path / "a.jsonl", {"task_id": 1, "success": False, "messages": chat})
    ).trajectories
    assert one.messages[0].tool_calls[0].arguments == '{"order_id": '


class Data(vf.TaskData):
    environment: str = "desk"


def trace(ok: bool = True) -> vf.Trace:
    """A trace with two branches, of which the second counts, as verifiers itself writes it."""
    call = VfCall(id="c1", name="get_order", arguments='{"order_id": "W1"}')
    nodes = [
        MessageNode(message=SystemMessage(content="Be brief.")),
        MessageNode(parent=0, message=UserMessage(content="Where is W1?")),
        MessageNode(parent=1, message=AssistantMessage(content="Dropped."), sampled=True),
        MessageNode(parent=1, message=AssistantMessage(tool_calls=[call]), sampled=True),
        MessageNode(parent=3, message=ToolMessage(tool_call_id="c1", content='{"error": "gone"}', name="get_order")),
        MessageNode(parent=4, message=AssistantMessage(content="Sorry."), sampled=True),
    ]
    return vf.Trace(
        id="abc",
        task=TraceTask(type="T", data=Data(id="task-1", prompt="Where is W1?")),
        agent=AgentInfo.model_construct(config=None, name="agent", trainable=True, runtime=None),
        nodes=nodes,
        rewards={"solved": Reward(score=0.5, weight=2.0)},
        metrics={"success": 1.0},
        info={"trial": 2, "tool_errors": ["c1"]},
        ok=ok,
        stop_condition="user",
        errors=[] if ok else [Error(type="Timeout", message="too slow")],
    )


def record(ok: bool = True) -> dict[str, Any]:
    made = trace(ok).model_dump(mode="json", exclude={"agent"})
    return made | {"agent": {"config": {"model": "tiny"}}}


def test_verifiers_traces_are_read_along_their_last_branch(tmp_path: Path) -> None:
    report = load_trajectories(write(tmp_path / "traces.jsonl", record()))
    (one,) = report.trajectories
    assert report.format == "verifiers"
    assert (one.id, one.task_id, one.trial, one.environment, one.agent) == ("abc", "task-1", 2, "desk", "tiny")
    assert [message.role for message in one.messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert [message.content for message in one.messages][-1] == "Sorry."
    assert one.messages[3].is_error
    assert (one.reward, one.success, one.stop) == (1.0, True, StopReason.USER)


def test_a_trace_that_is_not_ok_is_an_infrastructure_failure(tmp_path: Path) -> None:
    (one,) = load_trajectories(write(tmp_path / "traces.jsonl", record(ok=False))).trajectories
    assert (one.success, one.reward, one.stop, one.error) == (None, None, StopReason.ERROR, "Timeout: too slow")


def test_a_trace_of_another_schema_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="trace version 9, only 1 can be read"):
        load_trajectories(write(tmp_path / "traces.jsonl", record() | {"version": 9}))


def test_a_malformed_row_is_named_by_its_number_and_skipped_only_when_asked(tmp_path: Path) -> None:
    good = {"task_id": "t", "success": True, "messages": CHAT}
    path = write(tmp_path / "a.jsonl", good, "\n", '{"task_id": \n', {"task_id": "u", "messages": CHAT}, "[1]\n", good)
    with pytest.raises(UsageError, match=r"row 3 of .*a\.jsonl' is malformed \(not JSON.*--skip-bad"):
        load_trajectories(path)
    report = load_trajectories(path, skip_bad=True)
    assert len(report.trajectories) == 2
    assert [(one.row, one.reason.split(":")[0]) for one in report.skipped] == [
        (3, "not JSON"),
        (4, "neither 'success' nor 'reward'"),
        (5, "a JSON object is wanted, not list"),
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"messages": "hi"}, "'messages' is not a list"),
        ({"messages": [{"role": "robot"}]}, "message 0 has the role 'robot'"),
        ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "a tool call of message 0 has no name"),
        ({"reward": "high", "success": None}, "the reward 'high' is no number"),
        ({"trial": "one"}, "'trial' is 'one', not a whole number"),
    ],
)
def test_what_is_wrong_with_a_row_is_said(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    row = {"task_id": "t", "success": True, "messages": CHAT} | change
    with pytest.raises(UsageError, match=reason):
        load_trajectories(write(tmp_path / "a.jsonl", row), "messages")


def test_an_unknown_format_lists_the_formats(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown format 'tau': use one of 'messages', 'tau-bench', 'verifiers'"):
        load_trajectories(tmp_path / "a.jsonl", "tau")
    assert set(FORMATS) == {"messages", "tau-bench", "verifiers"}


def test_a_format_that_cannot_be_guessed_lists_the_formats(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be guessed from the keys 'a', 'b': give --format, one of"):
        load_trajectories(write(tmp_path / "a.jsonl", {"a": 1, "b": 2}))


def test_a_missing_or_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"missing file .*nowhere"):
        load_trajectories(tmp_path / "nowhere.json")
    with pytest.raises(UsageError, match="holds no trajectory"):
        load_trajectories(write(tmp_path / "a.jsonl", ""))
    with pytest.raises(UsageError, match="begins like a JSON array"):
        load_trajectories(write(tmp_path / "b.json", "[{"))
