"""τ²-bench's simulation files, as one object and as a folder, with a user that has tools of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trace_agents.errors import UsageError
from trace_agents.importers import load_trajectories
from trace_agents.types import StopReason


def call(name: str, identity: str, requestor: str = "assistant", **arguments: Any) -> dict[str, Any]:
    return {"id": identity, "name": name, "arguments": arguments, "requestor": requestor}


def result(identity: str, content: str, requestor: str = "assistant", error: bool = False) -> dict[str, Any]:
    return {"id": identity, "role": "tool", "content": content, "requestor": requestor, "error": error}


def said(role: str, content: str | None, calls: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"role": role, "content": content, "tool_calls": calls, "cost": 0.0, "usage": None, "raw_data": None}


TALK = [
    said("assistant", "Hi! How can I help you today?"),
    said("user", "My phone has no signal."),
    said("assistant", None, [call("get_line", "a1", line_id="L1"), call("get_plan", "a2", line_id="L1")]),
    result("a1", '{"status": "active"}'),
    result("a2", "Error: no plan", error=True),
    said("assistant", "Please look at your phone's status bar."),
    said("user", None, [call("check_status_bar", "u1", "user")]),
    result("u1", "Airplane mode", "user"),
    said("user", "It shows airplane mode."),
    said("assistant", "Turn airplane mode off, please."),
    said("user", "###STOP###"),
]


def simulation(number: int, reward: float | None = 1.0, ending: str = "user_stop", **more: Any) -> dict[str, Any]:
    messages = [{**message, "turn_idx": turn, "timestamp": "2026-01-01"} for turn, message in enumerate(TALK)]
    return {
        "id": f"s{number}",
        "task_id": "[mobile]airplane_mode",
        "trial": number,
        "termination_reason": ending,
        "reward_info": None if reward is None else {"reward": reward, "reward_breakdown": {"DB": reward}},
        "messages": messages,
    } | more


INFO = {
    "num_trials": 4,
    "agent_info": {"implementation": "llm_agent", "llm": "some-model"},
    "environment_info": {"domain_name": "telecom", "policy": "Be kind.", "tool_defs": None},
}


def results(*simulations: dict[str, Any]) -> dict[str, Any]:
    task = {"id": "[mobile]airplane_mode", "evaluation_criteria": {"actions": [{"name": "gold"}]}}
    return {"timestamp": "2026", "info": INFO, "tasks": [task], "simulations": list(simulations)}


@pytest.mark.parametrize("indent", [None, 2, 4])
def test_a_results_file_is_read_simulation_by_simulation(tmp_path: Path, indent: int | None) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(results(simulation(0), simulation(1, reward=0.0)), indent=indent))
    report = load_trajectories(path)
    first, second = report.trajectories
    assert report.format == "tau2"
    assert (first.id, first.task_id, first.trial) == ("s0", "[mobile]airplane_mode", 0)
    assert (first.environment, first.agent, first.stop) == ("telecom", "some-model", StopReason.USER)
    assert (first.reward, first.success, second.reward, second.success) == (1.0, True, 0.0, False)
    assert "gold" not in first.model_dump_json()


def test_the_users_own_tool_calls_are_not_the_agents(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(results(simulation(0))))
    (one,) = load_trajectories(path).trajectories
    assert [message.role for message in one.messages] == [
        *("system", "assistant", "user", "assistant", "tool", "tool", "assistant", "user", "assistant", "user"),
    ]
    assert one.messages[0].content == "Be kind."
    assert [made.name for message in one.messages for made in message.tool_calls] == ["get_line", "get_plan"]
    assert [(m.name, m.tool_call_id, m.is_error) for m in one.messages if m.role == "tool"] == [
        ("get_line", "a1", False),
        ("get_plan", "a2", True),
    ]
    assert one.info == {"user_tool_calls": 1}


def test_results_without_requestors_and_wrapped_ones_are_read_too(tmp_path: Path) -> None:
    wrapped = {"role": "tool", "tool_messages": [result("a1", "1"), result("a2", "2")]}
    talk = [said("assistant", None, [call("f", "a1"), call("g", "a2")]), wrapped, said("user", None, [call("h", "u")])]
    answer = {"id": "u", "role": "tool", "content": "3"}
    path = tmp_path / "run.json"
    path.write_text(json.dumps(results(simulation(0, messages=[*talk, answer]))))
    (one,) = load_trajectories(path).trajectories
    assert [message.content for message in one.messages] == ["Be kind.", None, "1", "2"]


def test_messages_follow_their_turns(tmp_path: Path) -> None:
    turned = simulation(0)
    turned["messages"] = turned["messages"][::-1]
    path = tmp_path / "run.json"
    path.write_text(json.dumps(results(turned)))
    (one,) = load_trajectories(path).trajectories
    assert one.messages[-1].content == "###STOP###"


@pytest.mark.parametrize(
    ("ending", "success", "stop"),
    [
        ("agent_stop", False, StopReason.AGENT),
        ("max_steps", False, StopReason.MAX_TURNS),
        ("agent_error", False, None),
        ("infrastructure_error", None, StopReason.ERROR),
        ("unexpected_error", None, StopReason.ERROR),
        ("timeout", None, StopReason.ERROR),
        ("user_error", None, StopReason.ERROR),
        ("context_window_exceeded", None, StopReason.ERROR),
    ],
)
def test_endings_that_are_not_the_agents_doing_are_excluded(
    tmp_path: Path, ending: str, success: bool | None, stop: StopReason | None
) -> None:
    path = tmp_path / "run.json"
    reward = None if ending == "infrastructure_error" else 0.0
    path.write_text(json.dumps(results(simulation(0, reward, ending))))
    report = load_trajectories(path)
    (one,) = report.trajectories
    assert (one.success, one.stop) == (success, stop)
    assert one.error == (ending if success is None else None)
    assert report.excluded_infrastructure == (success is None)


@pytest.mark.parametrize(("requestor", "success"), [("assistant", False), ("user", None)])
def test_too_many_errors_are_the_failure_of_whose_calls_they_were(
    tmp_path: Path, requestor: str, success: bool | None
) -> None:
    errors = [result(f"x{index}", "Error", requestor, error=True) for index in range(3)]
    path = tmp_path / "run.json"
    path.write_text(json.dumps(results(simulation(0, 0.0, "too_many_errors", messages=errors))))
    (one,) = load_trajectories(path).trajectories
    assert one.success is success


def folder(path: Path, *simulations: dict[str, Any]) -> Path:
    (path / "simulations").mkdir(parents=True)
    index = [{"id": one["id"], "task_id": one["task_id"], "trial": one["trial"]} for one in simulations]
    whole = results() | {"simulation_index": index}
    del whole["simulations"]
    (path / "results.json").write_text(json.dumps(whole, indent=2))
    for one in simulations:
        (path / "simulations" / f"{one['id']}.json").write_text(json.dumps(one, indent=2))
    return path


def test_a_run_in_a_folder_is_read_by_its_folder_its_parent_or_its_results(tmp_path: Path) -> None:
    run = folder(tmp_path / "runs" / "mine", simulation(0), simulation(1, 0.0))
    for path in (run, run.parent, run / "results.json"):
        report = load_trajectories(path)
        assert [(one.id, one.success, one.agent) for one in report.trajectories] == [
            ("s0", True, "some-model"),
            ("s1", False, "some-model"),
        ]


def test_a_folder_that_lacks_simulations_is_refused(tmp_path: Path) -> None:
    run = folder(tmp_path / "mine", simulation(0), simulation(1))
    (run / "simulations" / "s1.json").unlink()
    with pytest.raises(UsageError, match=r"lacks 1 of the simulations .* 's1': copy the whole folder"):
        load_trajectories(run)
    (run / "simulations" / "s1.json").write_text("{")
    with pytest.raises(UsageError, match=r"row 2 of .*s1\.json' is malformed .*cannot be read"):
        load_trajectories(run)
    assert len(load_trajectories(run, skip_bad=True).trajectories) == 1


def test_a_voice_run_is_read_from_its_ticks(tmp_path: Path) -> None:
    def tick(**sides: Any) -> dict[str, Any]:
        return {"tick_id": 0, "timestamp": "", "agent_chunk": None, "user_chunk": None} | sides

    ticks = [
        tick(agent_chunk=said("assistant", "Hel")),
        tick(agent_chunk=said("assistant", "lo."), user_chunk=said("user", "")),
        tick(user_chunk={**said("user", "UklGRg=="), "is_audio": True, "audio_script_gold": "My order?"}),
        tick(agent_tool_calls=[call("get_order", "a1")], agent_tool_results=[result("a1", "lost")]),
        tick(user_tool_calls=[call("look", "u1", "user")], user_tool_results=[result("u1", "seen", "user")]),
    ]
    path = tmp_path / "run.json"
    path.write_text(json.dumps(results(simulation(0, messages=None, ticks=ticks))))
    (one,) = load_trajectories(path).trajectories
    assert [(m.role, m.content) for m in one.messages[1:]] == [
        ("assistant", "Hello."),
        ("user", "My order?"),
        ("assistant", ""),
        ("tool", "lost"),
    ]


def test_a_simulation_without_a_reward_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(results(simulation(0), simulation(1, None)), indent=1))
    with pytest.raises(UsageError, match=r"row 2 of .*run\.json' is malformed \(neither .* --reward-column\)"):
        load_trajectories(path)
