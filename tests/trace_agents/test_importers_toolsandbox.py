"""ToolSandbox's output folder: conversations, message tables, and exceptions that are the agent's or not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trace_agents.errors import UsageError
from trace_agents.importers import Outcomes, load_trajectories
from trace_agents.types import StopReason

CODE = "c1_parameters = {'on': True, 'name': None}\nc1_response = set_wifi(**c1_parameters)\nprint(repr(c1_response))"


def table_row(sender: str, recipient: str, content: str, **more: Any) -> dict[str, Any]:
    row = {"sandbox_message_index": 0, "sender": sender, "recipient": recipient, "content": content}
    empty = {"openai_tool_call_id": None, "openai_function_name": None, "tool_call_exception": None}
    return row | empty | {"conversation_active": True, "tool_trace": None, "visible_to": [sender, recipient]} | more


TOOL = {"openai_tool_call_id": "c1", "openai_function_name": "set_wifi"}
TABLE = [
    {"sandbox_message_index": 0, "sender": None, "recipient": None, "content": None},
    table_row("SYSTEM", "EXECUTION_ENVIRONMENT", "import tools"),
    table_row("SYSTEM", "AGENT", "Call functions."),
    table_row("USER", "AGENT", "An example.", visible_to=["USER"]),
    table_row("USER", "AGENT", "Turn on wifi"),
    table_row("AGENT", "EXECUTION_ENVIRONMENT", CODE, **TOOL),
    table_row("EXECUTION_ENVIRONMENT", "AGENT", "ValueError: no", tool_call_exception="ValueError: no", **TOOL),
    table_row("AGENT", "USER", "I cannot."),
    table_row("EXECUTION_ENVIRONMENT", "USER", "None", conversation_active=False),
]
CONVERSATION = [
    {"role": "system", "content": "Call functions."},
    {"role": "user", "content": "Turn on wifi", "user_details": {"milestone_matches": ["secret"]}},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "c1", "function": {"name": "set_wifi", "arguments": '{"on": true}'}, "type": "function"}],
    },
    {"tool_call_id": "c1", "role": "tool", "name": "set_wifi", "content": "ValueError: no"},
    {"role": "assistant", "content": "I cannot."},
]


def result(name: str, similarity: float, exception: str | None = None, traceback: str | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "categories": ["SINGLE_TOOL_CALL"],
        "traceback": traceback,
        "exception_type": exception,
        "milestone_similarity": similarity,
        "minefield_similarity": 0,
        "similarity": similarity,
        "turn_count": 4,
        "milestone_mapping": {"0": [5, similarity]},
        "minefield_mapping": {},
    }


def run(path: Path, *entries: dict[str, Any], conversation: bool = True, table: bool = True) -> Path:
    folder = path / "agent_some-model_user_other-model_07_03_2026_00_17_44"
    for entry in entries:
        scenario = folder / "trajectories" / entry["name"]
        scenario.mkdir(parents=True)
        if conversation and entry["exception_type"] is None:
            (scenario / "conversation.json").write_text(json.dumps(CONVERSATION, indent=2))
        if table:
            context = {"_dbs": {"SANDBOX": TABLE, "SETTING": []}, "tool_allow_list": None}
            (scenario / "execution_context.json").write_text(json.dumps(context, indent=4))
        (scenario / "pretty_print.txt").write_text("a table")
    summary: dict[str, Any] = {
        "per_scenario_results": list(entries),
        "category_aggregated_results": {},
        "git_sha": None,
    }
    (folder / "result_summary.json").write_text(json.dumps(summary, indent=4))
    return folder


@pytest.mark.parametrize("part", ["", "result_summary.json", ".."])
def test_a_run_is_read_by_its_folder_its_summary_or_the_folder_of_runs(tmp_path: Path, part: str) -> None:
    folder = run(tmp_path / "data", result("wifi_off", 1.0), result("wifi_on", 0.75))
    report = load_trajectories(folder / part)
    first, second = report.trajectories
    assert (report.format, report.ignored) == ("toolsandbox", ())
    assert (first.id, first.task_id, first.agent, first.stop) == (
        *("wifi_off#0", "wifi_off", "some-model"),
        StopReason.USER,
    )
    assert (first.success, second.success, second.reward) == (True, False, 0.75)
    assert [message.role for message in first.messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert [message.is_error for message in first.messages] == [False, False, False, True, False]
    assert "secret" not in first.model_dump_json()


def test_the_table_gives_the_messages_where_there_is_no_conversation(tmp_path: Path) -> None:
    whole = load_trajectories(run(tmp_path / "a", result("wifi_off", 1.0))).trajectories[0].messages
    bare = load_trajectories(run(tmp_path / "b", result("wifi_off", 1.0), conversation=False)).trajectories[0].messages
    assert [message.model_copy(update={"tool_calls": ()}) for message in bare] == [
        message.model_copy(update={"tool_calls": ()}) for message in whole
    ]
    assert bare[2].tool_calls[0].arguments == {"on": True, "name": None}
    assert (bare[2].tool_calls[0].name, bare[2].tool_calls[0].id) == ("set_wifi", "c1")


def test_a_threshold_makes_a_similarity_a_success(tmp_path: Path) -> None:
    folder = run(tmp_path, result("a", 0.75), result("b", 0.5))
    found = load_trajectories(folder, outcomes=Outcomes(threshold=0.75)).trajectories
    assert [one.success for one in found] == [True, False]


@pytest.mark.parametrize(
    ("exception", "traceback", "success"),
    [
        ("RateLimitError", "openai.RateLimitError: 429", None),
        ("KeyError", "KeyError: 'x'", None),
        ("KeyError", "KeyError: \"Agent tool call 'x' is not a known allowed tool.\"", False),
        ("JSONDecodeError", "json.decoder.JSONDecodeError", False),
    ],
)
def test_an_exception_is_infrastructures_unless_the_agent_caused_it(
    tmp_path: Path, exception: str, traceback: str, success: bool | None
) -> None:
    report = load_trajectories(run(tmp_path, result("a", 0, exception, traceback)))
    (one,) = report.trajectories
    assert one.success is success
    assert one.error == (exception if success is None else None)
    assert len(one.messages) == 5


def test_a_missing_trajectory_is_named(tmp_path: Path) -> None:
    folder = run(tmp_path, result("a", 1.0), conversation=False, table=False)
    with pytest.raises(UsageError, match=r"row 1 of .* \(no 'trajectories/a/conversation\.json' beside the summary\)"):
        load_trajectories(folder)


def test_a_name_never_leads_out_of_the_folder(tmp_path: Path) -> None:
    folder = run(tmp_path, result("a", 1.0))
    bad = {"per_scenario_results": [result("../../x", 1.0)], "category_aggregated_results": {}}
    (folder / "result_summary.json").write_text(json.dumps(bad))
    with pytest.raises(UsageError, match="is no name of a folder"):
        load_trajectories(folder)
