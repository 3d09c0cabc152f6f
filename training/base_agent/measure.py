"""Measuring a base agent at the desk: pass rates, well-formed calls, and how often it exercises each capability."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from mcp_servers.helpdesk import Helpdesk
from trace_agents.endpoint import Sampling
from trace_agents.types import TaskInstance
from training.base_agent.demonstrations import CONTROLS, PLANTED
from training.chat import load_chat_format
from training.engine import Engine
from training.rollouts import EpisodeTrace, RolloutConfig, collect, count_rollouts, trajectory_from_trace


def measure(model: Path, splits: Sequence[str] = ("train", "validation"), trials: int = 4) -> Iterator[dict]:
    """Rows of figures per split: greedy first, then at temperature 1 with `trials` rollouts of each task.

    The test split belongs to the final figure only.
    """
    engine, chat, desk = Engine.from_pretrained(model), load_chat_format(str(model)), Helpdesk()
    for temperature, count in ((0.0, 1), (1.0, trials)):
        for split in splits:
            tasks = desk.tasks(split)
            config = RolloutConfig(
                model=engine.name,
                trials=count,
                sampling=Sampling(temperature=temperature, max_tokens=96),
                max_turns=16,
                seed=0,
            )
            traces = asyncio.run(collect(desk, tasks, engine, chat, config))
            yield {"split": split, "temperature": temperature, **figures(desk, tasks, traces)}


def figures(desk: Helpdesk, tasks: Sequence[TaskInstance], traces: Sequence[EpisodeTrace]) -> dict:
    """Pass rate, by need and by number of planted needs; share of well-formed calls; rates of exercise."""
    by_id = {task.id: task for task in tasks}
    passed: dict[str, list[bool]] = defaultdict(list)
    exercised: dict[str, list[bool]] = defaultdict(list)
    for trace in traces:
        trajectory = trajectory_from_trace(trace)
        task = by_id[trajectory.task_id]
        planted = [need for need in task.capabilities if need in PLANTED]
        keys = ["all", f"planted needs: {len(planted)}"]
        keys += [need for need in task.capabilities if need in CONTROLS and not planted]
        for key in keys:
            passed[key].append(bool(trajectory.success))
        for need, done in desk.exercised(task, trajectory.messages).items():
            exercised[need].append(done)
    counts = count_rollouts(traces)
    return {
        "rollouts": len(traces),
        "passed": _shares(passed),
        "exercised": _shares(exercised),
        "well_formed_calls": round(1 - counts.malformed_calls / max(1, counts.tool_calls), 4),
    }


def _shares(groups: dict[str, list[bool]]) -> dict[str, float]:
    return {key: round(sum(values) / len(values), 3) for key, values in sorted(groups.items())}
