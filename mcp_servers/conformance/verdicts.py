"""Checks of evaluation: gold, idleness, activity without sense, and conversations that no agent should have."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from mcp_servers.agents.loop import Actor, converse, gold_error, scripted
from mcp_servers.agents.random_calls import random_actor
from mcp_servers.agents.scripted import DO_NOTHING
from mcp_servers.conformance.findings import Fault, Skip, described, shown
from mcp_servers.conformance.subject import Subject
from trace_agents.types import Action, Evaluation, Message, TaskInstance, ToolCall, ToolSpec

TURNS = 50
_CALL = ToolCall(id="call_0", name="no_such_tool", arguments={"a": 1})
_USER = Message(role="user", content="Hello?")
GARBAGE: Mapping[str, Sequence[Message]] = {
    "no messages": (),
    "the user alone": (_USER,),
    "only a policy": (Message(role="system", content="Be kind."),),
    "an agent that says nothing": (_USER, Message(role="assistant"), Message(role="assistant", content="")),
    "a million characters": (_USER, Message(role="assistant", content="x" * 1_000_000)),
    "odd characters": (_USER, Message(role="assistant", content="\x00\u202e\U0001f9ff {{ }} %s \\")),
    "a call of no tool, unanswered": (_USER, Message(role="assistant", tool_calls=(_CALL,))),
    "arguments that are not JSON": (
        _USER,
        Message(role="assistant", tool_calls=(_CALL.model_copy(update={"arguments": '{"a":'}),)),
    ),
    "a result of no call": (Message(role="tool", content="done", tool_call_id="call_9", name="no_such_tool"),),
    "two hundred agent messages": (_USER, *[Message(role="assistant", content="Yes.")] * 200),
}
"""Conversations to judge, none of which an agent should have."""


async def gold(subject: Subject) -> None:
    """The gold actions of each task, played over MCP, score 1."""
    known = [(task, actions) for task in subject.tasks if (actions := subject.gold(task)) is not None]
    if not known:
        raise Skip("it has no gold actions (trace_agents.environment.HasOracle)")
    for task, actions in known:
        async with subject.episode(task) as episode:
            play = await converse(episode, _does(actions), len(actions) + 1)
            verdict = _checked(await episode.evaluate(play.messages), task, "gold actions")
        if verdict.reward != 1.0 or not verdict.success:
            error = gold_error(play.messages)
            raise Fault(
                f"gold actions of task {task.id!r} score {shown(verdict.model_dump())}"
                + (f"; {shown(error)}" if error else ""),
                "mend the gold actions or the evaluation: playing the oracle scores 1",
            )


async def idle(subject: Subject) -> None:
    """An agent that does nothing does not score 1 on every task."""
    scores = []
    for task in subject.tasks:
        async with subject.episode(task) as episode:
            play = await converse(episode, _does(DO_NOTHING), TURNS)
            scores.append(_checked(await episode.evaluate(play.messages), task, "an idle agent").reward)
    if min(scores) == 1.0:
        raise Fault(
            f"an agent that says {DO_NOTHING[0]!r} and stops scores 1 on all of {len(scores)} tasks",
            "reward what the agent has to achieve",
        )


async def activity(subject: Subject) -> None:
    """Valid calls at random get a verdict in [0, 1]."""
    for task in subject.tasks:
        async with subject.episode(task) as episode:
            make = partial(random_actor, rng=random.Random(f"activity-{task.id}"))
            play = await converse(episode, make, TURNS)
            _checked(await episode.evaluate(play.messages), task, "random calls")


async def garbage(subject: Subject) -> None:
    """Any conversation gets a verdict in [0, 1], never an exception."""
    for name, messages in GARBAGE.items():
        async with subject.episode(subject.tasks[0]) as episode:
            try:
                verdict = await episode.evaluate(messages)
            except Exception as error:
                found = f"judging {name} raises {described(error)}"
                raise Fault(found, "judge any conversation: what cannot be read scores 0") from error
            _checked(verdict, subject.tasks[0], name)


def _does(actions: Sequence[Action]) -> Callable[[Sequence[ToolSpec]], Actor]:
    return lambda tools: scripted(actions)


def _checked(verdict: Evaluation, task: TaskInstance, what: str) -> Evaluation:
    if not isinstance(verdict, Evaluation):
        raise Fault(f"{what} of task {task.id!r} is judged {shown(repr(verdict))}", "return an Evaluation")
    for name, value in (("reward", verdict.reward), *verdict.breakdown.items()):
        if not math.isfinite(value) or not 0.0 <= value <= 1.0:
            raise Fault(f"{what} of task {task.id!r} has {name} {value!r}", "keep rewards and their parts in [0, 1]")
    return verdict
