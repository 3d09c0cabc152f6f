"""Chat messages in the forms that the field writes them."""

from __future__ import annotations

from typing import Any

import pytest

from trace_agents.importers.chat import BadRow, chat_messages, tool_specs
from trace_agents.types import Message


def told(*entries: dict[str, Any]) -> list[tuple[str, str | None, list[tuple[str, Any]]]]:
    return [
        (message.role, message.content, [(call.name, call.arguments) for call in message.tool_calls])
        for message in chat_messages(list(entries))
    ]


def test_parts_that_are_no_text_stay_as_placeholders() -> None:
    parts = [
        {"type": "input_text", "text": "Look:"},
        {"type": "image_url", "image_url": {"url": "data:..."}},
        {"type": "input_audio", "input_audio": {"data": "..."}},
        {"type": "file", "file": {}},
        {"type": "refusal", "refusal": "No."},
        {"type": "thinking", "thinking": "hidden"},
        "plain",
    ]
    assert told({"role": "user", "content": parts}) == [("user", "Look:\n[image]\n[audio]\n[file]\nNo.\nplain", [])]
    assert told({"role": "user", "content": {"a": 1}}) == [("user", '{"a": 1}', [])]
    assert told({"role": "user", "content": []}) == [("user", "", [])]


def test_the_legacy_function_call_is_answered_by_its_function() -> None:
    messages = chat_messages(
        [
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"a": 1}'}},
            {"role": "function", "name": "f", "content": "1"},
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "2"},
        ]
    )
    calls = [call for message in messages for call in message.tool_calls]
    assert [call.arguments for call in calls] == [{"a": 1}, {}]
    assert calls[0].id != calls[1].id
    assert [m.tool_call_id for m in messages if m.role == "tool"] == [calls[0].id, calls[1].id]


def test_items_of_the_responses_api_make_messages() -> None:
    output = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}]}
    items = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "input_text", "text": "W1 and W2?"}]},
        {"type": "reasoning", "summary": []},
        output,
        {"type": "function_call", "id": "fc1", "call_id": "c1", "name": "get", "arguments": '{"id": "W1"}'},
        {"type": "function_call", "id": "fc2", "call_id": "c2", "name": "get", "arguments": '{"id": "W2"}'},
        {"type": "function_call_output", "call_id": "c1", "output": "lost"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "sent"}]},
    ]
    messages = chat_messages(items)
    assert [(m.role, m.content) for m in messages] == [
        ("system", "Be brief."),
        ("user", "W1 and W2?"),
        ("assistant", "I look."),
        ("tool", "lost"),
        ("tool", "sent"),
    ]
    assert [call.id for call in messages[2].tool_calls] == ["c1", "c2"]
    assert [(m.name, m.tool_call_id) for m in messages[3:]] == [("get", "c1"), ("get", "c2")]


def test_anthropics_blocks_are_calls_and_results() -> None:
    refusal = {
        "type": "tool_result",
        "tool_use_id": "t1",
        "content": [{"type": "text", "text": "no"}],
        "is_error": True,
    }
    messages = chat_messages(
        [
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "I look."},
                    {"type": "tool_use", "id": "t1", "name": "get", "input": {"id": "W1"}},
                ],
            },
            {"role": "user", "content": [refusal]},
        ]
    )
    assert [(m.role, m.content, m.is_error) for m in messages] == [
        ("assistant", "I look.", False),
        ("tool", "no", True),
    ]
    assert (messages[0].tool_calls[0].arguments, messages[1].name) == ({"id": "W1"}, "get")


def test_a_call_told_twice_is_one_call() -> None:
    (message,) = chat_messages(
        [
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "t1", "name": "get", "input": {}}],
                "tool_calls": [{"id": "t1", "name": "get", "args": {}}],
            }
        ]
    )
    assert [call.id for call in message.tool_calls] == ["t1"]


def test_a_result_without_an_identity_answers_the_oldest_open_call() -> None:
    calls = [{"name": "f", "arguments": {}}, {"name": "g", "arguments": {}}]
    messages = chat_messages(
        [
            {"role": "assistant", "content": None, "tool_calls": calls},
            {"role": "tool", "name": "g", "content": "of g"},
            {"role": "tool", "content": "of f"},
            {"role": "tool", "content": "of nothing"},
        ]
    )
    f, g = messages[0].tool_calls
    assert [(m.tool_call_id, m.name) for m in messages[1:]] == [(g.id, "g"), (f.id, "f"), (None, None)]


def test_plain_messages_are_untouched() -> None:
    assert chat_messages([{"role": "user", "content": "Hi", "name": "ann"}]) == (
        Message(role="user", content="Hi", name="ann"),
    )


def test_tools_are_read_in_each_providers_form() -> None:
    schema = {"type": "object", "properties": {"a": {}}}
    forms = [
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": schema}},
        {"name": "f", "description": "d", "inputSchema": schema},
        {"name": "f", "description": "d", "input_schema": schema},
    ]
    assert len({spec.model_dump_json() for spec in tool_specs(forms)}) == 1
    assert tool_specs([{"name": "f"}])[0].input_schema == {"type": "object"}


@pytest.mark.parametrize("tools", [[1], [{}], [{"name": 1}], [{"name": "f", "parameters": [1]}], {"f": {}}, "f"])
def test_tools_that_are_none_are_refused(tools: Any) -> None:
    with pytest.raises(BadRow, match="tool"):
        tool_specs(tools)
