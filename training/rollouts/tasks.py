"""Any environment as a verifiers taskset: its task instances as tasks, the episode's verdict as their reward."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import TypeAlias

import verifiers.v1 as vf
from pydantic import Field

from trace_agents.environment import Environment
from trace_agents.errors import UsageError
from trace_agents.registry import load_environment
from trace_agents.types import Evaluation, TaskInstance


class EnvironmentTaskData(vf.TaskData):
    """A task instance as a trace records it: enough to make it again, and none of its author's secrets."""

    environment: str = ""
    """What `load_environment` finds the environment by."""
    split: str | None = None
    """None for a task generated from a seed."""
    seed: int | None = None
    """What the task was generated from; None for a task read from a file."""


class EpisodeState(vf.State):
    """What the one who plays an episode leaves for the rewards to read."""

    evaluation: Evaluation | None = None
    """The episode's verdict; None until the episode was played and judged."""


class EnvironmentTask(vf.Task[EnvironmentTaskData, EpisodeState]):
    """A task whose reward is the episode's evaluation (R of §3.1)."""

    @property
    def key(self) -> str:
        """`environment/id`: the same over versions of the data."""
        return f"{self.data.environment}/{self.data.id}"

    @vf.reward
    async def evaluation(self, trace: EpisodeTrace) -> float:
        """The episode's reward, in [0, 1]."""
        return _verdict(trace).reward

    @vf.metric
    async def success(self, trace: EpisodeTrace) -> float:
        """1 where the episode succeeded (y of §3.1), else 0."""
        return float(_verdict(trace).success)

    @vf.metric
    async def breakdown(self, trace: EpisodeTrace) -> dict[str, float]:
        """The named parts of the reward, each as `breakdown.<name>`."""
        return {f"breakdown.{name}": value for name, value in _verdict(trace).breakdown.items()}


EpisodeTrace: TypeAlias = vf.Trace[EnvironmentTaskData, EpisodeState, vf.AgentConfig]
"""The trace of one rollout of an `EnvironmentTask`."""


def _verdict(trace: EpisodeTrace) -> Evaluation:
    if trace.state.evaluation is None:
        raise ValueError("the episode was not evaluated: play it with the rollout driver or with EpisodeHarness")
    return trace.state.evaluation


def environment_task(task: TaskInstance, environment: str = "") -> EnvironmentTask:
    """The verifiers task of a task instance; `environment` is the name to load it by, where it is another."""
    data = EnvironmentTaskData(
        id=task.id,
        name=task.id,
        prompt=task.prompt,
        environment=environment or task.environment,
        split=task.split,
        seed=task.seed,
    )
    return EnvironmentTask(data)


class EnvironmentTasksetConfig(vf.TasksetConfig):
    """Which tasks of which environment."""

    environment: str = "helpdesk"
    """A registered name, `package.module:Class` or `file.py:Class`."""
    split: str | None = None
    """A split's tasks; None generates tasks from seeds."""
    first_seed: int = Field(0, ge=0)
    """First seed of generated tasks."""
    seeds: int | None = Field(None, ge=1)
    """Number of seeds; None never ends, so that a view (`take`) has to bound it."""


class EnvironmentTaskset(vf.Taskset[EnvironmentTask, EnvironmentTasksetConfig]):
    """The tasks of an environment, for verifiers' own tools. Its plugin id is `training`."""

    def __init__(self, config: EnvironmentTasksetConfig) -> None:
        super().__init__(config)
        self.environment: Environment = load_environment(config.environment)
        self.INFINITE = config.split is None and config.seeds is None

    def load(self) -> Iterator[EnvironmentTask]:
        """The split's tasks in order, or the tasks of successive seeds.

        Raises:
            UsageError: unknown split, or an environment that cannot generate.
        """
        for task in self._instances():
            yield environment_task(task, self.config.environment)

    def _instances(self) -> Iterator[TaskInstance]:
        config = self.config
        if config.split is not None:
            if config.seeds is not None:
                raise UsageError(
                    f"split {config.split!r} and seeds {config.seeds!r} exclude each other: give one of them"
                )
            yield from self.environment.tasks(config.split)
            return
        seeds = (
            count(config.first_seed)
            if config.seeds is None
            else range(config.first_seed, config.first_seed + config.seeds)
        )
        for seed in seeds:
            yield self.environment.generate(seed)
