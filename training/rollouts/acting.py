"""Running an agent's tool calls over MCP; a call that cannot be run is an error that the agent reads."""

from __future__ import annotations

import json
from collections.abc import Sequence

from mcp.client import Client

from mcp_servers.server import tool_result
from trace_agents.types import Message, ToolCall, ToolResult


def malformed(call: ToolCall, tools: Sequence[str]) -> str | None:
    """Why `call` cannot be run with `tools` (names); None where it can."""
    if call.name in tools:
        return None if isinstance(call.arguments, dict) else f"arguments of tool {call.name!r} are not a JSON object"
    if call.name:
        return f"unknown tool {call.name!r}: use one of {', '.join(tools)}"
    return 'tool call is not JSON with "name" and "arguments"'


async def run_call(call: ToolCall, tools: Sequence[str], client: Client) -> ToolResult:
    """The result of a call, an error where it is malformed.

    Raises:
        InfrastructureError: the environment failed.
    """
    problem = malformed(call, tools)
    if problem is not None:
        return ToolResult(content=json.dumps({"error": problem}), is_error=True)
    return tool_result(await client.call_tool(call.name, dict(call.arguments)))


def answer(call: ToolCall, result: ToolResult) -> Message:
    """The message that carries a result back to the agent."""
    return Message(role="tool", content=result.content, tool_call_id=call.id, name=call.name, is_error=result.is_error)
