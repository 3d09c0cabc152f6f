"""Does an installation do what it should? Gold actions reach similarity 1 over MCP, declining the known floor."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence

from mcp_servers.benchmark.users import UserChoice, UserKind
from mcp_servers.replay import replay
from mcp_servers.toolsandbox.environment import ToolSandbox
from mcp_servers.toolsandbox.settings import Settings
from mcp_servers.toolsandbox.splits import BASE
from trace_agents.errors import InfrastructureError, TaskUnavailable, UsageError
from trace_agents.types import Action, Record, TaskInstance

DECLINE = ("I am sorry, but I cannot assist with that.",)
"""What upstream's own agent for a floor says."""


NOT_RUN, FAILED, BROKEN = "not run", "failed", "broken"
"""What came of a scenario that has no similarity."""


class Check(Record):
    """What a split's scenarios gave."""

    split: str
    scenarios: int
    gold: int
    """Scenarios that the gold actions solve."""
    not_run: int
    """Scenarios that need RapidAPI, where nobody answers for it; they are not among the solved ones, nor failed."""
    failed: tuple[str, ...]
    """Scenarios that can be played and that gold actions do not solve, or for which there are none."""
    broken: int
    """Episodes that ended in a failure of infrastructure."""
    floor_mean: float
    """Mean similarity of an agent that only declines, over all scenarios of the split."""
    floor_perfect: int
    """Scenarios on which it reaches similarity 1."""
    seconds: float
    provenance: dict[str, str]


def check(settings: Settings, split: str = BASE, workers: int | None = None) -> Check:
    """Play every scenario of `split` twice, with the scripted user.

    Args:
        settings: the installation; its user is replaced.
        split: which scenarios.
        workers: episodes at a time; by default, one for each processor.

    Raises:
        UsageError: nothing is installed, or it is not upstream's revision and was not accepted.
    """
    scripted = settings.model_copy(update={"user": UserChoice(kind=UserKind.SCRIPTED), "lines": {}})
    return asyncio.run(_check(scripted, split, workers or os.cpu_count() or 1))


async def _check(settings: Settings, split: str, workers: int) -> Check:
    began, turn = time.monotonic(), asyncio.Semaphore(workers)
    environment = ToolSandbox(settings)
    declining = ToolSandbox(settings.model_copy(update={"facts": settings.facts or ()}))  # It asks RapidAPI nothing.
    tasks = environment.tasks(split)

    async def reached(played: ToolSandbox, task: TaskInstance, actions: Sequence[Action] | None) -> float | str:
        async with turn:
            try:
                gold = actions if actions is not None else await asyncio.to_thread(played.oracle, task)
                return (await replay(played, task, gold)).reward
            except TaskUnavailable:
                return NOT_RUN
            except UsageError:
                return FAILED
            except InfrastructureError:
                return BROKEN

    ceiling = await asyncio.gather(*(reached(environment, task, None) for task in tasks))
    floor = await asyncio.gather(*(reached(declining, task, DECLINE) for task in tasks))
    similarities = [each for each in floor if isinstance(each, float)]
    return Check(
        split=split,
        scenarios=len(tasks),
        gold=ceiling.count(1.0),
        not_run=ceiling.count(NOT_RUN),
        failed=tuple(task.id for task, each in zip(tasks, ceiling, strict=True) if each not in (1.0, NOT_RUN, BROKEN)),
        broken=ceiling.count(BROKEN) + floor.count(BROKEN),
        floor_mean=sum(similarities) / max(len(similarities), 1),
        floor_perfect=similarities.count(1.0),
        seconds=round(time.monotonic() - began, 1),
        provenance=dict(environment.provenance),
    )
