"""`tau-bench`: result files of τ-bench (sierra-research/tau-bench), one JSON array, a row for each task and trial.

A row is `{task_id, trial, reward, info, traj}`; `traj` holds OpenAI chat messages, the system prompt first. The
reward is 1 or 0. A run that crashed has `info.error` and an empty `traj`: an infrastructure failure. `info` also holds
the task's instruction and gold actions; they are left out, so that no analysis sees them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trace_agents.importers.rows import Reading, label, mapping, need, one_line
from trace_agents.types import StopReason, Trajectory


def looks_like(row: Mapping[str, Any]) -> bool:
    """Whether a row is of this format."""
    return "traj" in row and "task_id" in row


def read_row(row: Mapping[str, Any], reading: Reading) -> Trajectory:
    """The trajectory of a row."""
    task = label(need(row, "task_id"), "task_id")
    error = mapping(row.get("info")).get("error")
    messages = reading.chat(need(row, "traj"), "traj")
    reward, success = (None, None) if error else reading.outcomes.decide(row, reward=row.get("reward"))
    trial = reading.trial(task, row.get("trial"))
    return Trajectory(
        id=f"{task}#{trial}",
        task_id=task,
        trial=trial,
        messages=messages,
        reward=reward,
        success=success,
        stop=StopReason.ERROR if error else None,
        error=one_line(error) if error else None,
    )
