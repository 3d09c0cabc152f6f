"""Similarities of gold and perturbed episodes, played over MCP, are those of upstream's own loop and evaluator.

By hand, for more of them: `python tests/mcp_servers/test_toolsandbox_rewards.py 1000`.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from toolsandbox_benchmark import GO_ON, REFERENCE, installed, playable

from mcp_servers.replay import replay
from mcp_servers.toolsandbox import ToolSandbox
from mcp_servers.toolsandbox.environment import WORKER
from mcp_servers.toolsandbox.settings import Settings
from trace_agents.errors import UsageError
from trace_agents.types import Action, Evaluation, TaskInstance, ToolCall

SORRY = "I cannot help you with that."
WORDS = "To say it at some length, as it should be said, and with all that belongs to it:"
ANY: dict[str, dict[str, Any]] = {
    "set_wifi_status": {"on": False},
    "set_cellular_service_status": {"on": False},
    "set_location_service_status": {"on": False},
    "set_low_battery_mode_status": {"on": True},
    "search_contacts": {"is_self": False},
    "search_messages": {"content": "a"},
    "search_reminder": {"content": "a"},
    "search_holiday": {"holiday_name": "Labor Day"},
    "send_message_with_phone_number": {"phone_number": "+12125550100", "content": "Hello"},
    "add_contact": {"name": "Anyone", "phone_number": "+12125550100"},
    "add_reminder": {"content": "Anything", "reminder_timestamp": 1_723_000_000},
    "timestamp_diff": {"timestamp_0": 1_723_000_000, "timestamp_1": 1_723_100_000},
    "shift_timestamp": {"timestamp": 1_723_000_000, "days": 1},
    "timestamp_to_datetime_info": {"timestamp": 1_723_000_000},
    "unit_conversion": {"amount": 1, "from_unit": "kilometer", "to_unit": "mile"},
    "calculate_lat_lon_distance": {"latitude_0": 1, "longitude_0": 1, "latitude_1": 2, "longitude_1": 2},
}
"""Tool -> arguments that it takes in any scenario."""

Play = tuple[TaskInstance, Sequence[Action]]


def covering(tasks: Sequence[TaskInstance], count: int) -> list[TaskInstance]:
    """At least `count` tasks that have every category of all."""
    chosen, missing = [], {category for task in tasks for category in task.data["categories"]}
    for task in sorted(tasks, key=lambda task: -len(task.data["categories"])):
        if missing & set(task.data["categories"]) or len(chosen) < count:
            missing -= set(task.data["categories"])
            chosen.append(task)
    return chosen


def perturbed(actions: Sequence[Action], offered: Sequence[ToolCall], rng: random.Random) -> list[Action]:
    """Gold actions with one or two faults."""
    changed = list(actions)
    for _ in range(rng.choice((1, 1, 2))):
        fault = rng.choice(("drop", "repeat", "swap", "alter", "wordy", "give up", "stray", "long"))
        place = rng.randrange(len(changed)) if changed else 0
        if fault == "drop" and changed:
            del changed[place]
        elif fault == "repeat" and changed:
            changed.insert(place, changed[place])
        elif fault == "swap" and len(changed) > 1:
            place = min(place, len(changed) - 2)
            changed[place], changed[place + 1] = changed[place + 1], changed[place]
        elif fault == "alter" and changed:
            changed[place] = altered(changed[place], rng)
        elif fault == "wordy" and changed and isinstance(changed[-1], str):
            changed[-1] = f"{WORDS} {changed[-1]}"
        elif fault == "give up":
            changed = [*changed[:place], SORRY]
        elif fault == "stray":
            changed.insert(place, rng.choice(offered))
        elif fault == "long":
            calls = [each for each in changed if isinstance(each, ToolCall)] or [offered[0]]
            changed = [*(calls * 20)[: rng.randint(13, 17)], *changed]
    return changed


def altered(action: Action, rng: random.Random) -> Action:
    """The action with one argument, or its text, changed."""
    if isinstance(action, str):
        return action.replace(" ", " not ", 1)
    arguments: dict[str, Any] = json.loads(json.dumps(action.arguments))
    if not arguments:
        return action.model_copy(update={"arguments": {"surprise": 1}})
    name = rng.choice(list(arguments))
    value = arguments[name]
    if isinstance(value, bool):
        arguments[name] = not value
    elif isinstance(value, int | float):
        arguments[name] = value + rng.choice((1, 100_000))
    elif isinstance(value, str):
        arguments[name] = rng.choice((value[:-1], value + "x", 7))
    else:
        del arguments[name]
    return action.model_copy(update={"arguments": arguments})


def lines(actions: Sequence[Action]) -> list[str]:
    """What the user says for an agent to go on to the end of its actions."""
    return [GO_ON] * (sum(isinstance(each, str) for each in actions) - 1)


async def ours(settings: Settings, plays: Sequence[Play]) -> list[Evaluation]:
    """The verdicts over MCP, several at a time."""
    turn = asyncio.Semaphore(os.cpu_count() or 1)

    async def one(place: int, play: Play) -> Evaluation:
        async with turn:
            task, actions = play
            return await replay(environments[tuple(lines(actions))], task, actions)

    kinds = {tuple(lines(actions)) for _, actions in plays}
    names = {task.id for task, _ in plays}
    environments = {
        kind: ToolSandbox(settings.model_copy(update={"lines": dict.fromkeys(names, kind)})) for kind in kinds
    }
    return list(await asyncio.gather(*(one(place, play) for place, play in enumerate(plays))))


def upstreams(settings: Settings, plays: Sequence[Play]) -> list[dict[str, Any]]:
    """The verdicts of upstream's own loop, in a process without the adapter."""
    given = [
        {
            "name": task.id,
            "actions": [each if isinstance(each, str) else each.model_dump() for each in actions],
            "lines": lines(actions),
        }
        for task, actions in plays
    ]
    done = subprocess.run(
        [str(settings.python), "-s", str(REFERENCE), str(WORKER), settings.now],
        input="\n".join(map(json.dumps, given)),
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | {"TZ": "UTC"},
        check=True,
        capture_output=True,
        text=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def differing(settings: Settings, plays: Sequence[Play]) -> list[str]:
    """Plays whose verdicts are not the same."""
    mine, theirs = asyncio.run(ours(settings, plays)), upstreams(settings, plays)
    assert len(mine) == len(theirs) == len(plays)
    return [
        f"{task.id}: {verdict.reward} {verdict.breakdown} {other} {actions}"
        for (task, actions), verdict, other in zip(plays, mine, theirs, strict=True)
        if (verdict.reward, verdict.breakdown["milestone"], verdict.breakdown["minefield"])
        != (other["similarity"], other["milestone"], other["minefield"])
    ]


def gold(environment: ToolSandbox, tasks: Sequence[TaskInstance]) -> list[Play]:
    """The oracle's plays of those tasks that have one."""
    found: list[Play] = []
    for task in tasks:
        try:
            found.append((task, environment.oracle(task)))
        except UsageError:
            continue
    return found


def faulty(settings: Settings, plays: Sequence[Play], count: int, seed: int = 0) -> list[Play]:
    """Perturbed plays, `count` of them."""
    rng = random.Random(seed)
    offered = asyncio.run(strays(settings, [task for task, _ in plays]))
    chosen = [rng.choice(plays) for _ in range(count)]
    return [(task, perturbed(actions, offered[task.id], rng)) for task, actions in chosen]


async def strays(settings: Settings, tasks: Sequence[TaskInstance]) -> dict[str, list[ToolCall]]:
    """Task -> calls of the tools it offers that need not be of any use: some step on minefields."""
    environment, found = ToolSandbox(settings), {}
    for task in tasks:
        episode = await environment.start(task)
        found[task.id] = [ToolCall(name=tool.name, arguments=ANY.get(tool.name, {})) for tool in episode.tools]
        await episode.close()
    return found


@pytest.mark.slow
def test_gold_actions_of_every_category_reach_1_here_and_in_upstreams_own_loop() -> None:
    settings, environment = installed(), playable()
    plays = gold(environment, covering(environment.tasks("offline"), 20))
    assert len(plays) >= 20
    assert {verdict.reward for verdict in asyncio.run(ours(settings, plays))} == {1.0}
    assert not differing(settings, plays)


@pytest.mark.slow
def test_faults_cost_the_same_here_and_in_upstreams_own_loop() -> None:
    settings, environment = installed(), playable()
    plays = gold(environment, covering(environment.tasks("offline"), 12))
    assert not differing(settings, faulty(settings, plays, 40))


if __name__ == "__main__":
    made = int(sys.argv[1])
    chosen, here = installed(), playable()
    right = gold(here, here.tasks(sys.argv[2] if len(sys.argv) > 2 else "offline"))
    wrong = faulty(chosen, right, made)
    print(f"{len(right)} gold and {len(wrong)} perturbed plays")
    for each in (right, wrong):
        told = differing(chosen, each)
        print(f"{len(each) - len(told)} of {len(each)} equal", *told[:20], sep="\n")
