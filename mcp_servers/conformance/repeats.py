"""Checks by comparison: the same actions again, in another process, and among other episodes."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import AsyncExitStack

from mcp_servers.conformance.findings import Fault, Remark, Skip
from mcp_servers.conformance.plays import Line, Played, difference, only_errors, play, results_of, scripts
from mcp_servers.conformance.subject import Subject

TOGETHER = 8
"""Episodes that are played at once over HTTP."""


async def determinism(subject: Subject) -> Remark | None:
    """The same actions on the same task give the same results and the same verdict, in another second too."""
    pairs = await scripts(subject, 2 * len(subject.tasks))
    plays = [await play(subject, task, script) for task, script in pairs]
    await _next_second()
    for (task, script), before in zip(pairs, plays, strict=True):
        found = difference(before, await play(subject, task, script))
        if found:
            raise Fault(f"task {task.id!r}, played twice alike: {found}", "draw from the task's seed; freeze the clock")
    return only_errors(results_of(plays))


async def _next_second() -> None:
    """Wait until the clock shows another second: within one, a tool that tells the time answers alike by luck."""
    shown = int(time.time())
    while int(time.time()) == shown:
        await asyncio.sleep(shown + 1 - time.time())


async def other_process(subject: Subject) -> Remark | None:
    """A process of its own lists the same tasks, and its episodes, several at once, answer as here."""
    served = await subject.served()
    for task in subject.tasks:
        there = await asyncio.to_thread(served.task, task.id)
        if there != task:
            raise Fault(f"task {task.id!r} is another one in another process", "derive tasks from files or seeds alone")
    pairs = await scripts(subject, 2 * len(subject.tasks))
    gate = asyncio.Semaphore(min(TOGETHER, subject.at_once))

    async def one(number: int) -> Played:
        async with gate:
            return await play(subject, *pairs[number], source=served)

    here = [await play(subject, task, script) for task, script in pairs]
    async with asyncio.TaskGroup() as group:
        there_too = [group.create_task(one(number)) for number in range(len(pairs))]
    for (task, _), left, right in zip(pairs, here, there_too, strict=True):
        found = difference(left, right.result())
        if found:
            raise Fault(f"task {task.id!r}, here and over HTTP: {found}", "keep hash order, time and paths out of it")
    return only_errors(results_of(here))


async def isolation(subject: Subject) -> Remark | None:
    """Episodes that are interleaved answer as each does alone."""
    count = subject.at_once
    if count < 2:
        raise Skip("it plays one episode at a time" if subject.options.episodes > 1 else "--episodes asks for one only")
    pairs = await scripts(subject, count)
    alone = [await play(subject, task, script) for task, script in pairs]
    rng = random.Random(0)
    async with AsyncExitStack() as stack:
        lines = [Line(await stack.enter_async_context(subject.episode(task)), script) for task, script in pairs]
        waiting = list(range(count))
        while waiting:
            number = rng.choice(waiting)
            if not await lines[number].step():
                waiting.remove(number)
        together = [await line.finish() for line in lines]
    for (task, _), left, right in zip(pairs, alone, together, strict=True):
        found = difference(left, right)
        if found:
            raise Fault(
                f"task {task.id!r}, alone and among {count} episodes: {found}",
                "keep state in the episode, not in the class, the module or the environment",
            )
    return only_errors(results_of(alone))


async def tasks_untouched(subject: Subject) -> None:
    """Playing leaves the task instances as they were."""
    before = {task.id: task.model_dump_json() for task in subject.tasks}
    for task, script in await scripts(subject, 2 * len(subject.tasks)):
        await play(subject, task, script)
    for task in subject.tasks:
        if task.model_dump_json() != before[task.id] or subject.environment.task(task.id) != task:
            raise Fault(f"playing changed task {task.id!r}", "copy the task's data as an episode starts")
