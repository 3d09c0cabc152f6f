"""Chat messages and tools as the field writes them, made into this project's.

Messages: OpenAI chat messages, the legacy `function_call` and the role `function`, items of the Responses API
(`function_call`, `function_call_output`, `message`, `reasoning`), and Anthropic's `tool_use` and `tool_result` parts.
Text parts are joined; a part that is no text stays as a placeholder, `[image]`; reasoning is left out. A tool result
that does not name its call answers the oldest call of its name that has no answer yet.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any, cast, get_args

from trace_agents.types import Message, Role, ToolCall, ToolSpec

DEEPEST = 100
"""Objects and lists in one another, in a call's arguments, that are kept as such."""


class BadRow(Exception):
    """A row that is not what its format says; the message is the reason."""


def need(row: Mapping[str, Any], key: str) -> Any:
    """The value of `key`."""
    if key not in row:
        raise BadRow(f"no {key!r}")
    return row[key]


_ROLES = frozenset(get_args(Role))
_OTHER_ROLES = {"developer": "system", "function": "tool", "model": "assistant"}
_TEXT_PARTS = frozenset({"text", "input_text", "output_text", "summary_text"})
_HIDDEN_PARTS = frozenset({"thinking", "redacted_thinking", "reasoning", "reasoning_content"})
_PLACEHOLDERS = {"image_url": "image", "input_image": "image", "input_audio": "audio", "input_file": "file"}


def chat_messages(entries: Any, key: str = "messages") -> tuple[Message, ...]:
    """The messages of a list of entries.

    Raises:
        BadRow: what is wrong with which message, counted from 0.
    """
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise BadRow(f"{key!r} is not a list")
    chat = _Chat()
    for index, entry in enumerate(entries):
        if not isinstance(entry, Mapping):
            raise BadRow(f"message {index} is not an object")
        chat.add(entry, index)
    return tuple(chat.messages)


class _Chat:
    """A conversation under way: its messages, and the calls that wait for their results."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._names: dict[str, str] = {}
        """Identity of a call → its tool."""
        self._open: dict[str, str] = {}
        """Of the calls without an answer: identity → tool."""
        self._given: dict[str, list[str]] = {}
        """Identity as the source gives it → those of the calls that bear it; some number anew in each message."""

    def add(self, entry: Mapping[str, Any], index: int) -> None:
        kind = entry.get("type")
        if kind == "reasoning":
            return
        if kind == "function_call" or kind == "function_call_output":
            self._add_item(entry, index)
            return
        role = entry.get("role")
        role = _OTHER_ROLES.get(role, role) if isinstance(role, str) else role
        if role not in _ROLES if isinstance(role, str) else True:
            raise BadRow(f"message {index} has the role {entry.get('role')!r}")
        content, calls, results = _content(entry.get("content"), index)
        if role == "tool":
            self._result(entry.get("tool_call_id"), entry.get("name"), content, _failed(entry))
            return
        named = _calls(entry, index)
        known = {call.id for call in named} - {""}
        calls = named + [call for call in calls if call.id not in known]
        for result in results:
            text, _, _ = _content(result.get("content"), index)
            self._result(result.get("tool_use_id"), None, text, _failed(result))
        if content is None and not calls and results:
            return
        name = entry.get("name")
        self._say(cast(Role, role), content, calls, name if isinstance(name, str) else None)

    def _say(self, role: Role, content: str | None, calls: list[ToolCall], name: str | None = None) -> None:
        for call in calls:
            for earlier in self._given.get(call.id, ()) if call.id else ():
                self._open.pop(earlier, None)
        made = tuple(self._opened(call) for call in calls)
        self.messages.append(Message(role=role, content=content, tool_calls=made, name=name))

    def _opened(self, call: ToolCall) -> ToolCall:
        """The call, with an identity of its own where it has none or a repeated one, noted as waiting."""
        given = call.id
        if not given or given in self._names:
            stem, first = (f"{given}.", len(self._given.get(given, ())) + 1) if given else ("call-", len(self._names))
            names = (f"{stem}{number}" for number in itertools.count(first))
            call = call.model_copy(update={"id": next(name for name in names if name not in self._names)})
        self._given.setdefault(given, []).append(call.id)
        self._names[call.id] = self._open[call.id] = call.name
        return call

    def _result(self, identity: Any, name: Any, content: str | None, is_error: bool) -> None:
        name = name if isinstance(name, str) and name else None
        if identity is None or identity == "":
            identity = next((one for one, called in self._open.items() if name in (None, called)), None)
        else:
            bearers = self._given.get(str(identity), [str(identity)])
            identity = next((one for one in bearers if one in self._open), bearers[-1])
        if identity is not None:
            self._open.pop(identity, None)
            name = name or self._names.get(identity)
        self.messages.append(Message(role="tool", content=content, tool_call_id=identity, name=name, is_error=is_error))

    def _add_item(self, entry: Mapping[str, Any], index: int) -> None:
        """A call of the Responses API joins the message that it was sampled with; its output is a tool message."""
        identity = entry.get("call_id") or entry.get("id")
        if entry["type"] == "function_call_output":
            text, _, _ = _content(entry.get("output"), index)
            self._result(identity, entry.get("name"), text, _failed(entry))
            return
        call = self._opened(_call({**entry, "id": identity}, index))
        if self.messages and self.messages[-1].role == "assistant":
            last = self.messages.pop()
            self.messages.append(last.model_copy(update={"tool_calls": (*last.tool_calls, call)}))
        else:
            self.messages.append(Message(role="assistant", tool_calls=(call,)))


def _failed(entry: Mapping[str, Any]) -> bool:
    return entry.get("is_error") is True or entry.get("error") is True or entry.get("status") == "error"


def _content(content: Any, index: int) -> tuple[str | None, list[ToolCall], list[Mapping[str, Any]]]:
    """(text, calls, results) of a message's content: text, or parts."""
    if content is None or isinstance(content, str):
        return content, [], []
    if not isinstance(content, Sequence):
        return json.dumps(content), [], []
    texts: list[str] = []
    calls: list[ToolCall] = []
    results: list[Mapping[str, Any]] = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "tool_use":
            calls.append(_call({**part, "arguments": part.get("input")}, index))
        elif kind == "tool_result":
            results.append(part)
        elif text := _part(part, kind):
            texts.append(text)
    return "\n".join(texts) if texts or not (calls or results) else None, calls, results


def _part(part: Any, kind: Any) -> str:
    if not isinstance(part, Mapping):
        return part if isinstance(part, str) else json.dumps(part)
    if kind in _TEXT_PARTS or (kind is None and "text" in part):
        text = part.get("text")
        return text if isinstance(text, str) else ""
    if not isinstance(kind, str):
        return json.dumps(part)
    if kind in _HIDDEN_PARTS or kind == "function_call":
        return ""
    if kind == "refusal":
        return str(part.get("refusal") or "")
    return f"[{_PLACEHOLDERS.get(kind, kind)}]"


def _calls(entry: Mapping[str, Any], index: int) -> list[ToolCall]:
    made = entry.get("tool_calls") or ()
    if not isinstance(made, list | tuple):
        raise BadRow(f"'tool_calls' of message {index} is not a list")
    legacy = entry.get("function_call")
    return [_call(call, index) for call in made] + ([_call(legacy, index)] if legacy else [])


def _call(call: Any, index: int) -> ToolCall:
    if isinstance(call, str):
        # Some writers keep each call as the text of its JSON.
        with contextlib.suppress(ValueError, RecursionError):
            call = json.loads(call)
    if not isinstance(call, Mapping):
        raise BadRow(f"a tool call of message {index} is not an object")
    function = call.get("function") if isinstance(call.get("function"), Mapping) else call
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise BadRow(f"a tool call of message {index} has no name")
    identity = call.get("id")
    identity = "" if identity is None else str(identity)
    return ToolCall(id=identity, name=function["name"], arguments=_arguments(function))


def _arguments(function: Mapping[str, Any]) -> dict[str, Any] | str:
    """Arguments as an object; the text as it is where it is none, or nested deeper than any tool's."""
    raw = function.get("arguments", function.get("args", {}))
    if raw is None:
        return {}
    if not isinstance(raw, str):
        return dict(raw) if isinstance(raw, Mapping) and _is_shallow(raw) else json.dumps(raw)
    try:
        value = json.loads(raw or "{}")
    except (ValueError, RecursionError):
        return raw
    return value if isinstance(value, dict) and _is_shallow(value) else raw


def _is_shallow(value: Any) -> bool:
    """Whether objects and lists are nested at most `DEEPEST` times: what is deeper cannot be written again."""
    level = [value]
    for _ in range(DEEPEST + 1):
        holders = [one for one in level if isinstance(one, Mapping | list)]
        if not holders:
            return True
        level = [inner for one in holders for inner in (one.values() if isinstance(one, Mapping) else one)]
    return False


def tool_specs(entries: Any) -> tuple[ToolSpec, ...]:
    """Tools in OpenAI's form, in MCP's, in Anthropic's, or in this project's own."""
    if not isinstance(entries, list | tuple):
        raise BadRow("'tools' is not a list")
    return tuple(_tool(entry, index) for index, entry in enumerate(entries))


def _tool(entry: Any, index: int) -> ToolSpec:
    body = entry.get("function") if isinstance(entry, Mapping) and isinstance(entry.get("function"), Mapping) else entry
    if not isinstance(body, Mapping):
        raise BadRow(f"tool {index} is not an object")
    name = body.get("name")
    if not isinstance(name, str):
        raise BadRow(f"tool {index} has no name")
    schema = next((body[key] for key in ("parameters", "inputSchema", "input_schema") if body.get(key)), None)
    if schema is not None and not isinstance(schema, Mapping):
        raise BadRow(f"the parameters of tool {name!r} are not an object")
    description, annotations = body.get("description"), body.get("annotations")
    spec = ToolSpec(
        name=name,
        description=description if isinstance(description, str) else "",
        annotations=dict(annotations) if isinstance(annotations, Mapping) else None,
    )
    return spec if schema is None else spec.model_copy(update={"input_schema": dict(schema)})
