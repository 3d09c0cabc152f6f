"""Compaction: a trajectory as short numbered lines that a language model can read, and how much they take."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from math import ceil

from pydantic import Field

from trace_agents.types import Message, Record, ToolCall, ToolSpec, Trajectory

CHARS_PER_TOKEN = 3
"""Characters that a token holds at least, on average: JSON and names take more tokens than prose."""
MOST_RULES = 3
"""System messages shown once for all trajectories; further ones are cut like any message."""
TOOL_CHARS = 200
"""Characters of a tool's description, and of the names of its arguments."""


class Compaction(Record):
    """How much of a trajectory is kept; what is cut says how much is missing."""

    message_chars: int = Field(default=300, ge=20)
    """Characters of a message."""
    argument_chars: int = Field(default=200, ge=20)
    """Characters of one argument of a tool call."""
    result_chars: int = Field(default=300, ge=20)
    """Characters of a tool result."""
    rules_chars: int = Field(default=8000, ge=20)
    """Characters of a system message that several trajectories share, shown once."""


def tokens(text: str) -> int:
    """Tokens that `text` may take, estimated from above without a tokenizer."""
    return ceil(len(text) / CHARS_PER_TOKEN)


def shared_rules(trajectories: Sequence[Trajectory]) -> dict[str, str]:
    """System message → its key (`R1`, ...), for the messages that several trajectories share, most shared first."""
    texts = Counter(
        message.content
        for one in trajectories
        for message in one.messages
        if message.role == "system" and message.content
    )
    shared = [text for text, times in texts.most_common(MOST_RULES) if times > 1]
    return {text: f"R{number}" for number, text in enumerate(shared, start=1)}


def compact(trajectory: Trajectory, settings: Compaction, rules: Mapping[str, str] | None = None) -> str:
    """One line a message or tool call, each with its message's index in brackets.

    Args:
        trajectory: what to show; its outcome is not shown.
        settings: where to cut.
        rules: system message → key, for those shown elsewhere.
    """
    lines = []
    for index, message in enumerate(trajectory.messages):
        lines += [f"[{index}] {line}" for line in _lines(message, settings, rules or {})]
    return "\n".join(lines)


def tool_lines(trajectories: Sequence[Trajectory]) -> list[str]:
    """The tools that any of the trajectories was offered, by name: arguments, and the start of the description."""
    found = {tool.name: tool for one in trajectories for tool in one.tools}
    return [_tool(found[name]) for name in sorted(found)]


def _tool(tool: ToolSpec) -> str:
    """`name(needed, optional?): description`, as far as the tool says."""
    declared, required = tool.input_schema.get("properties"), tool.input_schema.get("required")
    needed = required if isinstance(required, list) else []
    arguments = [name if name in needed else f"{name}?" for name in declared] if isinstance(declared, dict) else []
    called = f"{tool.name}({cut(', '.join(arguments), TOOL_CHARS)})"
    return f"{called}: {cut(tool.description, TOOL_CHARS)}" if tool.description else called


def cut(text: str, most: int) -> str:
    """`text` on one line, at most `most` characters of it, and how many were left out."""
    flat = " ".join(text.split())
    return flat if len(flat) <= most else f"{flat[:most]}… (+{len(flat) - most} characters)"


def _lines(message: Message, settings: Compaction, rules: Mapping[str, str]) -> list[str]:
    text = message.content or ""
    if message.role == "system" and text in rules:
        return [f"system: rules {rules[text]}"]
    if message.role == "tool":
        mark = " ERROR" if message.is_error else ""
        return [f"result{f' of {message.name}' if message.name else ''}{mark}: {cut(text, settings.result_chars)}"]
    said = [f"{message.role}: {cut(text, settings.message_chars)}"] if text.strip() else []
    called = [f"{message.role} calls {_call(call, settings)}" for call in message.tool_calls]
    return said + called or [f"{message.role}: (nothing)"]


def _call(call: ToolCall, settings: Compaction) -> str:
    if isinstance(call.arguments, str):
        return f"{call.name} with malformed arguments {cut(call.arguments, settings.argument_chars)}"
    given = [
        f"{name}={cut(json.dumps(value, ensure_ascii=False), settings.argument_chars)}"
        for name, value in call.arguments.items()
    ]
    return f"{call.name}({', '.join(given)})"
