"""`verifiers`: what verifiers (PrimeIntellect-ai/verifiers) writes, read without it.

`traces.jsonl` of its `v1` (schema version 1) has an episode a line, `{id, env, task, traces, ok, errors}`; a file of
bare traces, such as this project's `trajectories.jsonl`, is read too. A trace is a graph of messages, `nodes` with
their `parent`; the trajectory is the branch of its last leaf, left out a compaction that nothing went on from.
Fields that are null are not written. `rewards` are `{name: {score, weight}}`, the reward is their weighted sum.
Success is the metric `success` where the trace has one, else a reward of 1. A trace that is not `ok`, and an episode
without a trace, is an infrastructure failure. The traces of agents that are not trainable are no trajectories.

`results.jsonl` of the interface before has a rollout a line: `{example_id, prompt, completion, reward, error,
stop_condition, tool_defs, ...}`; `prompt` and `completion` are chat messages or text, each tool call the text of its
JSON.
Success is a reward of 1, a row with an `error` is an infrastructure failure, the task is `example_id`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trace_agents.importers.rows import (
    BadRow,
    Reading,
    label,
    listing,
    mapping,
    need,
    number,
    one_line,
    text_of,
)
from trace_agents.types import StopReason, Trajectory

VERSION = 1
"""Schema version of the traces that can be read."""

_STOPS = {
    "user": StopReason.USER,
    "max_turns": StopReason.MAX_TURNS,
    "max_turns_reached": StopReason.MAX_TURNS,
    "max_total_tokens": StopReason.MAX_TOKENS,
    "max_input_tokens": StopReason.MAX_TOKENS,
    "max_output_tokens": StopReason.MAX_TOKENS,
}


def looks_like(row: Mapping[str, Any]) -> bool:
    """Whether a row is of this format."""
    trace = "nodes" in row and "task" in row
    episode = "task" in row and "env" in row and "ok" in row
    return trace or episode or ("prompt" in row and "completion" in row)


def wanted(row: Mapping[str, Any]) -> bool:
    """Whether a row is a trajectory: traces of judges and other helpers are not."""
    return mapping(row.get("agent")).get("trainable") is not False


def read_row(row: Mapping[str, Any], reading: Reading) -> Trajectory:
    """The trajectory of a trace, of an episode without one, or of a rollout of old."""
    if "completion" in row and "nodes" not in row:
        return _read_rollout(row, reading)
    version = row.get("version", VERSION)
    if version != VERSION:
        raise BadRow(f"trace version {version!r}, only {VERSION} can be read")
    return _read_trace(row, reading)


def _read_trace(row: Mapping[str, Any], reading: Reading) -> Trajectory:
    task, info = mapping(need(row, "task")), mapping(row.get("info"))
    data = mapping(task.get("data"))
    identity = text_of(row.get("id"))
    known = (text_of(value) for value in (data.get("id"), data.get("name"), task.get("key"), data.get("idx")))
    name = next((one for one in known if one), identity)
    ok = row.get("ok") is True and "nodes" in row
    nodes = listing(row.get("nodes"), "nodes")
    failed_calls = frozenset(text_of(one) for one in listing(info.get("tool_errors"), "info.tool_errors"))
    messages = reading.chat(_branch(nodes, failed_calls))
    tools = reading.tools(row.get("tools") or (mapping(nodes[0]).get("tools") if nodes else None))
    reward, success = reading.outcomes.decide(row, _reward(row), _metric(row)) if ok else (None, None)
    trial = reading.trial(name, info.get("trial"))
    return Trajectory(
        id=identity or f"{name}#{trial}",
        task_id=name or str(reading.row.number),
        trial=trial,
        environment=text_of(data.get("environment")) or text_of(mapping(reading.row.context.get("env")).get("id")),
        agent=text_of(mapping(mapping(row.get("agent")).get("config")).get("model")),
        messages=messages,
        tools=tools,
        reward=reward,
        success=success,
        stop=_STOPS.get(text_of(row.get("stop_condition")), StopReason.AGENT) if ok else StopReason.ERROR,
        error=None if ok else _error(row.get("errors")),
    )


def _branch(nodes: Sequence[Any], failed: frozenset[str]) -> list[dict[str, Any]]:
    """Messages from the root to the last leaf; those that answer a call in `failed` are errors."""
    leaf = _leaf([mapping(node) for node in nodes])
    path: list[dict[str, Any]] = []
    while leaf is not None:
        if not isinstance(leaf, int) or isinstance(leaf, bool) or not 0 <= leaf < len(nodes) or len(path) >= len(nodes):
            raise BadRow("the message graph has no root")
        node = mapping(nodes[leaf])
        message = dict(mapping(need(node, "message")))
        message["is_error"] = text_of(message.get("tool_call_id")) in failed
        path.append(message)
        leaf = node.get("parent")
    return path[::-1]


def _leaf(nodes: Sequence[Mapping[str, Any]]) -> Any:
    """The last node without children that is no compaction's dead end; None without nodes."""
    links = [[mapping(link) for link in node.get("semantic_parents") or () if link] for node in nodes]
    accepted = {link.get("node") for found in links for link in found if link.get("type") == "compaction"}
    parents = {node.get("parent") for node in nodes if isinstance(node.get("parent"), int)}
    leaves = [index for index in range(len(nodes)) if index not in parents]
    dead = [
        index
        for index in leaves
        if index not in accepted and any(link.get("type") == "compaction_attempt" for link in links[index])
    ]
    if nodes and not leaves:
        raise BadRow("the message graph has no leaf")
    return next((index for index in reversed(leaves) if index not in dead), leaves[-1] if leaves else None)


def _reward(row: Mapping[str, Any]) -> float:
    """Weighted sum of the rewards that were scored."""
    total = 0.0
    for name, reward in mapping(need(row, "rewards")).items():
        if reward is not None:
            scored = mapping(reward)
            total += number(scored.get("score"), f"score of {name!r}") * number(scored.get("weight", 1.0), "weight")
    return total


def _metric(row: Mapping[str, Any]) -> bool | None:
    metric = mapping(row.get("metrics")).get("success")
    return None if metric is None else number(metric, "metric 'success'") > 0


def _error(errors: Any) -> str:
    last = next((mapping(error) for error in reversed(listing(errors, "errors"))), {})
    return one_line(f"{last.get('type')}: {last.get('message')}") if last else "the rollout did not end"


def _read_rollout(row: Mapping[str, Any], reading: Reading) -> Trajectory:
    error = row.get("error") or None
    given = row.get("example_id", row.get("id"))
    name = label(given if given is not None else reading.row.number, "example_id")
    entries = [*_chat(row.get("prompt"), "user"), *_chat(row.get("completion"), "assistant")]
    messages, tools = reading.chat(entries, "prompt and completion"), reading.tools(row.get("tool_defs"))
    reward, success = (None, None) if error else reading.outcomes.decide(row, reward=row.get("reward"))
    trial = reading.trial(name)
    stop = _STOPS.get(text_of(row.get("stop_condition")), StopReason.AGENT)
    return Trajectory(
        id=f"{name}#{trial}",
        task_id=name,
        trial=trial,
        environment=text_of(row.get("task")),
        messages=messages,
        tools=tools,
        reward=reward,
        success=success,
        stop=StopReason.ERROR if error else stop,
        error=None if error is None else one_line(mapping(error).get("error_chain_repr") or error),
    )


def _chat(value: Any, role: str) -> Sequence[Any]:
    """Chat messages, or one message of text."""
    return [{"role": role, "content": value}] if isinstance(value, str) else listing(value, role)
