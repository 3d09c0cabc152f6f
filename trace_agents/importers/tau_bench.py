"""`tau-bench`: result files of τ-bench, one JSON array with a row for each task and trial.

The rows also hold the task's instruction and gold actions; they are left out, so that no analysis sees them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trace_agents.importers.rows import SUCCESS, BadRow, chat_messages, need, whole_number
from trace_agents.types import StopReason, Trajectory


def looks_like(row: Mapping[str, Any]) -> bool:
    """Whether a row is of this format."""
    return "traj" in row and "task_id" in row


def read_row(row: Mapping[str, Any], index: int) -> Trajectory:
    """The trajectory of a row; a row whose run crashed (`info.error`) is an infrastructure failure."""
    task, trial = need(row, "task_id"), whole_number(row.get("trial", 0), "trial")
    info = row.get("info") or {}
    error = info.get("error") if isinstance(info, Mapping) else None
    reward = need(row, "reward")
    if isinstance(reward, bool) or not isinstance(reward, int | float):
        raise BadRow(f"the reward {reward!r} is no number")
    return Trajectory(
        id=f"{task}#{trial}",
        task_id=str(task),
        trial=trial,
        messages=chat_messages(need(row, "traj")),
        reward=None if error else float(reward),
        success=None if error else float(reward) >= SUCCESS,
        stop=StopReason.ERROR if error else None,
        error=str(error).splitlines()[0] if error else None,
    )
