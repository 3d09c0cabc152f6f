"""`adp`, the newer layout: Harbor's Agent Trajectory Interchange Format (ATIF v1.0 to v1.8), which the Agent Data
Protocol took over, as JSON lines, an array, one file for each trajectory, or Harbor's folders of trials.

A trajectory is `{schema_version, session_id, trajectory_id, agent, steps, final_metrics, extra}`. A step has a `source`
(`system`, `user` or `agent`) and a `message` (text or parts); the agent's also `tool_calls` (`tool_call_id`,
`function_name`, `arguments`), and any an `observation` whose `results` name the call that they answer
(`source_call_id`). A result of no call answers the step's calls in order; where the step made none, it is what the
agent reads next: a user message. `agent` has the tools (`tool_definitions`) and the model.

`reasoning_content` is left out, and so are trajectories of subagents: a reference to one becomes `[subagent NAME]`.

ATIF has no verdict. In a trial of Harbor it is `result.json`'s; elsewhere success is `success` or `resolved`, the
reward `reward` or `score`, of the trajectory's `extra` (in ADP's files `extra.adp_details`) or of
`final_metrics.extra`. The task is the trial's `task_name`, or `task_id` beside the verdict, else the trajectory's id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trace_agents.importers import harbor
from trace_agents.importers.rows import BadRow, Reading, listing, mapping, need, text_of
from trace_agents.types import StopReason, Trajectory

SCHEMA = "ATIF-v1."
"""How `schema_version` begins in all that can be read."""

_ROLES = {"system": "system", "user": "user", "agent": "assistant"}


def looks_like(row: Mapping[str, Any]) -> bool:
    """Whether a row is of this layout."""
    if text_of(row.get("schema_version")).startswith("ATIF"):
        return True
    steps = row.get("steps")
    first = mapping(steps[0]) if isinstance(steps, list) and steps else {}
    return "step_id" in first and "source" in first


def read_row(row: Mapping[str, Any], reading: Reading) -> Trajectory:
    """The trajectory of a row, with the result of its trial as context where Harbor wrote it."""
    version = row.get("schema_version", SCHEMA)
    if not text_of(version).startswith(SCHEMA):
        raise BadRow(f"'schema_version' is {version!r}, only {SCHEMA + 'x'!r} can be read")
    trial, agent, told = mapping(reading.row.context.get("trial")), mapping(row.get("agent")), _told(row)
    names = (trial.get("trial_name"), row.get("trajectory_id"), row.get("session_id"))
    name = next(filter(None, map(text_of, names)), f"{reading.row.file.stem}-{reading.row.number}")
    task = text_of(trial.get("task_name")) or text_of(told.get("task_id")) or name
    messages = reading.chat(list(_entries(listing(need(row, "steps"), "steps"))), "steps")
    reward, success, error = _outcome(row, told, reading)
    return Trajectory(
        id=name,
        task_id=task,
        trial=reading.trial(task),
        environment=text_of(trial.get("source")) or text_of(mapping(row.get("extra")).get("source_dataset")),
        agent=text_of(agent.get("model_name")) or text_of(agent.get("name")),
        messages=messages,
        tools=reading.tools(agent.get("tool_definitions")),
        reward=reward,
        success=success,
        stop=StopReason.ERROR if error else None,
        error=error,
    )


def _told(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is said of the whole trajectory, the Agent Data Protocol's word first."""
    extra = mapping(row.get("extra"))
    return {**mapping(mapping(row.get("final_metrics")).get("extra")), **extra, **mapping(extra.get("adp_details"))}


def _outcome(
    row: Mapping[str, Any], told: Mapping[str, Any], reading: Reading
) -> tuple[float | None, bool | None, str | None]:
    """(reward, success, infrastructure failure)."""
    trial = reading.row.context.get("trial")
    if isinstance(trial, Mapping):
        return harbor.outcome(row, trial, reading)
    reward = next((told[key] for key in ("reward", "score") if told.get(key) is not None), None)
    success = next((told[key] for key in ("success", "resolved") if isinstance(told.get(key), bool)), None)
    return *reading.outcomes.decide(row, reward=reward, success=success), None


def _entries(steps: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """Chat messages: what a step says, and after it what its observation holds."""
    for number, step in enumerate(steps, start=1):
        source = mapping(step).get("source")
        if not isinstance(source, str) or source not in _ROLES:
            options = ", ".join(repr(one) for one in _ROLES)
            raise BadRow(f"step {number} has the source {source!r}, which is none of {options}")
        results = listing(mapping(step.get("observation")).get("results"), f"observation.results of step {number}")
        calls = [_call(call, number) for call in listing(step.get("tool_calls"), f"tool_calls of step {number}")]
        if step.get("message") or calls or not results:
            content = step.get("message") or (None if calls else "")
            yield {"role": _ROLES[source], "content": content, "tool_calls": calls}
        for result in map(mapping, results):
            yield _result(result, called=bool(calls))


def _call(call: Any, number: int) -> dict[str, Any]:
    if not isinstance(call, Mapping) or not isinstance(call.get("function_name"), str):
        raise BadRow(f"a tool call of step {number} has no 'function_name'")
    return {"id": call.get("tool_call_id"), "name": call["function_name"], "arguments": call.get("arguments")}


def _result(result: Mapping[str, Any], called: bool) -> dict[str, Any]:
    identity, extra = result.get("source_call_id"), mapping(result.get("extra"))
    failed = any(extra.get(key) is True for key in ("is_error", "isError", "tool_result_is_error"))
    content = result.get("content")
    if not content:
        refs = result.get("subagent_trajectory_ref")
        named = [mapping(ref) for ref in refs] if isinstance(refs, list) else []
        places = [text_of(ref.get("trajectory_id")) or text_of(ref.get("trajectory_path")) for ref in named]
        content = "\n".join(f"[subagent {place}]" for place in places) or ""
    role = "tool" if identity or called else "user"
    return {"role": role, "content": content, "tool_call_id": identity, "is_error": failed}
