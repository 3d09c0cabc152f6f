"""What an agent reads when its tool call cannot be run at all: one wording for training and for serving."""

from __future__ import annotations

import json
from collections.abc import Sequence

from trace_agents.types import ToolCall, ToolResult


def malformed_call(call: ToolCall, names: Sequence[str]) -> ToolResult | None:
    """The error result of a call that names no tool of `names` or whose arguments are no object; None if it can run."""
    if call.name in names and isinstance(call.arguments, dict):
        return None
    if call.name in names:
        problem = f"arguments of tool {call.name!r} are not a JSON object"
    elif call.name:
        problem = f"unknown tool {call.name!r}: use one of {', '.join(names)}"
    else:
        problem = 'tool call is not JSON with "name" and "arguments"'
    return ToolResult(content=json.dumps({"error": problem}), is_error=True)


def unknown_tool(name: str, names: Sequence[str]) -> ToolResult:
    """What a server that offers `names` answers a call of another tool."""
    known = ", ".join(map(repr, names)) or "none"
    return ToolResult(content=f"unknown tool {name!r}: use one of {known}", is_error=True)
