"""Traces as trajectories: the light form that analysis, reports and statistics read."""

from __future__ import annotations

from collections.abc import Iterable

import verifiers.v1 as vf

from trace_agents.types import Record, StopReason, Trajectory
from training.rollouts.messages import from_verifiers, tool_from_verifiers

_STOPS = {
    "user": StopReason.USER,
    "agent_completed": StopReason.AGENT,
    "max_turns": StopReason.MAX_TURNS,
    "max_total_tokens": StopReason.MAX_TOKENS,
    "max_output_tokens": StopReason.MAX_TOKENS,
}


def trajectory_from_trace(trace: vf.Trace) -> Trajectory:
    """The trajectory of a trace, live or read back: the conversation on its last branch, without the policy.

    Reward and success are None where infrastructure failed.
    """
    data, info = trace.task.data, trace.info
    failed = frozenset(info.get("tool_errors", ()))
    messages = (from_verifiers(message, failed) for message in trace.messages)
    return Trajectory(
        id=trace.id,
        task_id=data.id or "",
        trial=info.get("trial", 0),
        environment=getattr(data, "environment", ""),
        agent=trace.agent.config.model or "",
        messages=tuple(message for message in messages if message.role != "system"),
        tools=tuple(tool_from_verifiers(tool) for tool in trace.tools),
        reward=trace.reward if trace.ok else None,
        success=bool(trace.metrics.get("success")) if trace.ok else None,
        stop=_STOPS.get(trace.stop_condition or "", StopReason.AGENT) if trace.ok else StopReason.ERROR,
        error=None if trace.ok else _error(trace),
        info=_facts(trace),
    )


def _error(trace: vf.Trace) -> str:
    last = trace.last_error
    return "the rollout did not end" if last is None else f"{last.type}: {last.message}".splitlines()[0]


def _facts(trace: vf.Trace) -> dict:
    return {
        "split": getattr(trace.task.data, "split", None),
        "seed": getattr(trace.task.data, "seed", None),
        "breakdown": {k.removeprefix("breakdown."): v for k, v in trace.metrics.items() if k.startswith("breakdown.")},
        "malformed_calls": trace.info.get("malformed_calls", 0),
        "failed_attempts": len(trace.errors),
        "sampled_tokens": trace.num_output_tokens,
        "branches": trace.num_branches,
    }


class RolloutCounts(Record):
    """What happened in a set of rollouts."""

    rollouts: int = 0
    failed: int = 0
    """Rollouts without a verdict: infrastructure failed in every attempt."""
    failed_attempts: int = 0
    """Attempts that infrastructure failed, of all rollouts."""
    truncated: int = 0
    """Rollouts ended by a limit on turns or tokens."""
    extra_branches: int = 0
    """Prompts that did not extend the tokens before them."""
    tool_calls: int = 0
    malformed_calls: int = 0
    """Tool calls that could not be run: no JSON object, or no such tool."""
    sampled_tokens: int = 0


def count_rollouts(traces: Iterable[vf.Trace]) -> RolloutCounts:
    """Add up what happened in `traces`."""
    counts = dict.fromkeys(RolloutCounts.model_fields, 0)
    for trace in traces:
        counts["rollouts"] += 1
        counts["failed"] += not trace.ok
        counts["failed_attempts"] += len(trace.errors)
        counts["truncated"] += trace.ok and trace.is_truncated
        counts["extra_branches"] += max(0, trace.num_branches - 1)
        counts["tool_calls"] += sum(len(message.tool_calls or ()) for message in trace.assistant_messages)
        counts["malformed_calls"] += trace.info.get("malformed_calls", 0)
        counts["sampled_tokens"] += trace.num_output_tokens
    return RolloutCounts(**counts)
