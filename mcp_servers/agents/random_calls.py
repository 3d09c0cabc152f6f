"""An agent that makes valid calls at random: what a reward gives for activity alone."""

from __future__ import annotations

import random
from collections.abc import Sequence

from mcp_servers.agents.draws import draw_arguments, values_in
from mcp_servers.agents.loop import Actor, converse
from trace_agents.agent import AgentRequest, Play, PlaySettings
from trace_agents.environment import Episode
from trace_agents.types import Action, Message, ToolCall, ToolSpec

MOST_CALLS = 6
DONE = "All done. Everything you asked for has been taken care of."


def random_actor(tools: Sequence[ToolSpec], rng: random.Random) -> Actor:
    """Makes one to `MOST_CALLS` calls that fit the schemas, says that all is done, and stops.

    A tool whose schema no draw meets is passed over; without any other, nothing is called.
    """
    count = rng.randint(1, MOST_CALLS)

    def act(messages: Sequence[Message]) -> Action | None:
        made = sum(len(message.tool_calls) for message in messages)
        heard = values_in(messages)
        for tool in rng.sample(list(tools), len(tools)) if made < count else ():
            arguments = draw_arguments(tool.input_schema, heard, rng)
            if arguments is not None:
                return ToolCall(name=tool.name, arguments=arguments)
        return None if any(message.role == "assistant" and message.content for message in messages) else DONE

    return act


class RandomCalls:
    """Makes valid calls at random and says that all is done. The same seed draws the same for the same task."""

    name = "random"

    def __init__(self, request: AgentRequest) -> None:
        """An agent for any environment."""

    async def play(self, episode: Episode, settings: PlaySettings) -> Play:
        """Call at random, then close."""
        rng = random.Random(f"random-calls-{episode.task.id}-{settings.seed}")
        return await converse(episode, lambda tools: random_actor(tools, rng), settings.max_turns)
