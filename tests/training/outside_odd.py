"""Tasks that are odd, each in its way."""

from __future__ import annotations

import importlib
from typing import Literal

import verifiers.v1 as vf
from outside_tools import OddToolset, OddToolsetConfig

__all__ = ["OddTaskset"]

TASKS = ("plain", "tokens", "negative", "raises", "setup", "picture", "image")


class OddTaskConfig(vf.TaskConfig):
    """What a run can set."""

    tools: OddToolsetConfig = OddToolsetConfig()
    judge: vf.JudgeConfig | None = None


class OddTask(vf.Task[vf.TaskData, vf.State, OddTaskConfig]):
    """Rewarded by its name."""

    @classmethod
    def toolsets(cls, config: OddTaskConfig) -> list[vf.Toolset]:
        return [OddToolset(config.tools)]

    async def setup(self) -> None:
        if self.data.id == "setup":
            raise LookupError("the table is not laid")

    @vf.reward
    async def odd(self, trace: vf.Trace) -> float:
        if self.data.id == "tokens":
            return float(len(trace.branches[0].token_ids))
        if self.data.id == "raises":
            raise ZeroDivisionError("no guests")
        return -0.5 if self.data.id == "negative" else 0.5

    @vf.metric
    async def words(self, trace: vf.Trace) -> float:
        return float(len(trace.last_reply.split()))


class OddConfig(vf.TasksetConfig):
    """Which tasks."""

    split: Literal["train", "test"] = "train"
    module: str = "json"
    """What is imported to load the tasks."""
    task: OddTaskConfig = OddTaskConfig()


class OddTaskset(vf.Taskset[OddTask, OddConfig]):
    """One of each, and one to test with."""

    def load(self) -> list[OddTask]:
        importlib.import_module(self.config.module)
        picture = vf.ImageUrlContentPart(image_url=vf.ImageUrlSource(url="data:,x"))
        prompts = {"picture": [vf.UserMessage(content=[picture])]}
        images = {"image": "python:3"}
        names = TASKS if self.config.split == "train" else TASKS[:1]
        return [
            OddTask(vf.TaskData(id=name, prompt=prompts.get(name, "Well?"), image=images.get(name)), self.config.task)
            for name in names
        ]
