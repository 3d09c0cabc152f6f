"""The agent seam: anything that plays an episode, so that one evaluation measures them all.

An agent is found by name (`trace_agents.agents` entry points), by URL (`trace_agents.agent_schemes`), or as
`package.module:attribute` or `path/file.py:attribute`. What is found is called with an `AgentRequest` and gives an
`Agent`; an object that already is one is used as it is.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Protocol, cast, runtime_checkable

from pydantic import Field

from trace_agents.endpoint import Sampling
from trace_agents.environment import Environment, Episode
from trace_agents.errors import InfrastructureError, UsageError, unknown
from trace_agents.registry import import_attribute
from trace_agents.types import Message, Record, StopReason

GROUP = "trace_agents.agents"
SCHEME_GROUP = "trace_agents.agent_schemes"
"""Entry points that open agents by URL: the name is a scheme (`http`)."""


class PlaySettings(Record):
    """How one episode is played."""

    max_turns: int = 50
    """Most turns of the agent; a turn is one message of it, whatever it calls in it."""
    seed: int = 0
    """Makes the play of an agent that draws at random reproducible."""


class Play(Record):
    """What an agent did in an episode."""

    messages: tuple[Message, ...]
    """The conversation for `Episode.evaluate`: user, assistant and tool messages in order."""
    stop: StopReason
    """Why it ended."""
    info: dict[str, Any] = Field(default_factory=dict)
    """What the agent tells of itself, as JSON values: its route, tokens read and written."""


@runtime_checkable
class Agent(Protocol):
    """Plays episodes, any number at once, tools over MCP."""

    name: str
    """What results call it."""

    async def play(self, episode: Episode, settings: PlaySettings) -> Play:
        """Play a fresh episode to its end; the caller evaluates and closes it.

        Raises:
            InfrastructureError: the environment or the agent's model failed: the episode has no reward.
        """


@dataclass(frozen=True)
class AgentRequest:
    """What an agent is made for."""

    spec: str
    """What the user named it by: a registered name, a URL or an import path."""
    environment: Environment
    sampling: Sampling
    """Temperature and most tokens of a turn, for agents that sample."""
    context_tokens: int = 32_768
    """Most tokens that a model may read and write in one conversation."""


def agent_names() -> list[str]:
    """Names of the registered agents."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def load_agent(request: AgentRequest) -> Agent:
    """The agent that `request.spec` names.

    Raises:
        UsageError: nothing is registered or importable under the name, it is not an agent, or it cannot play this
            environment (an oracle where the environment has no gold actions).
    """
    spec = request.spec
    points = {point.name: point for point in entry_points(group=GROUP)}
    schemes = {point.name: point for point in entry_points(group=SCHEME_GROUP)}
    scheme = spec.partition(":")[0].lower()
    if spec in points:
        target = points[spec].load()
    elif scheme in schemes:
        target = schemes[scheme].load()
    elif "://" in spec:
        raise unknown("URL scheme", scheme, list(schemes))
    elif ":" in spec:
        target = import_attribute(spec, "agent")
    else:
        raise unknown("agent", spec, [*points, *map(_spelling, schemes), "package.module:Class", "file.py:Class"])
    made = target
    if isinstance(target, type) or not isinstance(target, Agent):
        made = _made(cast(Callable[[AgentRequest], object], target), request) if callable(target) else target
    if not isinstance(made, Agent) or not isinstance(made.name, str):
        raise UsageError(
            f"agent {spec!r} gives a {type(made).__name__}, not an agent: it needs a name, as text, and play "
            "(trace_agents.agent.Agent)"
        )
    return made


def _spelling(scheme: str) -> str:
    others = {"http": "http://HOST:PORT/v1#MODEL", "https": "https://HOST/v1#MODEL", "run": "run:RUN_DIR"}
    return others.get(scheme, f"{scheme}:MODEL")


def _made(target: Callable[[AgentRequest], object], request: AgentRequest) -> object:
    try:
        return target(request)
    except (UsageError, InfrastructureError, OSError):
        raise
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        raise UsageError(
            f"agent {request.spec!r} could not be made: {type(error).__name__}: {error} ({frame.filename}, line "
            f"{frame.lineno}): it is called with an AgentRequest"
        ) from error
