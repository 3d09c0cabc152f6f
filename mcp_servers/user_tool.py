"""The simulated user as one more tool, for agents that can do nothing but call tools: `trace-agents serve --user-tool`.

The conversation is then kept here: what the agent says through the tool is the assistant's text, as it is where a host
carries it to the user, and no tool call of the benchmark's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mcp_servers.guard import GuardedEpisode
from trace_agents.environment import Episode, KeepsRecord
from trace_agents.errors import InfrastructureError, UsageError
from trace_agents.files import append_lines
from trace_agents.types import (
    Evaluation,
    Message,
    StopReason,
    ToolCall,
    ToolResult,
    ToolSpec,
    Trajectory,
    UserTurn,
)

NAME = "reply_to_user"
"""The tool, where the episode has no tool of that name."""
OVER = "The user has ended the conversation."
DESCRIPTION = (
    "Say something to the user, and get the user's answer: nothing else that you write reaches the user. "
    "An empty message says nothing, and gives the user's last message again."
)
SCHEMA = {
    "type": "object",
    "properties": {"message": {"type": "string", "description": "What you say to the user."}},
    "required": ["message"],
    "additionalProperties": False,
}
VERDICT_WAIT_S = 120.0
"""How long an episode that ends is waited for, where a call is still running or the verdict takes long."""


class TalkingEpisode(Episode):
    """An episode with the user as a tool; it records what happens in it."""

    def __init__(self, episode: Episode) -> None:
        self._inner = GuardedEpisode.of(episode)
        self.task, self.policy = self._inner.task, self._inner.policy
        self.reply = ToolSpec(name=free_name(self._inner.specs), description=DESCRIPTION, input_schema=SCHEMA)
        """The tool that is added."""
        self.tools: Sequence[ToolSpec] = (*self._inner.tools, self.reply)
        self._messages = [Message(role="user", content=self.task.prompt)]
        self._over = False
        if isinstance(self._inner, KeepsRecord):
            self.record = partial(self._record, self._inner)  # Only then, as in `GuardedEpisode`.

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation so far: the user's and the agent's texts, the benchmark's calls and results."""
        return tuple(self._messages)

    @property
    def over(self) -> bool:
        """The user has ended the conversation."""
        return self._over

    async def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        """Run a tool of the benchmark, or hear the user. Once the conversation is over, nothing can be done."""
        if self._over:
            return ToolResult(content=f"{OVER} Nothing more can be done.", is_error=True)
        if name == self.reply.name:
            return await self._reply(arguments)
        number = f"call_{len(self._messages)}"
        result = await self._inner.call(name, arguments)
        call = ToolCall(id=number, name=name, arguments=dict(arguments))
        told = Message(role="tool", content=result.content, tool_call_id=number, name=name, is_error=result.is_error)
        self._messages += [Message(role="assistant", tool_calls=(call,)), told]
        return result

    async def unknown_tool(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        """The benchmark's refusal, which is recorded as what the agent did."""
        return await self.call(name, arguments)

    async def user_turn(self, message: str) -> UserTurn:
        """The user's answer, whichever way the agent's text came."""
        turn = await self._inner.user_turn(message)
        self._over = turn.done
        self._messages.append(Message(role="assistant", content=message))
        if turn.content is not None:
            self._messages.append(Message(role="user", content=turn.content))
        return turn

    async def evaluate(self, messages: Sequence[Message]) -> Evaluation:
        """The verdict on the recorded conversation."""
        return await self._inner.evaluate(self._whole(messages))

    async def _record(self, keeps: KeepsRecord, messages: Sequence[Message]) -> Mapping[str, Any]:
        """What the benchmark keeps of the recorded conversation."""
        return await keeps.record(self._whole(messages))

    def _whole(self, messages: Sequence[Message]) -> Sequence[Message]:
        """The recorded conversation.

        Of the host's account `messages`, which may be empty, only a last text is taken that the user did not hear.
        """
        last = messages[-1] if messages else Message(role="user")
        kept = self.messages
        said = next((one.content for one in reversed(kept) if one.role == "assistant" and not one.tool_calls), None)
        if last.role == "assistant" and not last.tool_calls and last.content and last.content != said:
            kept = (*kept, last)
        return kept

    async def close(self) -> None:
        """End the episode."""
        await self._inner.close()

    async def _reply(self, arguments: Mapping[str, Any]) -> ToolResult:
        text = arguments.get("message")
        if not isinstance(text, str) or len(arguments) != 1:
            return ToolResult(
                content=f"bad arguments for tool {self.reply.name!r}: give a text 'message'", is_error=True
            )
        if not text.strip():
            heard = next((one.content for one in reversed(self._messages) if one.role == "user"), None)
            return ToolResult(content=heard or "")
        turn = await self.user_turn(text)
        return ToolResult(content=OVER if turn.content is None else turn.content)


def free_name(taken: Mapping[str, Any]) -> str:
    """`NAME`, with a number where the episode has a tool of that name."""
    name, number = NAME, 1
    while name in taken:
        number += 1
        name = f"{NAME}_{number}"
    return name


@dataclass(frozen=True)
class UserTool:
    """That an environment's episodes are served with the user as a tool."""

    record: Path | None = None
    """File of JSON lines that gets each episode's trajectory and verdict as it ends; None where nobody asks."""

    async def keep(self, episode_id: str, talking: TalkingEpisode, guarded: GuardedEpisode) -> None:
        """Write the episode, about to be closed, to the record."""
        if self.record is None:
            return
        kept = Trajectory(
            id=episode_id,
            task_id=talking.task.id,
            environment=talking.task.environment,
            messages=talking.messages,
            tools=tuple(spec for spec in talking.tools if spec != talking.reply),
            stop=StopReason.USER if talking.over else StopReason.AGENT,
        )
        try:
            async with asyncio.timeout(VERDICT_WAIT_S):
                verdict = await guarded.evaluate(())
            found: dict[str, Any] = {"reward": verdict.reward, "success": verdict.success}
            found["info"] = {"breakdown": verdict.breakdown}
        except (InfrastructureError, UsageError, TimeoutError) as error:
            found = {"stop": StopReason.ERROR, "error": str(error) or f"no verdict within {VERDICT_WAIT_S:g} s"}
        # Which trial of its task it is, whoever reads the file counts.
        append_lines(self.record, [kept.model_copy(update=found).model_dump_json(exclude={"trial"})])
