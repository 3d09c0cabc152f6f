"""Running an agent's tool calls over MCP; a call that cannot be run is an error that the agent reads."""

from __future__ import annotations

from collections.abc import Sequence

from mcp.client import Client

from mcp_servers.server import tool_result
from trace_agents.calls import malformed_call
from trace_agents.types import Message, ToolCall, ToolResult


async def run_call(call: ToolCall, tools: Sequence[str], client: Client) -> ToolResult:
    """The result of a call, an error where it is malformed.

    Raises:
        InfrastructureError: the environment failed.
    """
    refused = malformed_call(call, tools)
    if refused is not None:
        return refused
    assert isinstance(call.arguments, dict)  # Else it was refused.
    return tool_result(await client.call_tool(call.name, call.arguments))


def answer(call: ToolCall, result: ToolResult) -> Message:
    """The message that carries a result back to the agent."""
    return Message(role="tool", content=result.content, tool_call_id=call.id, name=call.name, is_error=result.is_error)
