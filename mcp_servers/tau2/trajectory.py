"""What happened in an episode, as messages of upstream's trajectory: what its evaluators read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trace_agents.types import Message, ToolCall

Item = dict[str, Any]
"""A message in upstream's shape, in JSON."""


def said(role: str, text: str) -> Item:
    """A text by the agent (`assistant`) or the user."""
    return {"role": role, "content": text, "tool_calls": None}


def called(requestor: str, number: str, name: str, arguments: Mapping[str, Any]) -> Item:
    """A tool call by the agent (`assistant`) or the user."""
    call = {"id": number, "name": name, "arguments": dict(arguments), "requestor": requestor}
    return {"role": requestor, "content": None, "tool_calls": [call]}


def merged(record: Sequence[Item], messages: Sequence[Message]) -> list[Item]:
    """The trajectory to be judged: the episode's own record, and the agent's texts that it never heard.

    Calls and their results are the episode's, so that an agent's account of them cannot differ from what happened. Only
    the host knows the text beside a tool call and a last text that was not handed to the user.
    """
    items = [dict(item) for item in record]
    place = 0
    for message in messages:
        if message.role != "assistant":
            continue
        found = _place(items, place, message)
        text = message.content or ""
        if found is None:
            if text.strip():
                items.insert(place, said("assistant", text))
                place += 1
            continue
        if text.strip():
            items[found]["content"] = text
        place = found + 1
    return items


def _place(items: Sequence[Item], start: int, message: Message) -> int | None:
    """Where the record has the agent's `message`; None where the episode never got it."""
    for index in range(start, len(items)):
        item = items[index]
        if item["role"] != "assistant":
            continue
        if message.tool_calls:
            if item["tool_calls"] and any(_same(item["tool_calls"][0], call) for call in message.tool_calls):
                return index
        elif not item["tool_calls"] and item["content"] == message.content:
            return index
    return None


def _same(item: Mapping[str, Any], call: ToolCall) -> bool:
    return bool(item["name"] == call.name and item["arguments"] == call.arguments)
