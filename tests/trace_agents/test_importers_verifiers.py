"""verifiers' files: episodes and traces as verifiers itself writes them, and the rollouts of before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import verifiers.v1 as vf
from verifiers.v1.configs.agent import AgentConfig
from verifiers.v1.episode import EnvInfo, Episode
from verifiers.v1.graph import MessageNode
from verifiers.v1.semantic import ParentLink
from verifiers.v1.trace import AgentInfo, Error, Reward, TraceTask
from verifiers.v1.types import AssistantMessage, SystemMessage, Tool, ToolMessage, UserMessage
from verifiers.v1.types import ToolCall as VfCall
from verifiers.v1.utils.trace_store import TRACES_FILE, write_episode

from trace_agents.errors import UsageError
from trace_agents.importers import load_trajectories
from trace_agents.types import StopReason
from training.rollouts import trajectory_from_trace


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


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
        agent=AgentInfo(config=AgentConfig(model="tiny")),
        tools=[Tool(name="get_order", parameters={"type": "object"})],
        nodes=nodes,
        rewards={"solved": Reward(score=0.5, weight=2.0)},
        metrics={"success": 1.0},
        info={"trial": 2, "tool_errors": ["c1"]},
        ok=ok,
        stop_condition="user",
        errors=[] if ok else [Error(type="Timeout", message="too slow")],
    )


def record(ok: bool = True) -> dict[str, Any]:
    return json.loads(trace(ok).model_dump_json())  # type: ignore[no-any-return]


def episode(*traces: vf.Trace, ok: bool = True) -> Episode:
    errors = [] if ok else [Error(type="EnvError", message="no box\nlong")]
    return Episode(env=EnvInfo(id="shop-v1"), task=trace().task, traces=list(traces), ok=ok, errors=errors)


def test_verifiers_traces_are_read_along_their_last_branch(tmp_path: Path) -> None:
    report = load_trajectories(write(tmp_path / "traces.jsonl", record()))
    (one,) = report.trajectories
    assert report.format == "verifiers"
    assert (one.id, one.task_id, one.trial, one.environment, one.agent) == ("abc", "task-1", 2, "desk", "tiny")
    assert [message.role for message in one.messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert [message.content for message in one.messages][-1] == "Sorry."
    assert one.messages[3].is_error
    assert (one.reward, one.success, one.stop) == (1.0, True, StopReason.USER)


@pytest.mark.parametrize("ok", [True, False])
def test_what_training_reads_of_a_trace_is_read_here_too_and_its_policy(tmp_path: Path, ok: bool) -> None:
    (one,) = load_trajectories(write(tmp_path / "traces.jsonl", record(ok))).trajectories
    policy, *messages = one.messages
    expected = trajectory_from_trace(trace(ok)).model_dump(exclude={"info"})
    assert one.model_copy(update={"messages": tuple(messages)}).model_dump(exclude={"info"}) == expected
    assert policy.content == "Be brief."


def test_a_trace_that_is_not_ok_is_an_infrastructure_failure(tmp_path: Path) -> None:
    (one,) = load_trajectories(write(tmp_path / "traces.jsonl", record(ok=False))).trajectories
    assert (one.success, one.reward, one.stop, one.error) == (None, None, StopReason.ERROR, "Timeout: too slow")


def test_a_trace_of_another_schema_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="trace version 9, only 1 can be read"):
        load_trajectories(write(tmp_path / "traces.jsonl", record() | {"version": 9}))


def test_a_run_of_verifiers_has_an_episode_a_line(tmp_path: Path) -> None:
    judge = trace().model_copy(
        update={"id": "j", "agent": AgentInfo(config=AgentConfig(), name="judge", trainable=False)}
    )
    for one in (episode(trace(), judge), episode(ok=False), episode(trace(ok=False), ok=False)):
        write_episode(tmp_path, one)
    for path in (tmp_path, tmp_path / TRACES_FILE):
        report = load_trajectories(path)
        first, lost, failed = report.trajectories
        assert report.format == "verifiers"
        assert (first.id, first.task_id, first.environment, first.agent) == ("abc", "task-1", "desk", "tiny")
        assert (first.reward, first.success, [tool.name for tool in first.tools]) == (1.0, True, ["get_order"])
        assert (lost.success, lost.error, lost.messages) == (None, "EnvError: no box", ())
        assert (failed.success, failed.error, failed.task_id) == (None, "Timeout: too slow", "task-1")
        assert report.excluded_infrastructure == 2


def test_a_compaction_that_nothing_went_on_from_is_no_trajectory(tmp_path: Path) -> None:
    made = trace()
    link = ParentLink(node=1, type="compaction_attempt")
    summary = AssistantMessage(content="A summary.")
    made.nodes.append(MessageNode(parent=1, message=summary, sampled=True, semantic_parents=[link]))
    row = json.loads(made.model_dump_json())
    (one,) = load_trajectories(write(tmp_path / "traces.jsonl", row)).trajectories
    assert one.messages[-1].content == "Sorry."


@pytest.mark.parametrize("parents", [[1, 0], [0], [9]])
def test_a_graph_without_a_root_is_refused(tmp_path: Path, parents: list[int]) -> None:
    nodes = [{"parent": parent, "message": {"role": "user", "content": "x"}} for parent in parents]
    with pytest.raises(UsageError, match="the message graph has no"):
        load_trajectories(write(tmp_path / "traces.jsonl", record() | {"nodes": nodes}))


ROLLOUT = {
    "example_id": 7,
    "prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where is W1?"}],
    "completion": [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": ['{"id": "c1", "name": "get_order", "arguments": "{\\"order_id\\": \\"W1\\"}"}'],
        },
        {"role": "tool", "content": "lost", "tool_call_id": "c1"},
        {"role": "assistant", "content": "Lost."},
    ],
    "reward": 1.0,
    "task": "shop",
    "stop_condition": "max_turns_reached",
    "is_completed": True,
    "metrics": {},
    "tool_defs": [{"name": "get_order", "description": "", "parameters": {"type": "object"}}],
}


def test_rollouts_of_before_are_read(tmp_path: Path) -> None:
    error = {"error": "ModelError", "error_chain_repr": "ModelError('x')", "error_chain_str": "ModelError"}
    rows = [ROLLOUT, ROLLOUT | {"reward": 0.5}, ROLLOUT | {"error": error, "completion": None}]
    write(tmp_path / "metadata.json", {"env_id": "shop"})
    report = load_trajectories(write(tmp_path / "results.jsonl", *rows).parent)
    first, second, third = report.trajectories
    assert (report.format, len(report.ignored)) == ("verifiers", 1)
    assert (first.id, first.task_id, first.trial, first.environment) == ("7#0", "7", 0, "shop")
    assert (first.success, first.stop, second.success, second.trial) == (True, StopReason.MAX_TURNS, False, 1)
    assert first.messages[2].tool_calls[0].arguments == {"order_id": "W1"}
    assert (first.messages[3].name, first.tools[0].name) == ("get_order", "get_order")
    assert (third.success, third.error) == (None, "ModelError('x')")


def test_a_rollout_may_be_plain_text(tmp_path: Path) -> None:
    row = ROLLOUT | {"prompt": "2+2?", "completion": "4", "tool_defs": None}
    (one,) = load_trajectories(write(tmp_path / "results.jsonl", row)).trajectories
    assert [(m.role, m.content) for m in one.messages] == [("user", "2+2?"), ("assistant", "4")]
