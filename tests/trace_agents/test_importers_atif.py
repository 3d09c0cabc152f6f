"""The Agent Data Protocol's newer layout (ATIF), alone and in Harbor's folders of trials."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trace_agents.errors import UsageError
from trace_agents.importers import Outcomes, load_trajectories
from trace_agents.types import StopReason


def step(source: str, message: Any, *calls: dict[str, Any], results: Any = None, **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"source": source, "message": message}
    if calls:
        made["tool_calls"] = list(calls)
    if results is not None:
        made["observation"] = {"results": results}
    return made | more


def call(name: str, identity: str = "call_1", **arguments: Any) -> dict[str, Any]:
    return {"tool_call_id": identity, "function_name": name, "arguments": arguments}


def result(content: Any, identity: str | None = "call_1", **more: Any) -> dict[str, Any]:
    return {"source_call_id": identity, "content": content} | more


STEPS = [
    step("system", "You act."),
    step("user", [{"type": "text", "text": "Find a lamp."}, {"type": "image", "source": {"media_type": "image/png"}}]),
    step("agent", "I look.", call("go", to="desk"), results=[result("A lamp.")], reasoning_content="Hm."),
    step("agent", "", call("take", item="lamp"), results=[result("No such thing.", extra={"is_error": True})]),
    step("agent", "", call("take", item="it"), call("go", "b", to="bed"), results=[result("Bed.", "b"), result("Ok.")]),
    step("agent", "Done.", results=[result("Time is up.", None)]),
]
TOOLS = [{"type": "function", "function": {"name": "go", "parameters": {"type": "object"}}}]


def trajectory(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    numbered = [{"step_id": number} | one for number, one in enumerate(steps or STEPS, start=1)]
    agent = {"name": "lamp-finder", "version": "1", "model_name": "tiny", "tool_definitions": TOOLS}
    return {"schema_version": "ATIF-v1.7", "trajectory_id": "t1", "agent": agent, "steps": numbered} | more


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def passed(**details: Any) -> dict[str, Any]:
    return {"extra": {"adp_details": {"success": True} | details}}


def test_steps_become_a_conversation_whose_results_answer_their_calls(tmp_path: Path) -> None:
    report = load_trajectories(write(tmp_path / "atif.jsonl", trajectory(**passed(task_id="lamp"))))
    (one,) = report.trajectories
    assert (report.format, one.id, one.task_id, one.agent, one.success) == ("adp", "t1", "lamp", "tiny", True)
    assert [tool.name for tool in one.tools] == ["go"]
    assert [(m.role, m.content, m.name, m.is_error) for m in one.messages] == [
        ("system", "You act.", None, False),
        ("user", "Find a lamp.\n[image]", None, False),
        ("assistant", "I look.", None, False),
        ("tool", "A lamp.", "go", False),
        ("assistant", None, None, False),
        ("tool", "No such thing.", "take", True),
        ("assistant", None, None, False),
        ("tool", "Bed.", "go", False),
        ("tool", "Ok.", "take", False),
        ("assistant", "Done.", None, False),
        ("user", "Time is up.", None, False),
    ]
    assert one.messages[2].tool_calls[0].arguments == {"to": "desk"}


def test_calls_numbered_anew_in_each_step_are_told_apart(tmp_path: Path) -> None:
    (one,) = load_trajectories(write(tmp_path / "atif.jsonl", trajectory(**passed()))).trajectories
    made = [call.id for message in one.messages for call in message.tool_calls]
    answered = [message.tool_call_id for message in one.messages if message.role == "tool"]
    assert made == ["call_1", "call_1.2", "call_1.3", "b"]
    assert answered == ["call_1", "call_1.2", "b", "call_1.3"]


def test_an_answer_goes_to_the_last_call_of_its_name_where_an_earlier_one_had_none(tmp_path: Path) -> None:
    steps = [step("agent", "", call("put")), step("agent", "", call("go"), results=[result("There.")])]
    (one,) = load_trajectories(write(tmp_path / "atif.jsonl", trajectory(*steps, **passed()))).trajectories
    assert (one.messages[-1].name, one.messages[-1].tool_call_id) == ("go", "call_1.2")


def test_a_result_of_no_call_answers_the_steps_call_and_a_subagent_is_named(tmp_path: Path) -> None:
    reference = [{"trajectory_id": "helper"}, {"trajectory_path": "trajectory.sub-1.json"}]
    steps = [
        step("agent", "", call("ask"), results=[result(None, None, subagent_trajectory_ref=reference)]),
        step("system", "", results=[result("The history was cut.", None)]),
    ]
    (one,) = load_trajectories(write(tmp_path / "atif.jsonl", trajectory(*steps, **passed()))).trajectories
    assert [(m.role, m.content) for m in one.messages[1:]] == [
        ("tool", "[subagent helper]\n[subagent trajectory.sub-1.json]"),
        ("user", "The history was cut."),
    ]


@pytest.mark.parametrize(
    ("more", "reward", "success"),
    [
        ({"extra": {"adp_details": {"resolved": False}}}, None, False),
        ({"extra": {"reward": 1}}, 1.0, True),
        ({"extra": {"reward": 1, "adp_details": {"reward": 0.5}}}, 0.5, False),
        ({"final_metrics": {"extra": {"score": 0.25}}}, 0.25, False),
    ],
)
def test_success_is_told_beside_the_steps(
    tmp_path: Path, more: dict[str, Any], reward: float | None, success: bool
) -> None:
    (one,) = load_trajectories(write(tmp_path / "atif.jsonl", trajectory(**more))).trajectories
    assert (one.reward, one.success) == (reward, success)


def test_both_layouts_are_one_format(tmp_path: Path) -> None:
    older = {"id": "o", "content": [{"class_": "message_action", "content": "Hi"}], "details": {"success": False}}
    report = load_trajectories(write(tmp_path / "both.jsonl", older, trajectory(**passed())))
    assert (report.format, [one.id for one in report.trajectories]) == ("adp", ["o", "t1"])


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (trajectory(), "neither 'success' nor 'reward': name the column"),
        (trajectory(schema_version="ATIF-v2.0"), r"'schema_version' is 'ATIF-v2.0', only 'ATIF-v1.x' can be read"),
        (trajectory(step("robot", "Hi")), "step 1 has the source 'robot', which is none of 'system', 'user', 'agent'"),
        (trajectory(step("agent", "", {"tool_call_id": "a"})), "a tool call of step 1 has no 'function_name'"),
        (trajectory(steps="none"), "'steps' is not a list"),
    ],
)
def test_what_is_wrong_with_a_step_is_said(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        load_trajectories(write(tmp_path / "atif.jsonl", row))


def trial(folder: Path, *segments: dict[str, Any], **result: Any) -> Path:
    """A trial's folder as Harbor lays it out: its result, and the trajectory with its continuations."""
    told = {
        "task_name": "lamp",
        "trial_name": folder.name,
        "source": "shop-bench",
        "agent_info": {"name": "lamp-finder", "version": "1"},
        "verifier_result": {"rewards": {"reward": 1.0}},
        "exception_info": None,
    }
    write(folder / "result.json", told | result)
    write(folder / "config.json", {"task": {"path": "lamp"}})
    (folder / "agent").mkdir()
    (folder / "agent" / "session.jsonl").write_text('{"type": "log"}\n')
    for number, segment in enumerate(segments):
        write(folder / "agent" / (f"trajectory.cont-{number}.json" if number else "trajectory.json"), segment)
    return folder


def job(folder: Path) -> Path:
    """A job of three trials: passed, failed, and one whose sandbox did not start."""
    write(folder / "result.json", {"id": "j", "n_total_trials": 3})
    write(folder / "config.json", {"job_name": "j"})
    trial(folder / "lamp__a", trajectory(session_id="s"), reward_valid=True)
    late = {"exception_type": "AgentTimeoutError", "exception_message": "600 s"}
    rewards = {"verifier_result": {"rewards": {"reward": 0.0}}}
    trial(folder / "lamp__b", trajectory(session_id="s"), exception_info=late, reward_valid=True, **rewards)
    lost = {"exception_type": "EnvironmentStartTimeoutError", "exception_message": "no box\nlong"}
    trial(folder / "lamp__c", exception_info=lost, reward_valid=False, verifier_result=None)
    return folder


def test_the_trials_of_a_job_have_their_verdicts_and_are_trials_of_their_task(tmp_path: Path) -> None:
    report = load_trajectories(job(tmp_path / "jobs" / "monday").parent)
    first, second, third = report.trajectories
    assert (first.id, first.task_id, first.trial, first.environment) == ("lamp__a", "lamp", 0, "shop-bench")
    assert (second.id, second.task_id, second.trial, second.success, second.reward) == (
        *("lamp__b", "lamp", 1),
        *(False, 0.0),
    )
    assert (first.success, len(first.messages)) == (True, 11)
    assert (third.success, third.stop, third.error) == (
        *(None, StopReason.ERROR),
        "EnvironmentStartTimeoutError: no box",
    )
    assert report.excluded_infrastructure == 1


def test_a_trial_may_be_given_by_its_folder_or_by_its_result(tmp_path: Path) -> None:
    folder = trial(tmp_path / "lamp__a", trajectory())
    for path in (folder, folder / "result.json"):
        assert [one.success for one in load_trajectories(path).trajectories] == [True]


def test_a_continued_trajectory_is_one_without_what_it_copies(tmp_path: Path) -> None:
    first = trajectory(step("user", "Go."), step("agent", "One."), continued_trajectory_ref="trajectory.cont-1.json")
    second = trajectory(step("user", "Go.", is_copied_context=True), step("agent", "Two."))
    (one,) = load_trajectories(trial(tmp_path / "lamp__a", first, second)).trajectories
    assert [message.content for message in one.messages] == ["Go.", "One.", "Two."]


def test_the_trajectories_of_a_trials_steps_follow_one_another(tmp_path: Path) -> None:
    folder = trial(tmp_path / "lamp__a", step_results=[{"step_name": "find"}, {"step_name": "buy"}])
    for name in ("buy", "find"):
        write(folder / "steps" / name / "agent" / "trajectory.json", trajectory(step("user", name)))
    (one,) = load_trajectories(folder).trajectories
    assert [message.content for message in one.messages] == ["find", "buy"]


def test_several_rewards_ask_for_a_column(tmp_path: Path) -> None:
    rewards = {"verifier_result": {"rewards": {"correctness": 1.0, "style": 0.5}}}
    folder = trial(tmp_path / "lamp__a", trajectory(), **rewards)
    with pytest.raises(UsageError, match=r"several rewards: name one with --reward-column, one of 'rewards\.correct"):
        load_trajectories(folder)
    (one,) = load_trajectories(folder, outcomes=Outcomes(reward_column="rewards.style")).trajectories
    assert (one.reward, one.success) == (0.5, False)


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("result.json", "{", r"result\.json' cannot be read .*: mend the file"),
        ("result.json", "[]", "a JSON object is wanted, not list"),
        ("agent/trajectory.json", "{}", r"trajectory\.json' has no list of 'steps'"),
        ("agent/trajectory.json", None, "no 'agent/trajectory.json' beside it"),
    ],
)
def test_a_trial_that_cannot_be_read_says_why(tmp_path: Path, file: str, text: str | None, reason: str) -> None:
    folder = trial(tmp_path / "lamp__a", trajectory())
    if text is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(text)
    with pytest.raises(UsageError, match=rf"row 1 of .*{reason}"):
        load_trajectories(folder)
