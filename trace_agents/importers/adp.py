"""`adp`: trajectories of the Agent Data Protocol (neulab/agent-data-protocol), JSON lines or an array, of its schema 1;
`trace_agents/importers/atif.py` reads the layout that it has since taken over from Harbor.

A trajectory is `{id, content, details}`; `content` is a list of items told apart by `class_`:

- `message_action`, what the agent says; `api_action` (`function`, `kwargs`) and `code_action` (`language`, `content`),
  tool calls; the `description` beside a call is its text. A code action is a call of a tool named for its language,
  with the argument `code`.
- `text_observation`, `image_observation`, `json_observation` (`source` is `user`, `agent` or `assistant`,
  `environment` or `system`) and `web_observation` (`url`, `axtree` or `html`). An observation with a `tool_call_id`,
  and one that is not the user's and follows a call, is the call's result; any other not of the agent is a user
  message, save `system` at the start.

`reasoning_content` is left out. The protocol has no verdict over a trajectory: success is `details.success` or
`details.resolved`, the reward `details.reward` or `details.score`, else the last `reward` of an item (1 is a success).
The task is `details.task_id`, else the `id`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from trace_agents.importers import atif
from trace_agents.importers.rows import BadRow, Reading, label, listing, mapping, need, text_of
from trace_agents.types import Trajectory

_SPEAKERS = {"user": "user", "agent": "assistant", "assistant": "assistant"}


def looks_like(row: Mapping[str, Any]) -> bool:
    """Whether a row is of this format, in either layout."""
    content = row.get("content")
    items = isinstance(content, list) and bool(content) and "class_" in mapping(content[0])
    return items or atif.looks_like(row)


def read_row(row: Mapping[str, Any], reading: Reading) -> Trajectory:
    """The trajectory of a row."""
    if "content" not in row and ("steps" in row or atif.looks_like(row)):
        return atif.read_row(row, reading)
    name, details = label(need(row, "id"), "id"), mapping(row.get("details"))
    items = [_item(item, index) for index, item in enumerate(listing(need(row, "content"), "content"))]
    messages = reading.chat(_entries(items), "content")
    task = text_of(details.get("task_id")) or name
    reward, success = reading.outcomes.decide(row, reward=_reward(details, items), success=_success(details))
    return Trajectory(
        id=name,
        task_id=task,
        trial=reading.trial(task),
        agent=text_of(details.get("model")),
        messages=messages,
        reward=reward,
        success=success,
    )


def _item(item: Any, index: int) -> Mapping[str, Any]:
    if not isinstance(item, Mapping):
        raise BadRow(f"item {index} of 'content' is not an object")
    if item.get("class_") not in _READERS:
        options = ", ".join(repr(name) for name in _READERS)
        raise BadRow(f"item {index} of 'content' has the class_ {item.get('class_')!r}, which is none of {options}")
    return item


def _reward(details: Mapping[str, Any], items: list[Mapping[str, Any]]) -> Any:
    told = next((details[key] for key in ("reward", "score") if details.get(key) is not None), None)
    return (
        told
        if told is not None
        else next((one["reward"] for one in items[::-1] if one.get("reward") is not None), None)
    )


def _success(details: Mapping[str, Any]) -> Any:
    return next((details[key] for key in ("success", "resolved") if isinstance(details.get(key), bool)), None)


def _entries(items: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Chat messages, one for each item."""
    entries: list[dict[str, Any]] = []
    waiting = False
    for item in items:
        entry = _READERS[item["class_"]](item)
        if entry["role"] == "observation":
            entry["role"] = _observer(item, waiting, first=not entries)
        waiting = bool(entry.get("tool_calls")) or (waiting and entry["role"] == "tool")
        entries.append(entry)
    return entries


def _observer(item: Mapping[str, Any], waiting: bool, first: bool) -> str:
    """Role of the message that an observation is."""
    source = text_of(item.get("source")) or "environment"
    if item.get("tool_call_id") or (waiting and source not in _SPEAKERS):
        return "tool"
    return "system" if first and source == "system" else _SPEAKERS.get(source, "user")


def _message(item: Mapping[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": item.get("content")}


def _api(item: Mapping[str, Any]) -> dict[str, Any]:
    return _call(item, item.get("function"), item.get("kwargs"))


def _code(item: Mapping[str, Any]) -> dict[str, Any]:
    return _call(item, text_of(item.get("language")) or "code", {"code": item.get("content")})


def _call(item: Mapping[str, Any], name: Any, arguments: Any) -> dict[str, Any]:
    call = {"id": item.get("tool_call_id"), "name": name, "arguments": arguments}
    return {"role": "assistant", "content": item.get("description") or None, "tool_calls": [call]}


def _text(item: Mapping[str, Any]) -> dict[str, Any]:
    return _observation(item, item.get("content"))


def _image(item: Mapping[str, Any]) -> dict[str, Any]:
    return _observation(item, "[image]")


def _json(item: Mapping[str, Any]) -> dict[str, Any]:
    return _observation(item, json.dumps(item.get("content")))


def _web(item: Mapping[str, Any]) -> dict[str, Any]:
    seen = [text_of(item.get("url")), text_of(item.get("axtree")) or text_of(item.get("html"))]
    return _observation(item, "\n".join(part for part in seen if part) or "[web page]")


def _observation(item: Mapping[str, Any], content: Any) -> dict[str, Any]:
    return {"role": "observation", "content": content, "tool_call_id": item.get("tool_call_id")}


_READERS = {
    "message_action": _message,
    "api_action": _api,
    "code_action": _code,
    "text_observation": _text,
    "image_observation": _image,
    "json_observation": _json,
    "web_observation": _web,
}
"""`class_` → the chat message of an item; the role `observation` is settled by what came before."""
