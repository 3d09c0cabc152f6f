"""A taskset with a scripted user, a shared tool server, and no end; as upstream's `alphabet_sort` is written."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import verifiers.v1 as vf
from outside_pad import PadState, PadToolset

__all__ = ["QuizEnv", "QuizTaskset"]


class QuizData(vf.TaskData):
    """What the user says, one after the other."""

    questions: list[str]


class QuizTask(vf.Task[QuizData, PadState]):
    """Answer `yes` to every question, and note each."""

    @vf.stop
    def enough(self, trace: vf.Trace) -> bool:
        return trace.num_turns >= 6

    @vf.reward(weight=0.5)
    async def yes(self, trace: vf.Trace) -> float:
        said = [message.content for message in trace.assistant_messages if message.content]
        return float(said == ["yes"] * len(self.data.questions))

    @vf.reward(weight=0.5)
    async def noted(self, trace: vf.Trace) -> float:
        return float(trace.state.notes == self.data.questions)

    @vf.metric
    async def turns(self, trace: vf.Trace) -> float:
        return float(trace.num_turns)


class QuizEnv(vf.SingleAgentEnv):
    """The user."""

    async def run(self, task: QuizTask, agents: Any) -> None:
        seated = task.with_data(prompt=None)
        async with agents.agent.interaction(seated) as interaction:
            for question in task.data.questions:
                if (await interaction.turn(question)).terminated:
                    break

    async def finalize(self, task: QuizTask, episode: vf.Episode) -> None:
        episode.traces[0].record_metric("finalized", 1.0)


class QuizConfig(vf.TasksetConfig):
    """Nothing to set."""

    tools: vf.SharedToolsetConfig = vf.SharedToolsetConfig()


class QuizTaskset(vf.Taskset[QuizTask, QuizConfig]):
    """Ever longer quizzes."""

    INFINITE = True

    @classmethod
    def toolsets(cls, config: QuizConfig) -> list[vf.Toolset]:
        return [PadToolset(config.tools)]

    def load(self) -> Iterator[QuizTask]:
        for number in count():
            questions = [f"q{number}-{part}" for part in range(number + 1)]
            # What the data calls its prompt is the user's to know, as in verifiers' `user-sim`.
            yield QuizTask(QuizData(prompt="Ask.", questions=questions), self.config.task)
