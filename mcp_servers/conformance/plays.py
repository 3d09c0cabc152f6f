"""Episodes under fixed actions: what to do in them, and what they answered, for comparison."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence

from mcp_servers.agents.draws import draw_arguments, values_in
from mcp_servers.conformance.findings import Fault, Remark, shown
from mcp_servers.conformance.subject import Subject
from mcp_servers.guard import GuardedEpisode
from trace_agents.environment import Environment
from trace_agents.errors import InfrastructureError
from trace_agents.types import Action, Evaluation, Message, Record, TaskInstance, ToolCall, ToolResult, ToolSpec

CALLS = 4
"""Calls at random in a script."""
HELLO = "Is there anything else that I should know?"
Script = Sequence[Action]


class Played(Record):
    """What an episode answered to a script."""

    answers: tuple[str, ...]
    """Results and the user's words, in order."""
    messages: tuple[Message, ...]
    evaluation: Evaluation


def script_for(subject: Subject, task: TaskInstance, tools: Sequence[ToolSpec], variant: int) -> Script:
    """Fixed actions for `task`: its gold actions, valid calls at random, or gold actions that go astray half-way."""
    gold = subject.gold(task)
    rng = random.Random(f"{task.id}-{variant}")
    kind = variant % 3
    if gold is not None and kind == 0:
        return gold
    start = list(gold[: len(gold) // 2]) if gold is not None and kind == 2 else []
    return [*start, *_calls(task, gold or (), tools, rng), HELLO]


def _calls(task: TaskInstance, gold: Script, tools: Sequence[ToolSpec], rng: random.Random) -> Iterator[ToolCall]:
    calls = [action for action in gold if isinstance(action, ToolCall)]
    spoken = [Message(role="user", content=f"{task.prompt} {call.arguments}") for call in calls]
    heard = values_in([Message(role="user", content=task.prompt), *spoken])
    for tool in rng.sample(list(tools), min(CALLS, len(tools))):
        arguments = draw_arguments(tool.input_schema, heard, rng)
        if arguments is not None:
            yield ToolCall(name=tool.name, arguments=arguments)


def only_errors(results: Iterable[ToolResult | Message]) -> Remark | None:
    """What to say where all results that were compared are errors: two sides may fail alike and work unlike."""
    compared = list(results)
    if not compared or not all(one.is_error for one in compared):
        return None
    return Remark(
        f"all {len(compared)} results that were compared are errors, such as {shown(compared[0].content or '')!r}",
        "see whether the tools work here, and give the tasks gold actions, so that calls that succeed are compared",
    )


def results_of(plays: Iterable[Played]) -> Iterator[Message]:
    """The tool results of several episodes."""
    return (message for played in plays for message in played.messages if message.role == "tool")


class Line:
    """One episode under a script, step by step."""

    def __init__(self, episode: GuardedEpisode, script: Script) -> None:
        self.episode = episode
        self._rest = list(script)
        self._answers: list[str] = []
        self._messages = [Message(role="user", content=episode.task.prompt)]

    async def step(self) -> bool:
        """Do the next action; False where there is none, or the user has ended the conversation.

        Raises:
            Fault: the environment failed.
        """
        if not self._rest:
            return False
        action = self._rest.pop(0)
        try:
            return await (self._call(action) if isinstance(action, ToolCall) else self._say(action))
        except InfrastructureError as error:
            what = f"a valid call of {action.name!r}" if isinstance(action, ToolCall) else "the user's turn"
            raise Fault(
                f"{what} in task {self.episode.task.id!r} failed: {error}", "make it answer whatever the schema allows"
            ) from error

    async def finish(self) -> Played:
        """The record, judged."""
        return Played(
            answers=tuple(self._answers),
            messages=tuple(self._messages),
            evaluation=await self.episode.evaluate(self._messages),
        )

    async def _call(self, action: ToolCall) -> bool:
        made = action.model_copy(update={"id": f"call_{len(self._answers)}"})
        arguments = made.arguments if isinstance(made.arguments, dict) else {}
        result = await self.episode.call(made.name, arguments)
        self._answers.append(f"{made.name}: {'error: ' if result.is_error else ''}{result.content}")
        self._messages += [
            Message(role="assistant", tool_calls=(made,)),
            Message(
                role="tool", content=result.content, tool_call_id=made.id, name=made.name, is_error=result.is_error
            ),
        ]
        return True

    async def _say(self, text: str) -> bool:
        self._messages.append(Message(role="assistant", content=text))
        heard = await self.episode.user_turn(text)
        self._answers.append(f"user: {heard.content}")
        if not heard.done:
            self._messages.append(Message(role="user", content=heard.content))
        return not heard.done


async def play(subject: Subject, task: TaskInstance, script: Script, source: Environment | None = None) -> Played:
    """One episode of `task` under `script`, alone."""
    async with subject.episode(task, source) as episode:
        line = Line(episode, script)
        while await line.step():
            pass
        return await line.finish()


async def scripts(subject: Subject, count: int) -> list[tuple[TaskInstance, Script]]:
    """`count` pairs of a task and its script; the tasks over and over, with ever other scripts."""
    tools = []
    for task in subject.tasks:
        async with subject.episode(task) as episode:
            tools.append(tuple(episode.tools))
    found = []
    for index in range(count):
        at, variant = index % len(subject.tasks), index // len(subject.tasks)
        found.append((subject.tasks[at], script_for(subject, subject.tasks[at], tools[at], variant)))
    return found


def difference(one: Played, other: Played) -> str | None:
    """The first thing in which two plays differ; None where they are equal."""
    for number, (left, right) in enumerate(zip(one.answers, other.answers, strict=False)):
        if left != right:
            return f"answer {number} is {shown(left)!r} and {shown(right)!r}"
    if len(one.answers) != len(other.answers):
        return f"{len(one.answers)} answers and {len(other.answers)}"
    if one.evaluation != other.evaluation:
        return f"the verdict is {one.evaluation} and {other.evaluation}"
    return None
