"""Messages as LangChain and its tracer serialise them, made into chat entries; read without LangChain.

A message is `{lc, type: "constructor", id: [..., "AIMessage"], kwargs}`, `{type: "ai", data}`, `{type: "ai", content,
...}`, OpenAI's `{role, content}`, a pair `[role, content]`, or text (the user's).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_ROLES = {
    "human": "user",
    "ai": "assistant",
    "system": "system",
    "tool": "tool",
    "function": "function",
    "humanmessage": "user",
    "aimessage": "assistant",
    "systemmessage": "system",
    "toolmessage": "tool",
    "functionmessage": "function",
}


def messages_in(holder: Any) -> list[Any]:
    """The messages of a run's inputs or outputs; LangChain's tracer wraps them in a list of batches."""
    if not isinstance(holder, Mapping):
        return []
    found = holder.get("messages", holder.get("input"))
    if isinstance(found, str):
        found = [found]
    if isinstance(found, list) and len(found) == 1 and isinstance(found[0], list) and not _is_pair(found[0]):
        found = found[0]
    if not isinstance(found, list):
        return []
    system = holder.get("system")
    return [{"role": "system", "content": system}, *found] if isinstance(system, str | list) and system else found


def answer_of(outputs: Any) -> list[Any]:
    """The message or items that an `llm` run gave."""
    if not isinstance(outputs, Mapping):
        return []
    generations = outputs.get("generations")
    while isinstance(generations, list) and generations:
        generations = generations[0]
    if isinstance(generations, Mapping):
        text = generations.get("text")
        return [generations.get("message") or {"role": "assistant", "content": text if isinstance(text, str) else None}]
    choices = outputs.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], Mapping):
        return [choices[0].get("message")]
    items = outputs.get("output")
    if isinstance(items, list):
        return items
    if isinstance(items, Mapping):
        return [items]
    return [outputs] if "role" in outputs and "content" in outputs else []


def chat_of(messages: Sequence[Any]) -> list[Any]:
    """Chat entries of serialised messages; what is none of the forms is left for the chat's reader to refuse."""
    return [_entry(message) for message in messages]


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value)


def _entry(message: Any) -> Any:
    if isinstance(message, str):
        return {"role": "user", "content": message}
    if _is_pair(message):
        return {"role": _ROLES.get(message[0], message[0]), "content": message[1]}
    if not isinstance(message, Mapping):
        return message
    fields, kind = message, message.get("type")
    if "lc" in message and isinstance(message.get("kwargs"), Mapping):
        fields, path = message["kwargs"], message.get("id")
        kind = path[-1] if isinstance(path, list) and path else fields.get("type")
    elif isinstance(message.get("data"), Mapping):
        fields = message["data"]
    name = str(kind).lower().removesuffix("chunk")
    role = _ROLES.get(name) or (fields.get("role") if "role" in fields else None)
    if role is None:
        return message
    extra = fields.get("additional_kwargs")
    calls, extra = _calls(fields), extra if isinstance(extra, Mapping) else {}
    raw = extra.get("tool_calls")
    provided = raw if not calls and isinstance(raw, list) else []
    legacy = extra.get("function_call") if not calls else None
    return {**fields, "type": None, "role": role, "tool_calls": [*calls, *provided], "function_call": legacy}


def _calls(fields: Mapping[str, Any]) -> list[Any]:
    """Calls, those whose arguments did not parse too."""
    found = [fields.get("tool_calls"), fields.get("invalid_tool_calls")]
    return [call for part in found if isinstance(part, list) for call in part]
