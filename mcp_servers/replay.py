"""The verdict on fixed actions over MCP: what checks of an installation and of an evaluator ask for."""

from __future__ import annotations

from collections.abc import Sequence

from mcp_servers.agents.loop import converse, scripted
from mcp_servers.agents.scripted import DO_NOTHING
from trace_agents.environment import Environment
from trace_agents.types import Action, Evaluation, TaskInstance

__all__ = ["DO_NOTHING", "replay"]


async def replay(environment: Environment, task: TaskInstance, actions: Sequence[Action]) -> Evaluation:
    """The verdict on an agent that does `actions` in order (calls, and texts to the user) until the user ends it.

    Raises:
        InfrastructureError: the environment failed.
    """
    episode = await environment.start(task)
    try:
        play = await converse(episode, lambda tools: scripted(actions), len(actions) + 1)
        return await episode.evaluate(play.messages)
    finally:
        await episode.close()
