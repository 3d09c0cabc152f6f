"""`helpdesk`: an online shop's support desk, the embedded target benchmark."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from mcp_servers.helpdesk.desk import Desk
from mcp_servers.helpdesk.expert import gold_actions, told_facts
from mcp_servers.helpdesk.scenario import Kind, Recipe, Scenario, sample_scenario
from mcp_servers.helpdesk.tools import TOOLS
from mcp_servers.helpdesk.truth import exercised, tells
from mcp_servers.helpdesk.user import Customer
from mcp_servers.helpdesk.wording import first_message
from trace_agents.errors import UsageError, unknown
from trace_agents.types import Action, Evaluation, Message, TaskInstance, ToolCall, ToolResult, ToolSpec, UserTurn

SPLITS: dict[str, tuple[int, int]] = {
    "train": (60, 9_000_000),
    "validation": (150, 9_100_000),
    "test": (400, 9_200_000),
}
"""Split → (number of tasks, first seed). Seeds from 9,000,000 on are reserved for the splits."""
RESERVED_SEEDS = 9_000_000

# How tasks combine requests: none of the planted needs, one, or several (see docs/helpdesk.md).
_SINGLE = (Kind.CANCEL, Kind.RETURN, Kind.ADDRESS, Kind.TRACK)
_PLAIN = (Kind.CANCEL, Kind.RETURN, Kind.EXCHANGE, Kind.ADDRESS, Kind.INVOICE)


@lru_cache(maxsize=1)
def policy_text() -> str:
    """The written policy, as agents get it."""
    return Path(__file__).with_name("policy.md").read_text(encoding="utf-8")


class HelpdeskEpisode:
    """A customer at the desk."""

    def __init__(self, task: TaskInstance) -> None:
        self.task = task
        self.tools: Sequence[ToolSpec] = TOOLS
        self.policy = policy_text()
        self.scenario = Scenario.model_validate(task.data)
        self._desk = Desk(self.scenario.state)
        self._customer = Customer(self.scenario)

    async def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        """Run a tool on this episode's own database."""
        return self._desk.call(name, arguments)

    async def user_turn(self, message: str) -> UserTurn:
        """The customer's answer."""
        return self._customer.reply(message)

    async def evaluate(self, messages: Sequence[Message]) -> Evaluation:
        """1 where the final database equals the gold one and every due fact was told, else 0."""
        return judge(self.scenario, self._desk.state, messages)

    async def close(self) -> None:
        """Nothing is held."""


def judge(scenario: Scenario, state: Mapping[str, Any], messages: Sequence[Message]) -> Evaluation:
    """Success is the final database state and the facts told, decided by code."""
    gold = Desk(scenario.state)
    for action in gold_actions(scenario):
        if isinstance(action, ToolCall) and isinstance(action.arguments, dict):
            gold.call(action.name, action.arguments)
    said = " ".join((m.content or "").lower() for m in messages if m.role == "assistant")
    facts = told_facts(scenario)
    database = float(gold.state == state)
    told = sum(tells(said, fact) for fact in facts) / len(facts) if facts else 1.0
    success = database == 1.0 and told == 1.0
    return Evaluation(reward=float(success), success=success, breakdown={"database": database, "facts": told})


class Helpdesk:
    """The environment: 60 train, 150 validation and 400 test tasks, and a task for every other seed."""

    name = "helpdesk"

    @cached_property
    def splits(self) -> Mapping[str, int]:
        """Number of tasks of each split."""
        return {split: count for split, (count, _) in SPLITS.items()}

    def tasks(self, split: str) -> Sequence[TaskInstance]:
        """The split's tasks."""
        if split not in SPLITS:
            raise unknown("split", split, list(SPLITS))
        count, first = SPLITS[split]
        return [_task(first + index, f"{split}-{index:03d}", split) for index in range(count)]

    def task(self, task_id: str) -> TaskInstance:
        """A task by id: `test-017`, or `seed-42` for a generated one."""
        split, _, number = task_id.rpartition("-")
        if split == "seed" and number.isdigit():
            return self.generate(int(number))
        if split not in SPLITS or not number.isdigit() or int(number) >= SPLITS[split][0]:
            raise UsageError(
                f"unknown task {task_id!r} of environment 'helpdesk': use for example 'train-000' or 'seed-42'"
            )
        return _task(SPLITS[split][1] + int(number), task_id, split)

    def generate(self, seed: int) -> TaskInstance:
        """The task of `seed`, below the seeds that the splits are made from."""
        if not 0 <= seed < RESERVED_SEEDS:
            raise UsageError(f"seed {seed!r} is outside 0..{RESERVED_SEEDS - 1}: the splits are made from larger ones")
        return _task(seed, f"seed-{seed}", None)

    async def start(self, task: TaskInstance) -> HelpdeskEpisode:
        """A fresh episode."""
        return HelpdeskEpisode(task)

    def oracle(self, task: TaskInstance) -> Sequence[Action]:
        """The gold behaviour (`trace_agents.environment.HasOracle`)."""
        return list(gold_actions(Scenario.model_validate(task.data)))

    def exercised(self, task: TaskInstance, messages: Sequence[Message]) -> Mapping[str, bool]:
        """Ground truth of a trajectory (`trace_agents.environment.GroundTruth`)."""
        return exercised(Scenario.model_validate(task.data), messages)


def task_from_scenario(
    scenario: Scenario, task_id: str, environment: str, seed: int, split: str | None = None
) -> TaskInstance:
    """The task instance of a scenario."""
    return TaskInstance(
        id=task_id,
        environment=environment,
        split=split,
        seed=seed,
        prompt=first_message(scenario),
        capabilities=scenario.needs(),
        data=scenario.model_dump(mode="json"),
    )


def _task(seed: int, task_id: str, split: str | None) -> TaskInstance:
    rng = random.Random(f"helpdesk-{seed}")
    return task_from_scenario(sample_scenario(rng, _recipe(rng)), task_id, Helpdesk.name, seed, split)


def _recipe(rng: random.Random) -> Recipe:
    """About a third of the tasks need none of the five rarer capabilities, two fifths one, the rest two or three."""
    group = rng.choices(("plain", "single", "pair", "double", "triple"), weights=(34, 33, 8, 18, 7))[0]
    if group == "plain":
        return Recipe(kinds=(rng.choice(_PLAIN),), blocked=0.0, default_payment=1.0, omit=0.4)
    if group == "single":
        return Recipe(kinds=(rng.choice(_SINGLE),), blocked=1.0, default_payment=0.0)
    first = rng.choice(_SINGLE)
    if group == "pair":
        kinds = rng.sample(_PLAIN, 2)
        return Recipe(kinds=tuple(kinds), blocked=0.0, default_payment=1.0)
    most_items = 1 if group == "triple" else 3  # So that no task needs more than three capabilities.
    return Recipe(kinds=_two(rng, first, group), blocked=1.0, default_payment=0.0, most_items=most_items)


def _two(rng: random.Random, first: Kind, group: str) -> tuple[Kind, ...]:
    """Two kinds: the second needs nothing more in a `double`, something else in a `triple`."""
    others = [kind for kind in _SINGLE if kind is not first] if group == "triple" else [Kind.EXCHANGE, Kind.INVOICE]
    kinds = [first, rng.choice(others)]
    rng.shuffle(kinds)
    return tuple(kinds)
