"""What a reader is shown, and what it may answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trace_agents.analysis.compaction import Compaction, compact, shared_rules, tool_lines
from trace_agents.analysis.handoff import HandoffFolder
from trace_agents.analysis.requests import (
    BadAnswer,
    Request,
    check_answer,
    discover_schema,
    label_of,
    label_schema,
    make_request,
    merge_schema,
    parse_json,
)
from trace_agents.errors import UsageError
from trace_agents.prompts import prompt_names
from trace_agents.types import Label, Message, ToolCall, ToolSpec, Trajectory

TALK = Trajectory(
    id="a",
    task_id="task",
    success=False,
    tools=(
        ToolSpec(
            name="get_order",
            description="Look an order up. " * 30,
            input_schema={"type": "object", "properties": {"id": {}, "note": {}}, "required": ["id"]},
        ),
    ),
    messages=(
        Message(role="system", content="Be kind."),
        Message(role="user", content="Where is\n my order?  " + "please " * 100),
        Message(
            role="assistant",
            content="I look.",
            tool_calls=(ToolCall(name="get_order", arguments={"id": "W1", "note": "n" * 300}),),
        ),
        Message(role="tool", name="get_order", content="no such order", is_error=True),
        Message(role="assistant", tool_calls=(ToolCall(name="get_order", arguments="{oops"),)),
        Message(role="assistant", content=None),
    ),
)


def test_a_trajectory_is_shown_line_by_line_with_its_indices_and_says_what_was_cut() -> None:
    shared = shared_rules([TALK, TALK])
    assert shared == {"Be kind.": "R1"}
    assert shared_rules([TALK]) == {}
    settings = Compaction(message_chars=30, argument_chars=20)
    lines = compact(TALK, settings, shared).splitlines()
    assert lines == [
        "[0] system: rules R1",
        "[1] user: Where is my order? please plea… (+688 characters)",
        "[2] assistant: I look.",
        '[2] assistant calls get_order(id="W1", note="' + "n" * 19 + "… (+282 characters))",
        "[3] result of get_order ERROR: no such order",
        "[4] assistant calls get_order with malformed arguments {oops",
        "[5] assistant: (nothing)",
    ]
    assert compact(TALK, settings).startswith("[0] system: Be kind.")
    (tool,) = tool_lines([TALK, TALK])
    assert tool.startswith("get_order(id, note?): Look an order up.")
    assert len(tool) < 270
    bare = ToolSpec(name="ping", input_schema={"type": "object", "properties": None, "required": None})
    assert tool_lines([TALK.model_copy(update={"tools": (bare,)})]) == ["ping()"]


def request(schema: dict[str, Any]) -> Request:
    return Request(id="x", kind="label", about="", prompt="", answer_schema=schema)


FAULTS: list[tuple[dict[str, Any], Any, str]] = [
    (label_schema({"T1": 5}, ["a"]), [], "the answer: [] where a JSON object with 'labels' and nothing else is wanted"),
    (
        label_schema({"T1": 5}, ["a"]),
        {"labels": {"T1": {"a": "LACKING"}}},
        'labels.T1.a: "LACKING" where "NA", or ["PRES',
    ),
    (label_schema({"T1": 5}, ["a"]), {"labels": {"T1": {"a": ["LACKING", 6]}}}, "step 0 to 5] is wanted"),
    (label_schema({"T1": 5}, ["a"]), {"labels": {"T1": {"a": ["LACKING", True]}}}, "step 0 to 5] is wanted"),
    (label_schema({"T1": 5}, ["a"]), {"labels": {"T1": {"a": "NA", "b": "NA"}}}, '"b" where a name of the dictionary'),
    (label_schema({"T1": 5}, ["a"]), {"labels": {"T1": {"a": "NA"}, "T2": {}}}, "labels: 'T2' is not asked for"),
    (label_schema({"T1": 5, "T2": 1}, ["a"]), {"labels": {}}, "labels: 'T1', 'T2' are missing"),
    (
        discover_schema(["T1"], 1),
        {"capabilities": []},
        "[] where an object of at most 1 capabilities by slug is wanted",
    ),
    (merge_schema(3, 5), {"capabilities": {"a": {"title": "One", "description": "d" * 30, "merges": [4]}}}, "1 to 3"),
]


@pytest.mark.parametrize(("schema", "answer", "reason"), FAULTS, ids=[*map(str, range(len(FAULTS)))])
def test_a_refusal_says_where_what_and_what_was_wanted(schema: dict[str, Any], answer: Any, reason: str) -> None:
    with pytest.raises(BadAnswer) as refused:
        check_answer(request(schema), answer)
    assert reason in str(refused.value)


def test_a_fitting_answer_is_taken_and_unsure_counts_as_present() -> None:
    check_answer(request(label_schema({"T1": 5}, ["a", "b"])), {"labels": {"T1": {"a": ["UNSURE", 5], "b": "NA"}}})
    assert label_of(["UNSURE", 5]) == (Label.PRESENT, 5)
    assert label_of(["LACKING", 2]) == (Label.LACKING, 2)
    assert label_of("NA") == (Label.NA, None)


@pytest.mark.parametrize("text", ['{"a": 1}', '```json\n{"a": 1}\n```', '<think>{"b"} hm</think> Here: {"a": 1}.'])
def test_json_is_found_alone_fenced_or_after_thinking(text: str) -> None:
    assert parse_json(text) == {"a": 1}


@pytest.mark.parametrize("text", ["{" + '"a": {' * 5000 + "}" * 5001, '{"a": ' + "1" * 5000 + "}"])
def test_what_a_model_that_repeats_itself_ends_in_is_a_refusal(text: str) -> None:
    with pytest.raises(BadAnswer, match="a number too long to read, or objects nested without end"):
        parse_json(text)


@pytest.mark.parametrize("depth", [50, 400, 800, 950])
def test_an_answer_nested_deeply_is_refused_like_any_other(depth: int) -> None:
    with pytest.raises(BadAnswer):
        check_answer(request(merge_schema(1, 1)), parse_json('{"a":' * depth + "1" + "}" * depth))


def test_half_a_character_is_refused_since_no_file_could_hold_it() -> None:
    entry = {"title": "A lock \ud83d", "description": "Looks up who owns a door.", "merges": [1]}
    with pytest.raises(BadAnswer, match=r"half a character .* after .*A lock '"):
        check_answer(request(merge_schema(1, 1)), {"capabilities": {"lock": entry}})


def test_a_request_is_named_by_what_it_asks() -> None:
    def asked(most: int) -> Request:
        candidates = [{"title": "T", "description": "D", "part": 1, "examples": 1}]
        return make_request("merge", "about", merge_schema(1, most), candidates=candidates, most=most, parts=1)

    assert {"analysis-discover", "analysis-merge", "analysis-label"} <= set(prompt_names())
    assert asked(3) == asked(3)
    assert asked(3).id != asked(4).id
    assert asked(3).prompt.count(json.dumps(asked(3).answer_schema)) == 1
    assert asked(3).prompt.count('"capabilities"') == asked(3).prompt.count('"merges"') == 2  # In the schema alone.


def test_a_hand_off_folder_takes_an_answer_once_and_knows_nobody_elses_files(tmp_path: Path) -> None:
    folder = HandoffFolder(tmp_path)
    folder.claim("one")
    folder.put(request(label_schema({"T1": 5}, ["a"])))
    for identity in ("../handoff", "y"):
        with pytest.raises(UsageError, match="unknown request"):
            folder.answer(identity, {})
    folder.answer("x", {"labels": {"T1": {"a": "NA"}}}, by="Ann")
    with pytest.raises(UsageError, match="is answered already: remove"):
        folder.answer("x", {"labels": {"T1": {"a": "NA"}}})
    with pytest.raises(UsageError, match="belongs to another analysis"):
        folder.claim("two")
