"""`messages`: JSON lines of `{task_id, trial, success or reward, messages, tools}` with OpenAI chat messages.

`id`, `agent`, `environment`, `stop` and `error` (an infrastructure failure) are read where they are there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trace_agents.importers.rows import chat_messages, need, outcome, tool_specs, whole_number
from trace_agents.types import StopReason, Trajectory


def looks_like(row: Mapping[str, Any]) -> bool:
    """Whether a row is of this format."""
    return "messages" in row


def read_row(row: Mapping[str, Any], index: int) -> Trajectory:
    """The trajectory of a row."""
    task, trial = need(row, "task_id"), whole_number(row.get("trial") or 0, "trial")
    error = row.get("error") or None
    reward, success = (None, None) if error else outcome(row)
    stop = row.get("stop")
    return Trajectory(
        id=str(row.get("id") or f"{task}#{trial}"),
        task_id=str(task),
        trial=trial,
        environment=str(row.get("environment") or ""),
        agent=str(row.get("agent") or row.get("model") or ""),
        messages=chat_messages(need(row, "messages")),
        tools=tool_specs(row.get("tools")),
        reward=reward,
        success=success,
        stop=StopReason.ERROR if error else StopReason(stop) if stop in set(StopReason) else None,
        error=None if error is None else str(error).splitlines()[0],
    )
