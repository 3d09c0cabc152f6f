"""Agent Data Protocol: actions, observations, and what of them is a tool's result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trace_agents.errors import UsageError
from trace_agents.importers import Outcomes, load_trajectories


def text(content: str, source: str, **more: Any) -> dict[str, Any]:
    return {"class_": "text_observation", "content": content, "name": None, "source": source} | more


def api(function: str, **kwargs: Any) -> dict[str, Any]:
    return {"class_": "api_action", "function": function, "kwargs": kwargs, "description": "I try it."}


WEB = {
    "class_": "web_observation",
    "html": "<p>",
    "axtree": "button 'Buy'",
    "url": "http://shop",
    "viewport_size": None,
}
CONTENT = [
    text("You act.", "system"),
    text("Buy a lamp.", "user"),
    api("goto", url="http://shop"),
    WEB | {"image_observation": None, "viewport_size": None},
    {"class_": "code_action", "language": "bash", "content": "ls", "description": None},
    text("No such file", "environment", reward=0.0),
    {"class_": "message_action", "content": "Done.", "description": "private", "reward": 1.0},
    text("Thank you.", "user"),
]


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def trajectory(**more: Any) -> dict[str, Any]:
    return {"schema_version": "1.2.0", "id": "t1", "content": CONTENT, "details": {}} | more


def test_actions_and_observations_become_a_conversation(tmp_path: Path) -> None:
    report = load_trajectories(write(tmp_path / "std.jsonl", trajectory()))
    (one,) = report.trajectories
    assert (report.format, one.id, one.task_id) == ("adp", "t1", "t1")
    assert [(m.role, m.content) for m in one.messages] == [
        ("system", "You act."),
        ("user", "Buy a lamp."),
        ("assistant", "I try it."),
        ("tool", "http://shop\nbutton 'Buy'"),
        ("assistant", None),
        ("tool", "No such file"),
        ("assistant", "Done."),
        ("user", "Thank you."),
    ]
    calls = [call for message in one.messages for call in message.tool_calls]
    assert [(call.name, call.arguments) for call in calls] == [
        ("goto", {"url": "http://shop"}),
        ("bash", {"code": "ls"}),
    ]
    assert [(m.name, m.tool_call_id) for m in one.messages if m.role == "tool"] == [
        ("goto", calls[0].id),
        ("bash", calls[1].id),
    ]


def test_observations_answer_the_call_that_they_name(tmp_path: Path) -> None:
    content = [
        api("f") | {"tool_call_id": "x"},
        api("g") | {"tool_call_id": "y"},
        text("of g", "user", tool_call_id="y"),
        text("of f", "environment", tool_call_id="x"),
        {"class_": "image_observation", "content": "a.png", "source": "environment"},
    ]
    row = trajectory(content=content, details={"success": True, "task_id": "lamp"})
    (one,) = load_trajectories(write(tmp_path / "std.jsonl", row)).trajectories
    assert [(m.role, m.content, m.name) for m in one.messages[2:]] == [
        ("tool", "of g", "g"),
        ("tool", "of f", "f"),
        ("tool", "[image]", None),
    ]
    assert (one.task_id, one.success) == ("lamp", True)


@pytest.mark.parametrize(
    ("details", "reward", "success"),
    [
        ({}, 1.0, True),
        ({"resolved": False}, 1.0, False),
        ({"score": 0.5}, 0.5, False),
        ({"reward": 1, "score": 0.5}, 1.0, True),
    ],
)
def test_success_is_told_by_the_details_or_the_last_reward(
    tmp_path: Path, details: dict[str, Any], reward: float, success: bool
) -> None:
    (one,) = load_trajectories(write(tmp_path / "std.jsonl", trajectory(details=details))).trajectories
    assert (one.reward, one.success) == (reward, success)


def test_a_column_may_lead_into_the_details(tmp_path: Path) -> None:
    path = write(tmp_path / "std.jsonl", trajectory(content=CONTENT[:2], details={"verdict": "pass"}))
    with pytest.raises(UsageError, match="neither 'success' nor 'reward': name the column"):
        load_trajectories(path)
    (one,) = load_trajectories(path, outcomes=Outcomes(success_column="details.verdict")).trajectories
    assert one.success is True


def test_an_unknown_class_is_named(tmp_path: Path) -> None:
    row = trajectory(content=[CONTENT[0], {"class_": "robot_action"}])
    with pytest.raises(UsageError, match="item 1 of 'content' has the class_ 'robot_action', which is none of"):
        load_trajectories(write(tmp_path / "std.jsonl", row))


def test_trials_of_a_task_are_numbered(tmp_path: Path) -> None:
    rows = [trajectory(id=name, details={"task_id": "lamp"}) for name in ("a", "b")]
    found = load_trajectories(write(tmp_path / "std.jsonl", *rows)).trajectories
    assert [(one.id, one.trial) for one in found] == [("a", 0), ("b", 1)]
