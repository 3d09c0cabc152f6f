"""Doubles for rollouts: a small environment with a fussy user, and an endpoint that says what a script says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trace_agents.endpoint import Completion, Sampling
from trace_agents.errors import UsageError, unknown
from trace_agents.types import Evaluation, Message, TaskInstance, ToolResult, ToolSpec, UserTurn
from training.chat import ChatFormat

ADD = ToolSpec(
    name="add",
    description="Add two whole numbers.",
    input_schema={
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
        "additionalProperties": False,
    },
    annotations={"readOnlyHint": True},
)


class SumsEpisode:
    """A user who wants two numbers added, says so until the sum is said, and then goes."""

    policy = "Add with the tool, then say the sum."

    def __init__(self, task: TaskInstance) -> None:
        self.task = task
        self.tools = (ADD,)
        self.closed = 0

    async def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        """Only `add`; a missing number is an error result."""
        if set(arguments) != {"a", "b"}:
            return ToolResult(content=json.dumps({"error": "give a and b"}), is_error=True)
        return ToolResult(content=json.dumps({"sum": arguments["a"] + arguments["b"]}))

    async def user_turn(self, message: str) -> UserTurn:
        """Done once the sum is said."""
        return UserTurn() if self.task.data["sum"] in message else UserTurn(content="And the sum is?")

    async def evaluate(self, messages: Sequence[Message]) -> Evaluation:
        """Half for a tool call that worked, half for saying the sum."""
        asked = any(message.role == "tool" and not message.is_error for message in messages)
        said = any(
            message.role == "assistant" and self.task.data["sum"] in (message.content or "") for message in messages
        )
        return Evaluation(reward=(asked + said) / 2, success=asked and said, breakdown={"asked": asked, "said": said})

    async def close(self) -> None:
        """Counted, so that leaks show."""
        self.closed += 1


class Sums:
    """Tasks of adding: two train tasks, and one for every seed."""

    name = "sums"
    splits: Mapping[str, int] = {"train": 2}

    def __init__(self, episode: Callable[[TaskInstance], SumsEpisode] = SumsEpisode) -> None:
        self._episode = episode
        self.started: list[SumsEpisode] = []

    def tasks(self, split: str) -> Sequence[TaskInstance]:
        """The split's tasks."""
        if split not in self.splits:
            raise unknown("split", split, list(self.splits))
        return [self.generate(seed).model_copy(update={"split": split}) for seed in range(self.splits[split])]

    def task(self, task_id: str) -> TaskInstance:
        """`sum-7` is the task of seed 7."""
        number = task_id.removeprefix("sum-")
        if not number.isdigit():
            raise UsageError(f"unknown task {task_id!r} of environment 'sums': use for example 'sum-7'")
        return self.generate(int(number))

    def generate(self, seed: int) -> TaskInstance:
        """`seed` and 40, to be added."""
        prompt = f"What is {seed} and 40?"
        return TaskInstance(
            id=f"sum-{seed}", environment=self.name, seed=seed, prompt=prompt, data={"sum": str(seed + 40)}
        )

    async def start(self, task: TaskInstance) -> SumsEpisode:
        """A fresh episode, remembered in `started`."""
        self.started.append(self._episode(task))
        return self.started[-1]


class Script:
    """An endpoint that says the next of a task's lines; the log-probabilities count down by tenths."""

    def __init__(self, chat: ChatFormat, lines: Sequence[str | Exception], cut: int | None = None) -> None:
        self.chat = chat
        self.lines = lines
        self.cut = cut
        """Most tokens of a line; a longer one is cut there."""
        self.requests: list[tuple[list[int], str, Sampling]] = []
        self.answers: list[Completion] = []

    async def models(self) -> list[str]:
        """One."""
        return ["base"]

    async def generate(self, prompt_ids: Sequence[int], model: str, sampling: Sampling) -> Completion:
        """The next line, from the first again after the last."""
        if model != "base":
            raise unknown("model", model, ["base"])
        await asyncio.sleep(0)
        line = self.lines[len(self.requests) % len(self.lines)]
        self.requests.append((list(prompt_ids), model, sampling))
        if isinstance(line, Exception):
            raise line
        ids = self.chat.encode(line + self.chat.stop_token)
        reason = "length" if self.cut is not None and len(ids) > self.cut else "stop"
        ids = ids[: self.cut]
        self.answers.append(
            Completion(token_ids=ids, logprobs=[-k / 10 for k in range(len(ids))], finish_reason=reason, model=model)
        )
        return self.answers[-1]


def call(**arguments: Any) -> str:
    """The text of a call to `add`."""
    return f"<tool_call>{json.dumps({'name': 'add', 'arguments': arguments})}</tool_call>"
