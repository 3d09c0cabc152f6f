"""Rows of a file, and the pieces that all formats share: OpenAI chat messages, tools, success."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

from trace_agents.errors import UsageError
from trace_agents.types import Message, Role, ToolCall, ToolSpec

SUCCESS = 1.0 - 1e-6
"""Least reward of a success, where a source gives rewards only."""


class BadRow(Exception):
    """A row that is not what its format says; the message is the reason."""


def rows_of(path: Path) -> Iterator[tuple[int, Mapping[str, Any] | None, str | None]]:
    """(number from 1, row, what is wrong) for each line, or for each entry of one JSON array.

    Raises:
        UsageError: no such file, or an array that is not JSON.
    """
    if not path.is_file():
        raise UsageError(f"missing file {str(path)!r}: give the path of a file of trajectories")
    with path.open(encoding="utf-8", errors="replace") as stream:
        start = _first_character(stream.read(4096))
        stream.seek(0)
        if start == "[":
            yield from _entries(path, stream.read())
            return
        for number, line in enumerate(stream, start=1):
            if line.strip():
                yield number, *_parsed(line)


def _first_character(text: str) -> str:
    return text.lstrip("\ufeff \t\r\n")[:1]


def _entries(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any] | None, str | None]]:
    try:
        entries = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{str(path)!r} begins like a JSON array and is none ({error}): mend the file") from error
    for number, entry in enumerate(entries, start=1):
        yield (number, entry, None) if isinstance(entry, dict) else (number, None, _no_object(entry))


def _parsed(line: str) -> tuple[Mapping[str, Any] | None, str | None]:
    try:
        row = json.loads(line)
    except ValueError as error:
        return None, f"not JSON: {error}"
    return (row, None) if isinstance(row, dict) else (None, _no_object(row))


def _no_object(value: Any) -> str:
    return f"a JSON object is wanted, not {type(value).__name__}"


def need(row: Mapping[str, Any], key: str) -> Any:
    """The value of `key`."""
    if key not in row:
        raise BadRow(f"no {key!r}")
    return row[key]


def chat_messages(entries: Any) -> tuple[Message, ...]:
    """OpenAI chat messages; tool results without a name get that of their call."""
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise BadRow("'messages' is not a list")
    names: dict[str, str] = {}
    found = []
    for index, entry in enumerate(entries):
        if not isinstance(entry, Mapping):
            raise BadRow(f"message {index} is not an object")
        message = _message(entry, index, names)
        names |= {call.id: call.name for call in message.tool_calls}
        found.append(message)
    return tuple(found)


def _message(entry: Mapping[str, Any], index: int, names: Mapping[str, str]) -> Message:
    role = str(entry.get("role"))
    role = {"developer": "system", "function": "tool"}.get(role, role)
    if role not in get_args(Role):
        raise BadRow(f"message {index} has the role {entry.get('role')!r}")
    identity = entry.get("tool_call_id")
    return Message(
        role=cast(Role, role),
        content=_text(entry.get("content")),
        tool_calls=tuple(_call(call, index) for call in entry.get("tool_calls") or ()),
        tool_call_id=identity,
        name=entry.get("name") or (names.get(identity) if role == "tool" and identity else None),
        is_error=bool(entry.get("is_error") or entry.get("status") == "error"),
    )


def _text(content: Any) -> str | None:
    """Text of a message: a string, or the text parts of a list."""
    if content is None or isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        parts = [part.get("text", "") if isinstance(part, Mapping) else str(part) for part in content]
        return "\n".join(part for part in parts if part)
    return json.dumps(content)


def _call(call: Any, index: int) -> ToolCall:
    if not isinstance(call, Mapping):
        raise BadRow(f"a tool call of message {index} is not an object")
    function = call.get("function") if isinstance(call.get("function"), Mapping) else call
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise BadRow(f"a tool call of message {index} has no name")
    return ToolCall(id=str(call.get("id") or ""), name=function["name"], arguments=_arguments(function))


def _arguments(function: Mapping[str, Any]) -> dict[str, Any] | str:
    """Arguments as an object; the text as it is where it is none."""
    raw = function.get("arguments", function.get("args", {}))
    if not isinstance(raw, str):
        return dict(raw) if isinstance(raw, Mapping) else json.dumps(raw)
    try:
        value = json.loads(raw or "{}")
    except ValueError:
        return raw
    return value if isinstance(value, dict) else raw


def tool_specs(entries: Any) -> tuple[ToolSpec, ...]:
    """Tools in OpenAI's form, in MCP's, or in this project's own."""
    found = []
    for entry in entries or ():
        body = entry.get("function") if isinstance(entry.get("function"), Mapping) else entry
        schema = next((body[key] for key in ("parameters", "inputSchema", "input_schema") if body.get(key)), None)
        spec = {"name": need(body, "name"), "description": body.get("description") or ""}
        found.append(
            ToolSpec(**spec, annotations=body.get("annotations"), **({"input_schema": schema} if schema else {}))
        )
    return tuple(found)


def outcome(row: Mapping[str, Any]) -> tuple[float | None, bool]:
    """(reward, success) of a row with `success`, or with `reward` alone, whose best value is 1."""
    reward = row.get("reward")
    if reward is not None and (isinstance(reward, bool) or not isinstance(reward, int | float)):
        raise BadRow(f"the reward {reward!r} is no number")
    if isinstance(success := row.get("success"), bool):
        return (None if reward is None else float(reward)), success
    if reward is None:
        raise BadRow("neither 'success' nor 'reward'")
    return float(reward), float(reward) >= SUCCESS


def whole_number(value: Any, key: str) -> int:
    """An integer value of `key`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadRow(f"{key!r} is {value!r}, not a whole number")
    return value
