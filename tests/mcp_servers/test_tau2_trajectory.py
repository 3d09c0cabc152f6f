"""The trajectory that upstream judges: the episode's own record, with the agent's texts that it never heard."""

from __future__ import annotations

from typing import Any

from mcp_servers.tau2.trajectory import called, merged, said
from trace_agents.types import Message, ToolCall

ANSWER = {"role": "tool", "id": "call_2", "content": "sunny", "requestor": "assistant", "error": False}
RECORD = [
    said("assistant", "Hi!"),
    said("user", "Weather?"),
    called("assistant", "call_2", "look", {"at": "sky"}),
    ANSWER,
    said("assistant", "It is sunny."),
    called("user", "user_5", "go", {}),
    {"role": "tool", "id": "user_5", "content": "out", "requestor": "user", "error": False},
    said("user", "Thanks."),
]


def agent(content: str | None = None, **call: Any) -> Message:
    calls = (ToolCall(id="x", name="look", arguments=call),) if call else ()
    return Message(role="assistant", content=content, tool_calls=calls)


def test_a_conversation_that_the_episode_heard_whole_adds_nothing() -> None:
    heard = [Message(role="user", content="Weather?"), agent(at="sky"), agent("It is sunny.")]
    assert merged(RECORD, heard) == RECORD
    assert merged(RECORD, []) == RECORD


def test_texts_beside_calls_and_last_texts_are_added_in_their_places() -> None:
    found = merged(RECORD, [agent("Let me look.", at="sky"), agent("It is sunny."), agent("Bye.")])
    assert found[2]["content"] == "Let me look."
    assert found[2]["tool_calls"] == RECORD[2]["tool_calls"]
    assert found[5] == said("assistant", "Bye.")
    assert len(found) == len(RECORD) + 1


def test_calls_that_never_reached_the_episode_are_not_judged() -> None:
    claimed = [agent(at="the sea"), agent(at="sky"), agent("It is sunny.")]
    assert merged(RECORD, claimed) == RECORD


def test_the_record_is_not_changed() -> None:
    before = [dict(item) for item in RECORD]
    merged(RECORD, [agent("Let me look.", at="sky")])
    assert before == RECORD
