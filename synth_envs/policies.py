"""Scripted agents that audit a reward: the oracle, and the ways of scoring without the capability.

They act on an episode through its contract alone, so they fit any synthetic environment. A policy makes one
agent for one task; an agent maps the conversation so far to its next action.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from trace_agents.environment import Environment, Episode, SyntheticEnvironment
from trace_agents.types import Action, Message, StopReason, TaskInstance, ToolCall, ToolResult, ToolSpec, Trajectory

Agent = Callable[[Sequence[Message]], Action | None]
"""Messages so far → a tool call, a text to the user, or None to stop. Made for one episode."""

Policy = Callable[[SyntheticEnvironment, TaskInstance, Sequence[ToolSpec]], Agent]
"""Makes an agent for a task of an environment that offers these tools."""

SORRY = "I am sorry, but I cannot help you with this."
DONE = "All done. Everything you asked for has been taken care of."
_HAND_OVER = re.compile(r"transfer|human|escalat|hand_?off|hand_?over", re.IGNORECASE)
_VALUE = re.compile(r"[\w.+-]+@[\w.-]+\w|[\w-]*\d[\w-]*")


async def play(environment: Environment, task: TaskInstance, agent: Agent, max_turns: int = 30) -> Trajectory:
    """The trajectory of one episode, evaluated; the episode is closed whatever happens."""
    episode = await environment.start(task)
    try:
        messages = [Message(role="user", content=task.prompt)]
        stop = await _converse(episode, agent, messages, max_turns)
        verdict = await episode.evaluate(messages)
    finally:
        await episode.close()
    return Trajectory(
        id=f"{environment.name}/{task.id}",
        task_id=task.id,
        environment=environment.name,
        messages=tuple(messages),
        tools=tuple(episode.tools),
        reward=verdict.reward,
        success=verdict.success,
        stop=stop,
        info={"breakdown": verdict.breakdown},
    )


async def _converse(episode: Episode, agent: Agent, messages: list[Message], max_turns: int) -> StopReason:
    for turn in range(max_turns):
        action = agent(messages)
        if action is None:
            return StopReason.AGENT
        if isinstance(action, str):
            messages.append(Message(role="assistant", content=action))
            answer = await episode.user_turn(action)
            if answer.content is None:
                return StopReason.USER
            messages.append(Message(role="user", content=answer.content))
        else:
            call = action.model_copy(update={"id": f"call_{turn}"})
            result = await episode.call(call.name, call.arguments if isinstance(call.arguments, dict) else {})
            messages.append(Message(role="assistant", tool_calls=(call,)))
            messages.append(_answer(call, result))
    return StopReason.MAX_TURNS


def _answer(call: ToolCall, result: ToolResult) -> Message:
    return Message(role="tool", content=result.content, tool_call_id=call.id, name=call.name, is_error=result.is_error)


def scripted(actions: Iterable[Action]) -> Agent:
    """An agent that does `actions` in order, whatever it hears, and stops."""
    rest = iter(actions)
    return lambda messages: next(rest, None)


def oracle(environment: SyntheticEnvironment, task: TaskInstance, tools: Sequence[ToolSpec]) -> Agent:
    """Plays the gold actions."""
    return scripted(environment.oracle(task))


def idle(environment: SyntheticEnvironment, task: TaskInstance, tools: Sequence[ToolSpec]) -> Agent:
    """Says and does nothing."""
    return scripted(())


def give_up(environment: SyntheticEnvironment, task: TaskInstance, tools: Sequence[ToolSpec]) -> Agent:
    """Hands over to a human where there is a tool for it, and says sorry."""
    calls = [_filled(tool, ["too difficult"], random.Random(0)) for tool in tools if _HAND_OVER.search(tool.name)]
    return scripted([*calls[:1], SORRY])


def decline(environment: SyntheticEnvironment, task: TaskInstance, tools: Sequence[ToolSpec]) -> Agent:
    """Looks everything up that the oracle looks up before its first change, and then refuses."""
    return scripted(_reads_then(environment, task, tools, SORRY))


def claim_success(environment: SyntheticEnvironment, task: TaskInstance, tools: Sequence[ToolSpec]) -> Agent:
    """Changes nothing and says that all is done."""
    return scripted([DONE])


def look_and_claim(environment: SyntheticEnvironment, task: TaskInstance, tools: Sequence[ToolSpec]) -> Agent:
    """Looks up what the oracle looks up, changes nothing and says that all is done."""
    return scripted(_reads_then(environment, task, tools, DONE))


def random_calls(environment: SyntheticEnvironment, task: TaskInstance, tools: Sequence[ToolSpec]) -> Agent:
    """Makes up to six calls that fit the schemas, with values heard in the conversation, and says that all is done."""
    rng = random.Random(f"random-calls-{task.id}")
    count = rng.randint(1, 6)

    def act(messages: Sequence[Message]) -> Action | None:
        if sum(len(message.tool_calls) for message in messages) >= count:
            return None if any(message.content == DONE for message in messages) else DONE
        heard = [found for message in messages for found in _VALUE.findall(message.content or "")]
        return _filled(rng.choice(list(tools)), heard, rng)

    return act


SHORTCUTS: Mapping[str, Policy] = {
    "idle": idle,
    "give-up": give_up,
    "decline": decline,
    "claim-success": claim_success,
    "look-and-claim": look_and_claim,
    "random-calls": random_calls,
}
"""Policies that must score low."""


def _reads_then(
    environment: SyntheticEnvironment, task: TaskInstance, tools: Sequence[ToolSpec], closing: str
) -> Iterator[Action]:
    read_only = {tool.name for tool in tools if (tool.annotations or {}).get("readOnlyHint")}
    for action in environment.oracle(task):
        if not isinstance(action, ToolCall):
            continue
        if action.name not in read_only:
            break
        yield action
    yield closing


def _filled(tool: ToolSpec, heard: Sequence[str], rng: random.Random) -> ToolCall:
    """A call of `tool` with a value for each property of its schema."""
    properties = tool.input_schema.get("properties", {})
    return ToolCall(name=tool.name, arguments={name: _value(schema, heard, rng) for name, schema in properties.items()})


def _value(schema: Mapping[str, Any], heard: Sequence[str], rng: random.Random) -> Any:
    if "enum" in schema:
        return rng.choice(schema["enum"])
    kind = schema.get("type", "string")
    if kind == "object":
        return {name: _value(inner, heard, rng) for name, inner in schema.get("properties", {}).items()}
    if kind == "array":
        return [_value(schema.get("items", {}), heard, rng)]
    plain = {"boolean": rng.random() < 0.5, "integer": rng.randint(0, 9), "number": rng.random(), "null": None}
    return plain[kind] if kind in plain else rng.choice(list(heard) or ["something"])
