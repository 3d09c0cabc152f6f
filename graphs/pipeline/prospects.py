"""What can be said of a target and an agent before a run spends anything on them, and why its rollouts were too few."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from graphs.pipeline.context import Run
from graphs.pipeline.families import families
from trace_agents.types import Trajectory
from training.base_agent import made_for

SHOWN = 3
"""Tools that a message names."""


def notes(run: Run) -> Iterator[str]:
    """What will end the run early, one line each.

    Raises:
        UsageError: a family that the configuration names is none, or another target's.
    """
    home = made_for(run.base)
    if home not in (None, run.target.name):
        yield f"{_stranger(run, home)}: {run.target.name!r} may need another [agent] model"
    if not families(run):
        yield (
            f"no generator family is known for {run.target.name!r}: the run will end after its analysis, unless "
            "[synthesis] families names one (synth_envs/README.md)"
        )


def why_too_few(run: Run, trajectories: Sequence[Trajectory]) -> str:
    """What to change where the analysis had too few trajectories of an outcome."""
    usable = [one for one in trajectories if one.success is not None]
    if usable and all(one.success for one in usable):
        return "the agent solves every train task: take harder ones, as nothing is lacking here"
    said = [f"raise [target] rollouts_per_task ({run.config.target.rollouts_per_task})"]
    if not any(one.success for one in usable):
        said = ["the agent never succeeds: set [agent] model to one that now and then does"]
    calls = [(call.name, one) for one in usable for message in one.messages for call in message.tool_calls]
    foreign = Counter(name for name, one in calls if name not in {tool.name for tool in one.tools})
    if foreign:
        listed = ", ".join(repr(name) for name, _ in foreign.most_common(SHOWN))
        target = run.target.name
        said.append(f"{foreign.total()} of its {len(calls)} tool calls were of tools that {target!r} lacks ({listed})")
    home = made_for(run.base)
    return "; ".join([*said, *([_stranger(run, home)] if home not in (None, run.target.name) else [])])


def _stranger(run: Run, home: str | None) -> str:
    return f"agent {run.base_model!r} was made for {home!r}, and may know no other tools"
