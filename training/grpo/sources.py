"""Where a training run's task instances come from: seeds of an environment, fixed tasks, or a mixture."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

from trace_agents.environment import Environment, Episode, most_episodes
from trace_agents.errors import UsageError
from trace_agents.types import TaskInstance


class TaskSource(Protocol):
    """The task instances of a training run."""

    name: str

    def training(self, index: int) -> TaskInstance:
        """The task instance of the run's group number `index`, from 0; a function of the index alone."""

    def validation(self) -> Sequence[TaskInstance]:
        """Held-out task instances on which checkpoints are picked."""

    async def start(self, task: TaskInstance) -> Episode:
        """A fresh episode of `task`."""


class SeededTasks:
    """A new seed of a generating environment for every group, and held-out seeds for validation."""

    def __init__(
        self, environment: Environment, train_from: int = 1_000_000, validate_from: int = 4_000_000, validate: int = 48
    ) -> None:
        """Group `i` trains on seed `train_from + i`; the `validate` seeds from `validate_from` on are held out."""
        if train_from <= validate_from + validate - 1 and train_from >= validate_from:
            raise UsageError(f"train_from {train_from!r} lies within the validation seeds: choose another range")
        self.environment = environment
        self.name = environment.name
        self.most_episodes = most_episodes(environment)
        self.train_from, self.validate_from, self.validate = train_from, validate_from, validate

    def training(self, index: int) -> TaskInstance:
        """The task of the next seed, never one that is held out."""
        seed = self.train_from + index
        if self.train_from < self.validate_from <= seed:
            seed += self.validate
        return self.environment.generate(seed)

    def validation(self) -> Sequence[TaskInstance]:
        """The tasks of the held-out seeds."""
        return [self.environment.generate(self.validate_from + offset) for offset in range(self.validate)]

    async def start(self, task: TaskInstance) -> Episode:
        """A fresh episode."""
        return await self.environment.start(task)


class FixedTasks:
    """Given tasks, each once a pass, in an order that changes with every pass."""

    def __init__(
        self, environment: Environment, tasks: Sequence[TaskInstance], held_out: Sequence[TaskInstance], seed: int = 0
    ) -> None:
        """`tasks` are trained on, `held_out` are the validation; `seed` decides the orders."""
        shared = {task.id for task in tasks} & {task.id for task in held_out}
        if not tasks or shared:
            problem = f"tasks {sorted(shared)[:3]!r} are in both" if shared else "there are no tasks to train on"
            raise UsageError(f"fixed tasks of {environment.name!r}: {problem}: give disjoint, non-empty lists")
        self.environment = environment
        self.name = environment.name
        self.most_episodes = most_episodes(environment)
        self.tasks, self.held_out, self.seed = tuple(tasks), tuple(held_out), seed
        self._order = lru_cache(maxsize=4)(self._shuffled)

    def training(self, index: int) -> TaskInstance:
        """The next task of the pass."""
        turn, place = divmod(index, len(self.tasks))
        return self.tasks[self._order(turn)[place]]

    def validation(self) -> Sequence[TaskInstance]:
        """The held-out tasks."""
        return self.held_out

    async def start(self, task: TaskInstance) -> Episode:
        """A fresh episode."""
        return await self.environment.start(task)

    def _shuffled(self, turn: int) -> list[int]:
        order = list(range(len(self.tasks)))
        random.Random(f"{self.seed}-{turn}").shuffle(order)
        return order


class MixedTasks:
    """Several sources in equal shares, group by group: one adapter for several capabilities."""

    def __init__(self, sources: Sequence[TaskSource]) -> None:
        """Sources of environments with different names."""
        repeated = [name for name, count in Counter(source.name for source in sources).items() if count > 1]
        if not sources or repeated:
            problem = f"{repeated[0]!r} is there twice" if repeated else "it is empty"
            raise UsageError(f"mixture of task sources: {problem}: give sources of different environments")
        self.sources = tuple(sources)
        self.most_episodes = min((few for few in map(most_episodes, self.sources) if few), default=None)
        self.name = "+".join(source.name for source in sources)

    def training(self, index: int) -> TaskInstance:
        """The next task of the source whose turn it is."""
        turn, place = divmod(index, len(self.sources))
        return self.sources[place].training(turn)

    def validation(self) -> Sequence[TaskInstance]:
        """All sources' held-out tasks."""
        return [task for source in self.sources for task in source.validation()]

    async def start(self, task: TaskInstance) -> Episode:
        """A fresh episode in the environment that the task is of."""
        for source in self.sources:
            if task.environment == source.name:
                return await source.start(task)
        known = ", ".join(repr(source.name) for source in self.sources)
        raise UsageError(f"task {task.id!r} is of environment {task.environment!r}, which is not mixed in: use {known}")
