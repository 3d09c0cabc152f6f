"""Scripted agents that audit a reward: the oracle, and the ways of scoring without the capability.

They act on an episode through its contract alone, so they fit any synthetic environment. A policy makes one
actor for one task; an actor maps the conversation so far to its next action.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from mcp_servers.agents.draws import draw_arguments
from mcp_servers.agents.loop import Actor, scripted, take_turns
from mcp_servers.agents.random_calls import DONE, random_actor
from mcp_servers.agents.scripted import SORRY
from trace_agents.environment import Environment, SyntheticEnvironment
from trace_agents.types import Action, TaskInstance, ToolCall, ToolSpec, Trajectory

Policy = Callable[[SyntheticEnvironment, TaskInstance, Sequence[ToolSpec]], Actor]
"""Makes an actor for a task of an environment that offers these tools."""

_HAND_OVER = re.compile(r"transfer|human|escalat|hand_?off|hand_?over", re.IGNORECASE)


async def play(environment: Environment, task: TaskInstance, actor: Actor, max_turns: int = 30) -> Trajectory:
    """The trajectory of one episode, evaluated; the episode is closed whatever happens."""
    episode = await environment.start(task)
    try:
        played = await take_turns(episode, episode.call, actor, max_turns)
        verdict = await episode.evaluate(played.messages)
    finally:
        await episode.close()
    return Trajectory(
        id=f"{environment.name}/{task.id}",
        task_id=task.id,
        environment=environment.name,
        messages=played.messages,
        tools=tuple(episode.tools),
        reward=verdict.reward,
        success=verdict.success,
        stop=played.stop,
        info={"breakdown": verdict.breakdown},
    )


def oracle(environment: SyntheticEnvironment, task: TaskInstance, tools: Sequence[ToolSpec]) -> Actor:
    """Plays the gold actions."""
    return scripted(environment.oracle(task))


def idle(environment: SyntheticEnvironment, task: TaskInstance, tools: Sequence[ToolSpec]) -> Actor:
    """Says and does nothing."""
    return scripted(())


def give_up(environment: SyntheticEnvironment, task: TaskInstance, tools: Sequence[ToolSpec]) -> Actor:
    """Hands over to a human where there is a tool for it, and says sorry."""
    rng = random.Random(0)
    drawn = {
        tool.name: draw_arguments(tool.input_schema, ["too difficult"], rng)
        for tool in tools
        if _HAND_OVER.search(tool.name)
    }
    calls = [ToolCall(name=name, arguments=arguments) for name, arguments in drawn.items() if arguments is not None]
    return scripted([*calls[:1], SORRY])


def decline(environment: SyntheticEnvironment, task: TaskInstance, tools: Sequence[ToolSpec]) -> Actor:
    """Looks everything up that the oracle looks up before its first change, and then refuses."""
    return scripted(_reads_then(environment, task, tools, SORRY))


def claim_success(environment: SyntheticEnvironment, task: TaskInstance, tools: Sequence[ToolSpec]) -> Actor:
    """Changes nothing and says that all is done."""
    return scripted([DONE])


def look_and_claim(environment: SyntheticEnvironment, task: TaskInstance, tools: Sequence[ToolSpec]) -> Actor:
    """Looks up what the oracle looks up, changes nothing and says that all is done."""
    return scripted(_reads_then(environment, task, tools, DONE))


def random_calls(environment: SyntheticEnvironment, task: TaskInstance, tools: Sequence[ToolSpec]) -> Actor:
    """Makes a few calls that fit the schemas, with values heard in the conversation, and says that all is done."""
    return random_actor(tools, random.Random(f"random-calls-{task.id}"))


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
