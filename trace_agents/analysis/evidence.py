"""Where to look: failures that lack a capability, each beside a success on the same task that exercises it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import zip_longest

from trace_agents.analysis.aggregate import Verdicts
from trace_agents.types import Label, Message, Record, Trajectory

EVIDENCE = 8
"""Evidence trajectories named for each capability, at most."""


class Evidence(Record):
    """A failed trajectory that lacks a capability, and where to look."""

    trajectory_id: str
    task_id: str
    trial: int
    step: int | None
    """Index of the deciding message."""
    excerpt: str
    """That message, short."""
    contrast_id: str | None = None
    """A successful trajectory of the same task that exercises the capability; None where there is none."""
    contrast_step: int | None = None
    contrast_excerpt: str = ""


def gather_evidence(
    trajectories: Sequence[Trajectory], name: str, verdicts: Verdicts, most: int = EVIDENCE
) -> list[Evidence]:
    """Failed trajectories labelled LACKING, one from each task in turn, tasks with a contrasting success first."""
    lacking: dict[str, list[Trajectory]] = {}
    exercised: dict[str, Trajectory] = {}
    for trajectory in trajectories:
        label = verdicts.label(name, trajectory.id)
        if label is Label.LACKING and not trajectory.success:
            lacking.setdefault(trajectory.task_id, []).append(trajectory)
        elif label is Label.PRESENT and trajectory.success:
            exercised.setdefault(trajectory.task_id, trajectory)
    tasks = sorted(lacking, key=lambda task: (task not in exercised, -len(lacking[task]), task))
    turns = zip_longest(*(lacking[task] for task in tasks))
    chosen = [trajectory for turn in turns for trajectory in turn if trajectory is not None][:most]
    return [_evidence(one, name, verdicts, exercised.get(one.task_id)) for one in chosen]


def _evidence(one: Trajectory, name: str, verdicts: Verdicts, other: Trajectory | None) -> Evidence:
    step = verdicts.get(name, one.id)[1]
    other_step = verdicts.get(name, other.id)[1] if other else None
    return Evidence(
        trajectory_id=one.id,
        task_id=one.task_id,
        trial=one.trial,
        step=step,
        excerpt=_excerpt(one.messages, step),
        contrast_id=other.id if other else None,
        contrast_step=other_step,
        contrast_excerpt=_excerpt(other.messages, other_step) if other else "",
    )


def _excerpt(messages: Sequence[Message], step: int | None, most: int = 200) -> str:
    if step is None or not 0 <= step < len(messages):
        return ""
    message = messages[step]
    calls = [f"{call.name}({json.dumps(call.arguments, ensure_ascii=False)})" for call in message.tool_calls]
    text = " ".join([*(message.content or "").split(), *calls])
    return text if len(text) <= most else text[: most - 1] + "…"
