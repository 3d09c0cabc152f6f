"""`messages`: JSON lines of `{task_id, trial, success or reward, messages, tools}`, the format to convert to.

`messages` are OpenAI chat messages or items of the Responses API (`trace_agents/importers/chat.py` says what is read
of them), `tools` are OpenAI's, Anthropic's or MCP's declarations. `id`, `agent` (or `model`), `environment`, `stop`
(`user`, `agent`, `max_turns`, `max_tokens`) and `error` are read where they are there. Success is `success`; where
that is missing, a reward of 1. A row with an `error` is an infrastructure failure and needs neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trace_agents.importers.rows import Reading, Row, label, need, one_line, text_of
from trace_agents.importers.sources import rows_of
from trace_agents.types import StopReason, Trajectory

TRAJECTORIES = "trajectories.jsonl"
"""The agent's episodes in the folder of an evaluation (`trace-agents evaluate`)."""


def looks_like(row: Mapping[str, Any]) -> bool:
    """Whether a row is of this format."""
    return "messages" in row


def owns(folder: Path) -> bool:
    """Whether a folder is an evaluation's: the episodes of its floors are not the agent's."""
    return (folder / "question.json").is_file() and (folder / TRAJECTORIES).is_file()


def rows_in(folder: Path) -> Iterator[Row]:
    """The agent's episodes in an evaluation's folder."""
    return rows_of(folder / TRAJECTORIES)


def read_row(row: Mapping[str, Any], reading: Reading) -> Trajectory:
    """The trajectory of a row."""
    task = label(need(row, "task_id"), "task_id")
    error = row.get("error") or None
    messages, tools = reading.chat(need(row, "messages")), reading.tools(row.get("tools"))
    reward, success = (
        (None, None) if error else reading.outcomes.decide(row, reward=row.get("reward"), success=row.get("success"))
    )
    trial = reading.trial(task, row.get("trial"))
    stop = row.get("stop")
    stop = StopReason(stop) if isinstance(stop, str) and stop in set(StopReason) else None
    return Trajectory(
        id=text_of(row.get("id")) or f"{task}#{trial}",
        task_id=task,
        trial=trial,
        environment=text_of(row.get("environment")),
        agent=text_of(row.get("agent")) or text_of(row.get("model")),
        messages=messages,
        tools=tools,
        reward=reward,
        success=success,
        stop=StopReason.ERROR if error else stop,
        error=None if error is None else one_line(error),
    )
