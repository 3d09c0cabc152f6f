"""Small trajectories written by hand, for the tests of the analysis."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from trace_agents.types import Message, StopReason, ToolCall, ToolSpec, Trajectory


class Call(NamedTuple):
    """A tool call with what it returned; an `error` makes the result an error."""

    tool: str
    arguments: dict[str, Any]
    result: Any = None
    error: str | None = None


class User(str):
    """Something the user says; plain strings are the agent's words."""


def talk(
    *turns: Call | str,
    task: str = "t",
    trial: int = 0,
    success: bool | None = False,
    system: str = "",
    stop: StopReason | None = None,
    tools: tuple[ToolSpec, ...] = (),
) -> Trajectory:
    """The trajectory of these turns."""
    messages = [Message(role="system", content=system)] if system else []
    for index, turn in enumerate(turns):
        if isinstance(turn, Call):
            messages += _call(turn, f"c{index}")
        else:
            messages.append(Message(role="user" if isinstance(turn, User) else "assistant", content=str(turn)))
    return Trajectory(
        id=f"{task}#{trial}",
        task_id=task,
        trial=trial,
        messages=tuple(messages),
        tools=tools,
        success=success,
        reward=None if success is None else float(success),
        stop=stop,
    )


def _call(turn: Call, identity: str) -> list[Message]:
    content = json.dumps({"error": turn.error} if turn.error else turn.result)
    return [
        Message(role="assistant", tool_calls=(ToolCall(id=identity, name=turn.tool, arguments=turn.arguments),)),
        Message(role="tool", tool_call_id=identity, name=turn.tool, content=content, is_error=turn.error is not None),
    ]
