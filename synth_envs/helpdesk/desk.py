"""What the desk's families share: the environment around a family, an episode that keeps its calls, and grading.

A family says what to sample (`recipe`) and how well an episode exercised its capability (`grade`). Tools, policy,
database and customer are the target's own. Rewards have three storeys, so that groups vary before the capability
is there and nothing but the capability reaches the top (Definition 2, property 3):

    1.0        exercised, and nothing else done: success
    0.6        exercised with a slip: a wrong detail, or a change that nobody asked for
    0 – 0.3    not exercised: what led up to it; 0 where something was changed that nobody asked for
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Self

from pydantic import Field, ValidationError

from mcp_servers.helpdesk.environment import Helpdesk, HelpdeskEpisode, task_from_scenario
from mcp_servers.helpdesk.expert import gold_actions
from mcp_servers.helpdesk.scenario import Kind, Need, Recipe, Request, Scenario, sample_scenario
from mcp_servers.helpdesk.tools import TOOLS
from mcp_servers.helpdesk.truth import tells
from trace_agents.errors import UsageError, unknown
from trace_agents.refusals import wanted
from trace_agents.types import Action, Capability, Evaluation, Message, Record, TaskInstance, ToolResult

EXERCISED, SLIPPED, APPROACHED = 1.0, 0.6, 0.3
"""Rewards at the top of each storey."""

_READ_ONLY = {tool.name for tool in TOOLS if (tool.annotations or {}).get("readOnlyHint")}
_WRITES = {
    Kind.CANCEL: ("cancel_order",),
    Kind.RETURN: ("return_item",),
    Kind.EXCHANGE: ("exchange_item",),
    Kind.ADDRESS: ("change_address", "unlock_order"),
    Kind.TRACK: (),
    Kind.INVOICE: ("send_invoice",),
}
"""Tools with which each kind of request may change its own order."""


class Mix(Record):
    """What a family's tasks are mixed from."""

    balance: float = Field(default=0.25, ge=0, lt=1)
    """Share of tasks in which the capability's opposite is right, so that over-doing it does not pay."""
    compound: float = Field(default=0.25, ge=0, le=1)
    """Share of tasks in which the request comes with another one, as it may in the target. The other is judged only
    for harm."""
    last: float = Field(default=0.0, ge=0, le=1)
    """Share of those in which the request comes last: to reach it an agent must not stop after the first one."""
    omit: float = Field(default=0.1, ge=0, le=1)
    """Share of single requests that leave something out, to be asked for or looked up."""


class Call(NamedTuple):
    """A tool call that was made."""

    tool: str
    arguments: Mapping[str, Any]
    failed: bool


@dataclass(frozen=True)
class Played:
    """An episode that has been played, as its grader sees it."""

    scenario: Scenario
    calls: tuple[Call, ...]
    """In order."""
    said: str
    """All that the agent said, in lower case."""

    def request(self, kind: Kind) -> Request:
        """The scenario's request of this kind."""
        return next(request for request in self.scenario.requests if request.kind is kind)

    def order(self, request: Request) -> Mapping[str, Any]:
        """The order of a request, as it was at first."""
        order: Mapping[str, Any] = self.scenario.state["orders"][request.order_id]
        return order

    def when(self, tool: str, request: Request, failed: bool = False) -> list[int]:
        """Places in `calls` at which `tool` worked on the request's order, or `failed`."""
        own = [(at, call) for at, call in enumerate(self.calls) if call.arguments.get("order_id") == request.order_id]
        return [at for at, call in own if call.tool == tool and call.failed is failed]

    def argument(self, at: int, name: str) -> Any:
        """An argument of the call at this place."""
        return self.calls[at].arguments.get(name)

    def tells(self, text: str) -> bool:
        """The agent said `text`."""
        return tells(self.said, text)

    @cached_property
    def strays(self) -> int:
        """Changes that worked and that no request asks for, repetitions among them; so is handing over to a human."""
        asked = {(tool, request.order_id) for request in self.scenario.requests for tool in self._writes(request)}
        done = [call for call in self.calls if call.tool not in _READ_ONLY and not call.failed]
        return len(done) - len(asked & {(call.tool, call.arguments.get("order_id")) for call in done})

    def _writes(self, request: Request) -> list[str]:
        return [tool for tool in _WRITES[request.kind] if tool != "unlock_order" or self.order(request)["locked"]]


def graded(exercised: bool, progress: float, slipped: bool, strays: int) -> Evaluation:
    """The reward's storey, and the place in it.

    Args:
        exercised: the capability was exercised.
        progress: how much of what leads up to it was done, in [0, 1].
        slipped: a detail that is not the capability's went wrong.
        strays: changes that nobody asked for.
    """
    clean = not (slipped or strays)
    approached = 0.0 if strays else APPROACHED * progress
    reward = approached if not exercised else EXERCISED if clean else SLIPPED
    parts = {"exercised": float(exercised), "progress": progress, "clean": float(clean)}
    return Evaluation(reward=round(reward, 4), success=reward == EXERCISED, breakdown=parts)


class DeskFamily(ABC):
    """A family of the support desk (`synth_envs.contract.Family`)."""

    need: ClassVar[Need]
    capability: Capability
    defaults: ClassVar[Mix] = Mix()
    has_balance: ClassVar[bool] = True
    """There are cases in which exercising the capability would be wrong."""
    target: str = Helpdesk.name

    def __init__(self, **shares: float) -> None:
        try:
            self.mix = Mix.model_validate(self.defaults.model_dump() | shares)
        except ValidationError as error:
            problem = error.errors()[0]
            found = f"parameter {problem['loc'][0]!r} = {problem['input']!r} of family {self.slug!r}"
            raise UsageError(f"{found}: {wanted(problem)}; it takes {', '.join(Mix.model_fields)}") from error
        if self.mix.balance and not self.has_balance:
            raise UsageError(f"balance = {self.mix.balance!r} of family {self.slug!r}: it has no balance cases, use 0")

    @property
    def slug(self) -> str:
        """The capability's word in the desk's own terms."""
        return self.need.value

    @property
    def parameters(self) -> dict[str, Any]:
        """The mix."""
        return self.mix.model_dump()

    @abstractmethod
    def recipe(self, rng: random.Random) -> Recipe:
        """What to sample for one task."""

    @abstractmethod
    def grade(self, played: Played) -> Evaluation:
        """How well the capability was exercised."""

    def kinds(self, rng: random.Random, kind: Kind, others: Sequence[Kind]) -> tuple[Kind, ...]:
        """A request of `kind`, alone or with one of `others`, as the mix says."""
        if rng.random() >= self.mix.compound:
            return (kind,)
        other = rng.choice(others)
        return (other, kind) if rng.random() < self.mix.last else (kind, other)

    def environment(self, capability: Capability | None = None) -> DeskEnvironment:
        """The family's environment, in the name of `capability`."""
        return DeskEnvironment(self, capability or self.capability)

    @classmethod
    def default(cls) -> DeskEnvironment:
        """The environment with the default mix, for serving it by name."""
        return cls().environment()

    def targets(self, task: TaskInstance) -> bool:
        """The scenario needs the capability."""
        return self.need in task.capabilities

    def counterexample(self, task: TaskInstance) -> list[Action]:
        """The gold behaviour with exactly this capability lapsed."""
        return list(gold_actions(Scenario.model_validate(task.data), lapses={self.need}))

    def easier(self) -> Self | None:
        """Single, complete requests only, where there are others."""
        if not self.mix.compound and not self.mix.omit:
            return None
        return type(self)(balance=self.mix.balance, compound=0.0, omit=0.0)


class DeskEpisode(HelpdeskEpisode):
    """A customer at the desk, judged by a family."""

    def __init__(self, task: TaskInstance, family: DeskFamily) -> None:
        super().__init__(task)
        self._family = family
        self._calls: list[Call] = []

    async def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        """Run a tool on this episode's own database, and keep the call."""
        result = await super().call(name, arguments)
        self._calls.append(Call(name, dict(arguments), result.is_error))
        return result

    async def evaluate(self, messages: Sequence[Message]) -> Evaluation:
        """The family's grade."""
        said = " ".join((message.content or "").lower() for message in messages if message.role == "assistant")
        return self._family.grade(Played(self.scenario, tuple(self._calls), said))


class DeskEnvironment:
    """A family's tasks, one for each seed."""

    def __init__(self, family: DeskFamily, capability: Capability) -> None:
        self.name = f"synth/{capability.name}"
        self.capability = capability
        self._family = family

    @property
    def splits(self) -> Mapping[str, int]:
        """None: tasks are generated."""
        return {}

    def tasks(self, split: str) -> Sequence[TaskInstance]:
        """There are no fixed tasks."""
        raise unknown("split", split, [])

    def task(self, task_id: str) -> TaskInstance:
        """A task by id, such as `seed-42`."""
        prefix, _, number = task_id.rpartition("-")
        if prefix != "seed" or not number.isdigit():
            raise UsageError(f"unknown task {task_id!r} of environment {self.name!r}: use for example 'seed-42'")
        return self.generate(int(number))

    def generate(self, seed: int) -> TaskInstance:
        """The task of `seed`, from 0 on."""
        if seed < 0:
            raise UsageError(f"seed {seed!r} of environment {self.name!r} is negative: use 0 or more")
        rng = random.Random(f"synth-{self._family.slug}-{seed}")
        scenario = sample_scenario(rng, self._family.recipe(rng))
        return task_from_scenario(scenario, f"seed-{seed}", self.name, seed)

    async def start(self, task: TaskInstance) -> DeskEpisode:
        """A fresh episode."""
        return DeskEpisode(task, self._family)

    def oracle(self, task: TaskInstance) -> list[Action]:
        """The gold actions."""
        return list(gold_actions(Scenario.model_validate(task.data)))
