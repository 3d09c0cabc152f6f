"""A taskset that two agents play."""

from __future__ import annotations

from typing import Any

import verifiers.v1 as vf

__all__ = ["PairEnv", "PairTaskset"]


class PairConfig(vf.EnvConfig):
    """Two seats."""

    asker: vf.AgentConfig = vf.AgentConfig()
    answerer: vf.AgentConfig = vf.AgentConfig()


class PairEnv(vf.Env[PairConfig]):
    """One after the other."""

    async def run(self, task: vf.Task, agents: Any) -> None:
        await agents.asker.run(task)
        await agents.answerer.run(task)


class PairTaskset(vf.Taskset[vf.Task, vf.TasksetConfig]):
    """One task."""

    def load(self) -> list[vf.Task]:
        return [vf.Task(vf.TaskData(prompt="Hello."), self.config.task)]
