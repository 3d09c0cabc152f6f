"""The turn-taking of agents that need no model: their actions one by one, over MCP or on the contract itself."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from mcp_servers.memory import connect
from mcp_servers.server import tool_result, tool_spec
from trace_agents.agent import Play
from trace_agents.calls import malformed_call
from trace_agents.environment import Episode
from trace_agents.types import Action, Message, StopReason, ToolCall, ToolResult, ToolSpec

Actor = Callable[[Sequence[Message]], Action | None]
"""Messages so far → the next action, or None to stop. Made for one episode."""

SHOWN = 200
"""Characters of a result that is told."""

Call = Callable[[str, Mapping[str, Any]], Awaitable[ToolResult]]
"""Runs a tool by name."""


def scripted(actions: Iterable[Action]) -> Actor:
    """An actor that does `actions` in order, whatever it hears, and stops."""
    rest = iter(actions)
    return lambda messages: next(rest, None)


async def converse(episode: Episode, make: Callable[[Sequence[ToolSpec]], Actor], max_turns: int) -> Play:
    """Let an actor play `episode`, its tools over in-memory MCP.

    An episode in another process (`mcp_servers.remote`) plays the same way. The caller evaluates and closes it.

    Args:
        episode: fresh.
        make: the actor, from the tools that MCP lists.
        max_turns: most turns of the agent.

    Raises:
        InfrastructureError: the environment failed.
    """
    async with connect(episode) as client:

        async def call(name: str, arguments: Mapping[str, Any]) -> ToolResult:
            return tool_result(await client.call_tool(name, dict(arguments)))

        tools = [tool_spec(tool) for tool in (await client.list_tools()).tools]
        return await take_turns(episode, call, make(tools), max_turns)


async def take_turns(episode: Episode, call: Call, act: Actor, max_turns: int) -> Play:
    """Turns of `act` until it stops, the user ends the conversation, or the turns are used up.

    Args:
        episode: whose user answers.
        call: runs a tool; what the agent got wrong is an `is_error` result.
        act: chooses each turn's action; a tool call is one turn, a text to the user another.
        max_turns: most turns.
    """
    messages = [Message(role="user", content=episode.task.prompt)]
    for turn in range(max_turns):
        action = act(messages)
        if action is None:
            return Play(messages=tuple(messages), stop=StopReason.AGENT)
        if isinstance(action, ToolCall):
            made = action.model_copy(update={"id": f"call_{turn}"})
            result = await _result(call, made)
            messages += [Message(role="assistant", tool_calls=(made,)), _answer(made, result)]
            continue
        messages.append(Message(role="assistant", content=action))
        heard = await episode.user_turn(action)
        if heard.done:
            return Play(messages=tuple(messages), stop=StopReason.USER)
        messages.append(Message(role="user", content=heard.content))
    return Play(messages=tuple(messages), stop=StopReason.MAX_TURNS)


def gold_error(messages: Sequence[Message]) -> str:
    """Which gold action of those played was the first to be answered with an error, and how; empty for none."""
    results = {one.tool_call_id: one for one in messages if one.role == "tool" and one.is_error}
    done = [one for one in messages if one.role == "assistant"]
    for number, one in enumerate(done, 1):
        for call in one.tool_calls:
            if call.id in results:
                given = call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments)
                told = textwrap.shorten(results[call.id].content or "", SHOWN, placeholder="…")
                return f"gold action {number} of {len(done)}, {call.name}({given}), answered: {told}"
    return ""


async def _result(call: Call, made: ToolCall) -> ToolResult:
    """What the call returned; arguments that are no object cannot reach a tool."""
    if isinstance(made.arguments, str):
        return cast(ToolResult, malformed_call(made, [made.name]))
    return await call(made.name, made.arguments)


def _answer(call: ToolCall, result: ToolResult) -> Message:
    return Message(role="tool", content=result.content, tool_call_id=call.id, name=call.name, is_error=result.is_error)
