"""The ceiling and the floors: gold replay, one sentence and nothing else, and polite refusal without end."""

from __future__ import annotations

from mcp_servers.agents.loop import converse, scripted
from trace_agents.agent import AgentRequest, Play, PlaySettings
from trace_agents.environment import Episode, HasOracle
from trace_agents.errors import TaskUnavailable, UsageError

SORRY = "I am sorry, but I cannot help you with this."
DO_NOTHING: tuple[str, ...] = (SORRY,)
"""The actions of an agent that says one sentence and does nothing."""
DECLINE = "Thank you for asking, and I am sorry: I cannot help you with that."
"""What an agent says that declines everything."""


class Oracle:
    """Plays each task's gold actions: the ceiling, below 1 only where the environment is at fault."""

    name = "oracle"

    def __init__(self, request: AgentRequest) -> None:
        """The oracle of the requested environment.

        Raises:
            UsageError: the environment does not know how its tasks are solved.
        """
        if not isinstance(request.environment, HasOracle):
            raise UsageError(
                f"agent {request.spec!r} needs gold actions, which environment {request.environment.name!r} does not "
                "have: give it an oracle (trace_agents.environment.HasOracle), or choose another agent"
            )
        self._environment: HasOracle = request.environment

    async def play(self, episode: Episode, settings: PlaySettings) -> Play:
        """Do the gold actions, whatever is said.

        Raises:
            TaskUnavailable: this task has none.
        """
        try:
            actions = self._environment.oracle(episode.task)
        except UsageError as error:
            raise TaskUnavailable(str(error)) from error
        return await converse(episode, lambda tools: scripted(actions), settings.max_turns)


class DoNothing:
    """Says one sentence and does nothing."""

    name = "do-nothing"

    def __init__(self, request: AgentRequest) -> None:
        """An agent for any environment."""

    async def play(self, episode: Episode, settings: PlaySettings) -> Play:
        """Say `DO_NOTHING` and stop."""
        return await converse(episode, lambda tools: scripted(DO_NOTHING), settings.max_turns)


class Decline:
    """Declines politely whatever is said, until the user gives up."""

    name = "decline"

    def __init__(self, request: AgentRequest) -> None:
        """An agent for any environment."""

    async def play(self, episode: Episode, settings: PlaySettings) -> Play:
        """Say `DECLINE` at every turn."""
        return await converse(episode, lambda tools: lambda messages: DECLINE, settings.max_turns)
