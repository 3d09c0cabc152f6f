"""The conversation of an episode as a trace of verifiers', for its rewards to read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import verifiers.v1 as vf
from verifiers.v1.session import call_hook

from trace_agents.types import Message
from training.rollouts.messages import to_verifiers

Stops = Sequence[Callable[..., Any]]
"""A task's `@vf.stop` methods that read the trace."""
TOKENS = frozenset({"token_ids", "logprobs", "mask"})


class TokensUnavailable(vf.TaskError):
    """A reward or metric reads what only the agent knows."""


class OutsideNode(vf.MessageNode):
    """A message whose tokens only the agent knows."""

    def __getattribute__(self, name: str) -> Any:
        if name in TOKENS:
            raise TokensUnavailable(
                f"a reward or metric reads {name!r} of the trace, but an agent that plays over MCP says no tokens: "
                "score it with verifiers' own runner, or leave that function out"
            )
        return super().__getattribute__(name)


async def fill(trace: vf.Trace, policy: str, messages: Sequence[Message], stops: Stops = ()) -> None:
    """Make `messages` the trace's conversation, up to where verifiers would have refused the agent another turn."""
    trace.nodes = []
    if policy:
        _append(trace, Message(role="system", content=policy))
    for message in messages:
        if message.role == "assistant" and (stop := await _refused(trace, stops)) is not None:
            trace.stop(stop, override=True)
            return
        _append(trace, message)


async def _refused(trace: vf.Trace, stops: Stops) -> str | None:
    for stop in stops:
        if await call_hook(stop, {vf.Trace: trace}):
            return stop.__name__
    return None


def _append(trace: vf.Trace, message: Message) -> None:
    first = not trace.nodes
    trace.nodes.append(
        OutsideNode(
            parent=None if first else len(trace.nodes) - 1,
            tools=trace.tools if first else [],
            message=to_verifiers(message),
            sampled=message.role == "assistant",
        )
    )
