"""Does an installation do what it should? Gold actions score 1 over MCP, and doing nothing scores the known floor."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence

from mcp_servers.benchmark.users import UserChoice, UserKind
from mcp_servers.replay import DO_NOTHING, replay
from mcp_servers.tau2.environment import BASE, Tau2Environment
from mcp_servers.tau2.settings import Settings
from mcp_servers.tau2.tasks import needs_judge
from trace_agents.errors import InfrastructureError, UsageError
from trace_agents.types import Record, TaskInstance, ToolCall


class Check(Record):
    """What a domain's tasks gave."""

    domain: str
    tasks: int
    not_run: int
    """Tasks that a model judges, where none is named: left out of all that follows."""
    no_gold: int
    """Tasks whose gold actions upstream leaves incomplete."""
    gold: int
    """Tasks that the gold actions solve; fewer than all others that are run is a fault of the installation."""
    floor: int
    """Tasks that are solved by doing nothing."""
    failed: tuple[str, ...]
    """Ids of tasks whose gold actions do not solve them."""
    broken: int
    """Episodes that ended in a failure of infrastructure, such as an evaluator of upstream's that raised."""
    seconds: float
    provenance: dict[str, str]
    """Upstream's release, and the hashes of its code, data and tools."""


def check(settings: Settings, domain: str, workers: int | None = None) -> Check:
    """Play every task of `domain` twice, with the scripted user.

    Args:
        settings: the installation; its user is replaced.
        domain: `airline`, `retail`, `telecom` or `mock`.
        workers: episodes at a time; by default, one for each processor.

    Raises:
        UsageError: nothing is installed, or it is not upstream's release and was not accepted.
    """
    scripted = settings.model_copy(update={"user": UserChoice(kind=UserKind.SCRIPTED)})
    environment = Tau2Environment(domain, scripted)
    return asyncio.run(_check(environment, workers or os.cpu_count() or 1))


async def _check(environment: Tau2Environment, workers: int) -> Check:
    began, turn = time.monotonic(), asyncio.Semaphore(workers)
    everything, judge = environment.tasks(BASE), environment.settings.judge
    tasks = [task for task in everything if judge is not None or not needs_judge(task.data["task"])]

    async def solved(task: TaskInstance, actions: Sequence[ToolCall | str]) -> bool | None:
        async with turn:
            try:
                return (await replay(environment, task, actions)).success
            except InfrastructureError:
                return None

    known = {task.id: actions for task in tasks if (actions := _gold(environment, task)) is not None}
    gold = await asyncio.gather(*(solved(task, known[task.id]) for task in tasks if task.id in known))
    idle = await asyncio.gather(*(solved(task, DO_NOTHING) for task in tasks))
    return Check(
        domain=environment.name.removeprefix("tau2/"),
        tasks=len(everything),
        not_run=len(everything) - len(tasks),
        no_gold=len(tasks) - len(known),
        gold=gold.count(True),
        floor=idle.count(True),
        failed=tuple(task_id for task_id, won in zip(known, gold, strict=True) if not won),
        broken=gold.count(None) + idle.count(None),
        seconds=round(time.monotonic() - began, 1),
        provenance=dict(environment.provenance),
    )


def _gold(environment: Tau2Environment, task: TaskInstance) -> Sequence[ToolCall | str] | None:
    try:
        return environment.oracle(task)
    except UsageError:
        return None
