"""Trajectories for the browser: read leniently from verifiers' traces, thinned to what a reader looks at."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trace_agents.files import read_lines

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Cap:
    """How much of a large run goes into the page."""

    trajectories: int = 600
    """Evidence is embedded beyond it too."""
    bytes: int = 4_000_000
    """Of all conversations together, as they stand in the page; evidence comes first."""
    message: int = 20_000
    """Of one message; the rest is cut off, and said so."""


@dataclass(frozen=True)
class Browsable:
    """What the page embeds."""

    conversations: tuple[dict[str, Any], ...]
    systems: tuple[str, ...]
    """Distinct system messages; conversations refer to them by index."""
    total: int
    """Trajectories on disk."""
    failures: int
    """Of them, without a verdict because infrastructure failed."""


def browse(paths: Sequence[Path], wanted: Sequence[str] = (), cap: Cap | None = None) -> Browsable:
    """The trajectories of JSON-lines files, those with an id in `wanted` (evidence) first, in its order.

    What does not fit is left out, least wanted first; the files share the room for the others.

    Raises:
        UsageError: a malformed line, with its number.
    """
    cap = cap or Cap()
    total = failures = 0
    evidence: dict[str, dict[str, Any]] = {identity: {} for identity in wanted}
    others: list[dict[str, Any]] = []
    for path in paths:
        room = cap.trajectories // len(paths)
        for _, row in read_lines(path):
            total += 1
            failures += _verdict(row) is None
            identity = str(row.get("id", ""))
            if identity in evidence:
                evidence[identity] = _conversation(row, cap)
            elif room > 0:
                others.append(_conversation(row, cap))
                room -= 1
    named = [conversation for conversation in evidence.values() if conversation]
    place = {conversation["id"]: place for place, conversation in enumerate((*named, *others))}
    fitting, systems = _fitting([*named, *_spread(others)], cap.bytes)
    fitting.sort(key=lambda conversation: place[conversation["id"]])
    return Browsable(tuple(fitting), systems, total, failures)


def _spread(conversations: Sequence[dict[str, Any]], parts: int = 8) -> Iterator[dict[str, Any]]:
    """Every eighth first, then the ones after these: what is cut off at the end is missing evenly."""
    for part in range(parts):
        yield from conversations[part::parts]


def _fitting(chosen: Sequence[dict[str, Any]], space: int) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """What fits into `space` bytes, and the distinct system messages, which conversations refer to by index."""
    systems: dict[str, int] = {}
    fitting = []
    for conversation in chosen:
        system = conversation["system"]
        new = "" if system is None or system in systems else system
        size = len(json.dumps([conversation["turns"], new], ensure_ascii=False).encode("utf-8", "replace"))
        if size > space:
            continue
        space -= size
        place = None if system is None else systems.setdefault(system, len(systems))
        fitting.append(conversation | {"system": place})
    return fitting, tuple(systems)


def _conversation(row: Row, cap: Cap) -> dict[str, Any]:
    info, data = _mapping(row.get("info")), _mapping(_mapping(row.get("task")).get("data"))
    messages = list(_messages(row))
    system = next((_text(message) for _, message in messages if message.get("role") == "system"), None)
    return {
        "id": str(row.get("id", "")),
        "task": str(_first(row, "task_id") or _first(info, "task_id") or _task_id(row, data)),
        "trial": next((one["trial"] for one in (row, info) if isinstance(one.get("trial"), int)), None),
        "env": str(_first(info, "environment") or _first(row, "environment") or _first(data, "environment") or ""),
        "agent": str(_first(info, "agent", "model", "arm") or _agent(row)),
        "stage": str(_first(info, "stage", "split") or _first(data, "split") or ""),
        "needs": list(_first(info, "capabilities") or _first(data, "capabilities") or ()),
        "ok": _verdict(row),
        "reward": _reward(row),
        "stop": str(_first(row, "stop", "stop_condition") or _first(info, "stop") or ""),
        "error": _error(row),
        "system": system,
        "turns": [
            _turn(at, message, cap, set(info.get("tool_errors") or ()))
            for at, message in messages
            if message.get("role") != "system"
        ],
    }


def _messages(row: Row) -> Iterator[tuple[int, Row]]:
    """(index, message) on the branch that the episode ended on, indexed as in `Trajectory.messages`.

    System messages of a trace do not count, because its trajectory has none.
    """
    if "nodes" not in row:
        yield from enumerate(row.get("messages") or ())
        return
    nodes = row["nodes"]
    path: list[Row] = []
    at: int | None = len(nodes) - 1 if nodes else None
    while at is not None and len(path) <= len(nodes):
        path.append(_mapping(nodes[at].get("message")))
        at = nodes[at].get("parent")
    index = -1
    for message in reversed(path):
        index += message.get("role") != "system"
        yield index, message


def _turn(at: int, message: Row, cap: Cap, failed_calls: Collection[str]) -> dict[str, Any]:
    turn: dict[str, Any] = {"at": at, "role": message.get("role", "")}
    text = _text(message)
    if len(text) > cap.message:
        text = f"{text[: cap.message]}\n… {len(text) - cap.message:,} more characters"
    if text:
        turn["text"] = text
    if message.get("reasoning_content"):
        turn["thought"] = str(message["reasoning_content"])[: cap.message]
    if calls := [_call(call) for call in message.get("tool_calls") or ()]:
        turn["calls"] = calls
    if message.get("name"):
        turn["name"] = message["name"]
    if message.get("is_error") or message.get("tool_call_id") in failed_calls:
        turn["error"] = True
    return turn


def _call(call: Row) -> dict[str, Any]:
    function = _mapping(call.get("function")) or call
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        # What does not parse is what the model wrote: it is shown as it is.
        with contextlib.suppress(ValueError):
            arguments = json.loads(arguments)
    return {"name": str(function.get("name", "")), "arguments": arguments}


def _text(message: Row) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(str(part.get("text", f"[{part.get('type', 'part')}]")) for part in content)
    return "" if content is None else str(content)


def _verdict(row: Row) -> bool | None:
    """Success; None where infrastructure failed."""
    info = _mapping(row.get("info"))
    if "nodes" in row and not row.get("ok", True):
        return None
    for source, key in ((row, "success"), (info, "success"), (_mapping(row.get("metrics")), "success")):
        if source.get(key) is not None:
            return bool(source[key])
    reward = None if _error(row) else _reward(row)
    return None if reward is None else reward >= 1.0


def _reward(row: Row) -> float | None:
    if isinstance(row.get("reward"), int | float):
        return round(float(row["reward"]), 4)
    parts = [part for part in _mapping(row.get("rewards")).values() if part is not None]
    values = [part["score"] * part.get("weight", 1.0) if isinstance(part, Mapping) else float(part) for part in parts]
    return round(sum(values), 4) if values else None


def _error(row: Row) -> str:
    errors = list(row.get("errors") or [])
    if row.get("error") or (errors and not row.get("ok")):
        found = row.get("error") or errors[-1]
        return str(found.get("message") or found.get("type")) if isinstance(found, Mapping) else str(found)
    return ""


def _task_id(row: Row, data: Row) -> str:
    return str(_first(data, "task_id", "id", "name") or _first(_mapping(row.get("task")), "key") or "")


def _agent(row: Row) -> str:
    if isinstance(row.get("agent"), str):
        return row["agent"]
    config = _mapping(_mapping(row.get("agent")).get("config"))
    models = [call.get("model") for call in row.get("calls") or () if call.get("model")]
    return str(config.get("model") or (models[-1] if models else ""))


def _first(source: Row, *keys: str) -> Any:
    return next((source[key] for key in keys if source.get(key) not in (None, "")), None)


def _mapping(value: Any) -> Row:
    return value if isinstance(value, Mapping) else {}
