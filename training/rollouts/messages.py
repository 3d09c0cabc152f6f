"""Messages and tools between the project's vocabulary and verifiers'."""

from __future__ import annotations

import json

import verifiers.v1 as vf
from verifiers.v1.types import content_text

from trace_agents.types import Message, ToolCall, ToolSpec, canonical

_BESIDES = ("output_schema", "annotations", "title", "icons", "meta")
"""Fields of a tool that verifiers has no field for."""


def to_verifiers(message: Message) -> vf.Message:
    """The message as a trace node carries it; `is_error` is kept beside it, on the trace."""
    content = message.content or ""
    if message.role == "assistant":
        calls = [vf.ToolCall(id=call.id, name=call.name, arguments=_text(call)) for call in message.tool_calls]
        return vf.AssistantMessage(content=message.content, tool_calls=calls or None)
    if message.role == "tool":
        return vf.ToolMessage(tool_call_id=message.tool_call_id or "", content=content, name=message.name)
    return vf.UserMessage(content=content) if message.role == "user" else vf.SystemMessage(content=content)


def from_verifiers(message: vf.Message, failed: frozenset[str] = frozenset()) -> Message:
    """The message of a trace node; `failed` are ids of tool calls whose results were errors."""
    text = None if message.content is None else content_text(message.content)
    if isinstance(message, vf.AssistantMessage):
        calls = tuple(
            ToolCall(id=c.id, name=c.name, arguments=_arguments(c.arguments)) for c in message.tool_calls or ()
        )
        return Message(role="assistant", content=text, tool_calls=calls)
    if isinstance(message, vf.ToolMessage):
        call_id = message.tool_call_id
        return Message(role="tool", content=text, tool_call_id=call_id, name=message.name, is_error=call_id in failed)
    return Message(role=message.role, content=text)


def tool_to_verifiers(spec: ToolSpec) -> vf.Tool:
    """The tool as a trace records it; what verifiers has no field for travels as extra keys."""
    extra = {name: getattr(spec, name) for name in _BESIDES}
    return vf.Tool(
        name=spec.name,
        description=spec.description,
        parameters=canonical(spec.input_schema),
        **{key: value for key, value in extra.items() if value is not None},
    )


def tool_from_verifiers(tool: vf.Tool) -> ToolSpec:
    """The tool that a trace recorded."""
    extra = tool.model_extra or {}
    return ToolSpec(
        name=tool.name,
        description=tool.description,
        input_schema=tool.parameters,
        **{name: extra.get(name) for name in _BESIDES},
    )


def _text(call: ToolCall) -> str:
    return call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments)


def _arguments(text: str) -> dict | str:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return text
    return value if isinstance(value, dict) else text
