"""The part of the environment contract that asks for tasks, where an environment's tasks are a list."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from trace_agents.errors import UsageError, unknown
from trace_agents.types import TaskInstance


class TaskList(ABC):
    """`splits`, `tasks`, `task` and `generate` of `trace_agents.environment.Environment`, from a list of tasks."""

    name: str
    """The environment's name."""

    @property
    @abstractmethod
    def instances(self) -> Mapping[str, TaskInstance]:
        """Id -> task, in order."""

    @property
    def split_ids(self) -> Mapping[str, Sequence[str]]:
        """Split -> ids of its tasks, in order. By default a task is in the one split that it names, if it names one."""
        found: dict[str, list[str]] = {}
        for task in self.instances.values():
            if task.split is not None:
                found.setdefault(task.split, []).append(task.id)
        return found

    @property
    def splits(self) -> Mapping[str, int]:
        """Number of tasks of each split."""
        return {split: len(ids) for split, ids in self.split_ids.items()}

    def tasks(self, split: str) -> Sequence[TaskInstance]:
        """The tasks of a split, in order.

        Raises:
            UsageError: unknown split.
        """
        splits = self.split_ids
        if split not in splits:
            raise unknown("split", split, list(splits))
        return [self.instances[task_id] for task_id in splits[split]]

    def task(self, task_id: str) -> TaskInstance:
        """The task with this id.

        Raises:
            UsageError: unknown id; the message has the most similar one that there is.
        """
        if task_id not in self.instances:
            similar = difflib.get_close_matches(task_id, list(self.instances), n=1, cutoff=0.0)
            remedy = f"use for example {similar[0]!r}" if similar else "it has no tasks at all"
            raise UsageError(f"unknown task {task_id!r} of environment {self.name!r}: {remedy}")
        return self.instances[task_id]

    def generate(self, seed: int) -> TaskInstance:
        """Nothing is generated.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"environment {self.name!r} has fixed tasks only, none for seed {seed!r}: use a split's tasks")
