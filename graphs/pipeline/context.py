"""What every stage of a run works with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from trace_agents.config import RunConfig
from trace_agents.endpoint import ModelEndpoint, Sampling
from trace_agents.environment import Closes, Environment
from trace_agents.errors import UsageError
from trace_agents.memory import MemoryWatch
from trace_agents.progress import Progress
from trace_agents.registry import load_environment
from trace_agents.runstore import RunStore
from trace_agents.types import TaskInstance
from training.base_agent import find_model
from training.chat import ChatFormat, load_chat_format
from training.engine import Engine
from training.engine.remote import RemoteEndpoint
from training.rollouts import EpisodeTrace, RolloutConfig, collect_trials

THREADS = 1
"""Threads of torch in this process; the workers take the other cores."""
CACHE = 128 * 2**20
"""Bytes of keys and values that the engine keeps between turns."""


@dataclass
class Run:
    """One run: its configuration, its folder, and the parts that the stages share."""

    config: RunConfig
    store: RunStore
    progress: Progress
    memory: MemoryWatch = field(default_factory=MemoryWatch)
    """Watches what the run's processes hold."""
    rollouts: dict[str, int] = field(default_factory=dict)
    """Rollouts sampled, by stage."""

    @cached_property
    def target(self) -> Environment:
        """The target environment."""
        return load_environment(self.config.target.environment)

    @cached_property
    def base(self) -> Path:
        """Folder of the base agent."""
        return find_model(self.config.agent.model)

    @cached_property
    def chat(self) -> ChatFormat:
        """The base agent's chat format."""
        return load_chat_format(str(self.base))

    @cached_property
    def endpoint(self) -> ModelEndpoint:
        """What samples: the engine in this process, or the configured server."""
        url = self.config.agent.endpoint
        if url is not None:
            return RemoteEndpoint(url)
        settings = {"name": self.base_model, "threads": THREADS, "seed": self.config.run.seed, "cache_bytes": CACHE}
        return Engine.from_pretrained(self.base, **settings)

    @property
    def base_model(self) -> str:
        """The endpoint's name of the frozen base."""
        return self.base.name

    async def close(self) -> None:
        """Let go of what the stages used on the running event loop: the server's connections, kept environments."""
        endpoint, target = self.__dict__.get("endpoint"), self.__dict__.get("target")
        if isinstance(endpoint, RemoteEndpoint):
            await endpoint.close()
        if isinstance(target, Closes):
            await target.close()

    async def check_endpoint(self) -> None:
        """See that a configured server has the base agent.

        Raises:
            UsageError: it has not. InfrastructureError: it does not answer.
        """
        if self.config.agent.endpoint is None:
            return
        served = await self.endpoint.models()
        if self.base_model not in served:
            raise UsageError(
                f"endpoint {self.config.agent.endpoint!r} serves {served!r}, not {self.base_model!r}: serve the folder "
                "of [agent] model under its own name"
            )

    @cached_property
    def planted(self) -> tuple[str, ...]:
        """Deficits planted in the base agent for measuring, empty for a natural one. Only scores read it."""
        from training.base_agent import planted_deficits

        return planted_deficits(self.base, self.target.name)

    def tasks(self, split: str, most: int | None = None) -> Sequence[TaskInstance]:
        """Tasks of a split of the target, at most `most`."""
        tasks = self.target.tasks(split)[:most]
        if not tasks:
            raise UsageError(
                f"split {split!r} of environment {self.target.name!r} has no tasks: choose another in [target]"
            )
        return tasks

    def rollout_config(self, model: str, temperature: float, models: Mapping[str, str] | None = None) -> RolloutConfig:
        """How this run samples `model` (or, task by task, `models`)."""
        target = self.config.target
        return RolloutConfig(
            model=model,
            models=models or {},
            sampling=Sampling(temperature=temperature, max_tokens=target.max_tokens),
            seed=self.config.run.seed,
            max_turns=target.max_turns,
        )

    async def sample(
        self,
        stage: str,
        environment: Environment,
        pairs: Sequence[tuple[TaskInstance, int]],
        config: RolloutConfig,
        **listen,
    ) -> list[EpisodeTrace]:
        """Rollouts of (task, trial) pairs, counted for `stage`."""
        self.rollouts[stage] = self.rollouts.get(stage, 0) + len(pairs)
        return await collect_trials(environment, pairs, self.endpoint, self.chat, config, **listen)

    def count_lost(self, title: str, traces: Sequence[EpisodeTrace], planned: int) -> None:
        """Say how many of the `planned` rollouts infrastructure failed.

        Raises:
            UsageError: most of them, so that no figure would be of the agent.
        """
        reasons = Counter(trace.last_error.message if trace.last_error else "" for trace in traces if not trace.ok)
        if not reasons:
            return
        said = f"{reasons.total()} of {planned} rollouts have no verdict, as infrastructure failed"
        mostly = " ".join(reasons.most_common(1)[0][0].split())
        if 2 * reasons.total() > planned:
            raise UsageError(f"{title}: {said} ({mostly}): mend that; they are played again")
        self.progress.note(f"{title}: {said} ({mostly})")

    def finished(self, stage: str, inputs: object, reads: Sequence[str] = ()) -> bool:
        """The stage was done before on the same inputs; says so."""
        if not self.store.is_done(stage, inputs, reads):
            return False
        self.progress.note(f"{stage}: done before")
        return True
