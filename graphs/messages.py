"""Messages and tools between the project's vocabulary and LangChain's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.tool import invalid_tool_call, tool_call
from langchain_core.tools import BaseTool

from trace_agents.errors import UsageError
from trace_agents.types import Message, ToolCall, ToolSpec


def to_message(message: BaseMessage) -> Message:
    """LangChain's message in the vocabulary; only its text is kept.

    Raises:
        UsageError: a kind of message that a trajectory has no place for.
    """
    text = str(message.text)
    if isinstance(message, SystemMessage):
        return Message(role="system", content=text)
    if isinstance(message, HumanMessage):
        return Message(role="user", content=text)
    if isinstance(message, AIMessage):
        return Message(role="assistant", content=text or None, tool_calls=calls_of(message))
    if isinstance(message, ToolMessage):
        failed = message.status == "error"
        return Message(role="tool", content=text, tool_call_id=message.tool_call_id, name=message.name, is_error=failed)
    raise UsageError(f"message of type {type(message).__name__!r} is none of system, human, AI and tool messages")


def from_message(message: Message) -> AnyMessage:
    """A message of the vocabulary as LangChain's."""
    text = message.content or ""
    if message.role == "system":
        return SystemMessage(text)
    if message.role == "user":
        return HumanMessage(text)
    if message.role == "assistant":
        return ai_message(message)
    status = "error" if message.is_error else "success"
    return ToolMessage(text, tool_call_id=message.tool_call_id or "", name=message.name, status=status)


def ai_message(message: Message, **fields: Any) -> AIMessage:
    """An assistant message as LangChain's; calls whose arguments are no JSON object are its `invalid_tool_calls`."""
    well = [
        tool_call(name=call.name, args=call.arguments, id=call.id)
        for call in message.tool_calls
        if isinstance(call.arguments, dict)
    ]
    ill = [
        invalid_tool_call(name=call.name, args=call.arguments, id=call.id, error="the arguments are no JSON object")
        for call in message.tool_calls
        if isinstance(call.arguments, str)
    ]
    return AIMessage(
        message.content or "",
        tool_calls=well,
        invalid_tool_calls=ill,
        # LangChain keeps the two kinds apart; the order among them is the order of execution.
        additional_kwargs={"call_order": [call.id for call in message.tool_calls]} if ill else {},
        **fields,
    )


def calls_of(message: AIMessage) -> tuple[ToolCall, ...]:
    """The message's calls, malformed ones among them, in the order in which the model made them."""
    well = [ToolCall(id=call["id"] or "", name=call["name"], arguments=call["args"]) for call in message.tool_calls]
    ill = [
        ToolCall(id=call["id"] or "", name=call["name"] or "", arguments=call["args"] or "")
        for call in message.invalid_tool_calls
    ]
    order = message.additional_kwargs.get("call_order", [])
    return tuple(sorted(well + ill, key=lambda call: order.index(call.id) if call.id in order else len(order)))


def spec_of(tool: BaseTool | dict[str, Any]) -> ToolSpec:
    """A LangChain tool, or one in OpenAI's form, in the vocabulary; a JSON schema is passed on as it is."""
    if isinstance(tool, dict):
        function = tool.get("function", tool)
        schema = function.get("parameters") or {"type": "object", "properties": {}}
        return ToolSpec(name=function["name"], description=function.get("description", ""), input_schema=schema)
    declared: Any = tool.args_schema if isinstance(tool.args_schema, dict) else tool.tool_call_schema
    if not isinstance(declared, dict):
        declared = declared.model_json_schema()
    return ToolSpec(name=tool.name, description=tool.description, input_schema=declared)


def parse_arguments(text: str) -> dict[str, Any] | str:
    """A call's arguments from JSON text; the text itself where it is no JSON object."""
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return text
    return value if isinstance(value, dict) else text


def conversation(messages: Sequence[BaseMessage]) -> tuple[Message, ...]:
    """A whole conversation in the vocabulary, for `Episode.evaluate` and for trajectories."""
    return tuple(to_message(message) for message in messages)
