"""`verifiers`: JSON lines of verifiers' traces (schema version 1), read without verifiers.

A trace is a graph of messages; the trajectory is its last branch. Success is the metric `success` where the trace
has one, else a reward of 1. A trace that is not `ok` is an infrastructure failure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trace_agents.importers.rows import SUCCESS, BadRow, chat_messages, need, tool_specs, whole_number
from trace_agents.types import StopReason, Trajectory

VERSION = 1
"""Schema version of the traces that can be read."""

_STOPS = {
    "user": StopReason.USER,
    "max_turns": StopReason.MAX_TURNS,
    "max_total_tokens": StopReason.MAX_TOKENS,
    "max_input_tokens": StopReason.MAX_TOKENS,
    "max_output_tokens": StopReason.MAX_TOKENS,
}


def looks_like(row: Mapping[str, Any]) -> bool:
    """Whether a row is of this format."""
    return "nodes" in row and "rewards" in row


def read_row(row: Mapping[str, Any], index: int) -> Trajectory:
    """The trajectory of a trace."""
    if row.get("version", VERSION) != VERSION:
        raise BadRow(f"trace version {row['version']!r}, only {VERSION} can be read")
    task = need(row, "task")
    data, info = task.get("data") or {}, row.get("info") or {}
    name = str(data.get("id") or data.get("name") or task.get("key") or data.get("idx") or index)
    trial = whole_number(info.get("trial", 0), "info.trial")
    ok = bool(row.get("ok"))
    reward = _reward(need(row, "rewards"))
    agent = (row.get("agent") or {}).get("config") or {}
    return Trajectory(
        id=str(row.get("id") or f"{name}#{trial}"),
        task_id=name,
        trial=trial,
        environment=str(data.get("environment") or ""),
        agent=str(agent.get("model") or ""),
        messages=chat_messages(_branch(need(row, "nodes"), frozenset(info.get("tool_errors") or ()))),
        tools=tool_specs(row.get("tools")),
        reward=reward if ok else None,
        success=_success(row, reward) if ok else None,
        stop=_STOPS.get(row.get("stop_condition") or "", StopReason.AGENT) if ok else StopReason.ERROR,
        error=None if ok else _error(row.get("errors") or ()),
    )


def _branch(nodes: Sequence[Mapping[str, Any]], failed: frozenset[str]) -> list[dict[str, Any]]:
    """Messages from the root to the last leaf; those that answer a call in `failed` are errors."""
    parents = {node.get("parent") for node in nodes}
    leaves = [index for index in range(len(nodes)) if index not in parents]
    path: list[dict[str, Any]] = []
    at = leaves[-1] if leaves else None
    while at is not None:
        if len(path) > len(nodes) or not 0 <= at < len(nodes):
            raise BadRow("the message graph has no root")
        message = dict(need(nodes[at], "message"))
        message["is_error"] = message.get("tool_call_id") in failed
        path.append(message)
        at = nodes[at].get("parent")
    return path[::-1]


def _reward(rewards: Mapping[str, Any]) -> float:
    """Weighted sum of the rewards that were scored."""
    scored = [reward for reward in rewards.values() if reward is not None]
    return sum(float(reward["score"]) * float(reward.get("weight", 1.0)) for reward in scored)


def _success(row: Mapping[str, Any], reward: float) -> bool:
    metric = (row.get("metrics") or {}).get("success")
    return reward >= SUCCESS if metric is None else bool(metric)


def _error(errors: Sequence[Mapping[str, Any]]) -> str:
    if not errors:
        return "the rollout did not end"
    return f"{errors[-1].get('type')}: {errors[-1].get('message')}".splitlines()[0]
