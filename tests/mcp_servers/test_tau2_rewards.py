"""Rewards of perturbed gold trajectories, played over MCP, are those of upstream alone.

By hand, for more of them: `python tests/mcp_servers/test_tau2_rewards.py 1000`.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tau2_benchmark import installed

from mcp_servers.replay import replay
from mcp_servers.tau2 import Tau2Environment
from mcp_servers.tau2.environment import WORKER
from mcp_servers.tau2.tasks import WITHOUT_FAILURE, has_gold, needs_judge
from trace_agents.errors import InfrastructureError
from trace_agents.types import TaskInstance, ToolCall

REFERENCE = Path(__file__).with_name("tau2_reference.py")
SHARES = {"mock": 0.04, "telecom": 0.40, "retail": 0.33, "airline": 0.23}
"""Domain -> its share of the trajectories; an evaluation takes longest in airline."""

Action = ToolCall | str


def altered(call: ToolCall, rng: random.Random) -> ToolCall:
    """The call with one argument changed."""
    arguments: dict[str, Any] = json.loads(json.dumps(call.arguments))
    if not arguments:
        return call
    name = rng.choice(list(arguments))
    value = arguments[name]
    if isinstance(value, bool):
        arguments[name] = not value
    elif isinstance(value, int | float):
        arguments[name] = value + 1
    elif isinstance(value, str):
        arguments[name] = value[:-1] + rng.choice("0123456789x")
    elif isinstance(value, list) and value:
        value.append(value[0]) if rng.random() < 0.5 else value.pop()
    else:
        del arguments[name]
    return call.model_copy(update={"arguments": arguments})


def perturbed(actions: list[Action], rng: random.Random) -> list[Action]:
    """Gold actions with one or two faults: dropped, swapped, repeated or altered ones, or facts not told."""
    actions = list(actions)
    for _ in range(rng.choice((1, 1, 2))):
        fault, places = rng.choice(("drop", "swap", "repeat", "alter", "alter", "untold")), len(actions) - 1
        if fault == "untold" or places < 1:
            told = str(actions[-1]).split("; ")
            actions[-1] = "; ".join(told[: rng.randrange(1, len(told) + 1)])
            continue
        place = rng.randrange(places)
        action = actions[place]
        if fault == "drop":
            del actions[place]
        elif fault == "swap":
            other = rng.randrange(places)
            actions[place], actions[other] = actions[other], action
        elif fault == "repeat":
            actions.insert(place, action)
        elif isinstance(action, ToolCall):
            actions[place] = altered(action, rng)
    return actions


def cases(environment: Tau2Environment, count: int, rng: random.Random) -> Iterator[tuple[TaskInstance, list[Action]]]:
    """`count` perturbed gold sequences over all tasks that have them and need no model to judge."""
    domain = environment.name.removeprefix("tau2/")
    unlisted = [environment.task(task_id) for named, task_id in sorted(WITHOUT_FAILURE) if named == domain]
    playable = [task for task in (*environment.tasks("base"), *unlisted) if not needs_judge(task.data["task"])]
    tasks = [task for task in playable if has_gold(domain, task.id)]
    for number in range(count):
        task = tasks[rng.randrange(len(tasks))] if count < len(tasks) else tasks[number % len(tasks)]
        yield task, perturbed(list(environment.oracle(task)), rng)


async def ours(environment: Tau2Environment, task: TaskInstance, actions: list[Action]) -> dict[str, Any]:
    try:
        verdict = await replay(environment, task, actions)
    except InfrastructureError as error:
        return {"raised": str(error).partition("'evaluate': ")[2]}
    return {"reward": verdict.reward, "parts": verdict.breakdown}


def upstreams(environment: Tau2Environment, played: list[tuple[TaskInstance, list[Action]]]) -> list[dict[str, Any]]:
    lines = [
        {
            "domain": environment.name.removeprefix("tau2/"),
            "raw": task.data["task"],
            "steps": [{"text": step} if isinstance(step, str) else step.model_dump() for step in actions],
        }
        for task, actions in played
    ]
    settings = environment.settings
    run = subprocess.run(
        [str(settings.python), "-s", str(REFERENCE), str(WORKER)],
        input="".join(f"{json.dumps(line)}\n" for line in lines),
        env=dict(os.environ) | {"TAU2_DATA_DIR": str(settings.data), "LOGURU_LEVEL": "ERROR"},
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in run.stdout.splitlines()]


def compared(domain: str, count: int, seed: int) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(task, our verdict, upstream's) of `count` perturbed trajectories."""
    environment = Tau2Environment(domain, installed())
    played = list(cases(environment, count, random.Random(f"{domain}-{seed}")))

    async def all_ours() -> list[dict[str, Any]]:
        return [await ours(environment, task, actions) for task, actions in played]

    found = zip(played, asyncio.run(all_ours()), upstreams(environment, played), strict=True)
    return [(task.id, mine, theirs) for (task, _), mine, theirs in found]


@pytest.mark.parametrize(("domain", "count"), [("mock", 20), ("telecom", 20), ("retail", 4), ("airline", 2)])
def test_rewards_are_upstreams_on_perturbed_gold_trajectories(domain: str, count: int) -> None:
    found = compared(domain, count, seed=0)
    assert [mine for _, mine, _ in found] == [theirs for _, _, theirs in found]
    assert count < 10 or 0 < sum(mine.get("reward", 0.0) for _, mine, _ in found) < count


if __name__ == "__main__":
    total = int(sys.argv[1])
    for domain, share in SHARES.items():
        rows = compared(domain, round(total * share), seed=1)
        equal = sum(mine == theirs for _, mine, theirs in rows)
        solved, raised = sum(mine.get("reward") == 1.0 for _, mine, _ in rows), sum("raised" in row[1] for row in rows)
        print(f"{domain}: {equal}/{len(rows)} equal, {solved} solved, upstream raised on {raised}", flush=True)
        for task, mine, theirs in rows:
            if mine != theirs:
                print(f"  {task}: {mine} here, {theirs} upstream")
