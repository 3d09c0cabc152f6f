"""Playing episodes under verifiers' own environments: the same conversation, over the chat API that it intercepts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import httpx
import verifiers.v1 as vf
from mcp.client import Client
from verifiers.v1.clients import ModelContext
from verifiers.v1.runtimes import ProgramResult, Runtime

from mcp_servers.guard import GuardedEpisode
from mcp_servers.memory import connect
from mcp_servers.server import tool_spec
from trace_agents.calls import malformed_call
from trace_agents.registry import load_environment
from trace_agents.types import Message, ToolCall, ToolSpec
from training.rollouts.acting import answer, run_call
from training.rollouts.tasks import EnvironmentTaskData, EpisodeTrace


class EpisodeHarnessConfig(vf.HarnessConfig):
    """Nothing to set but what every harness has."""

    id: str = "training"
    timeout: float = 600.0
    """Seconds for one model call."""


class EpisodeHarness(vf.Harness[EpisodeHarnessConfig]):
    """An agent loop in this process. Its model calls go through verifiers' interception, its tool calls over MCP to
    an episode of its own, and the episode's verdict to the task's rewards."""

    APPENDS_SYSTEM_PROMPT = True
    EXECUTES_CODE = False
    NEEDS_CONTAINER = False

    async def launch(
        self,
        ctx: ModelContext,
        trace: EpisodeTrace,
        runtime: Runtime,
        endpoint: str,
        secret: str,
        mcp_urls: dict[str, str],
        data: EnvironmentTaskData,
    ) -> ProgramResult:
        """Play the episode of the task to its end and leave the verdict in `trace.state`."""
        environment = load_environment(data.environment)
        episode = GuardedEpisode.of(await environment.start(environment.task(data.id or "")))
        trace.info |= {"tool_errors": [], "malformed_calls": 0}
        headers = {"Authorization": f"Bearer {secret}"}
        try:
            async with (
                httpx.AsyncClient(base_url=endpoint, headers=headers, timeout=self.config.timeout) as model,
                connect(episode) as client,
            ):
                messages = await _Conversation(ctx.model, trace, episode, model, client).play()
            trace.state.evaluation = await episode.evaluate(messages[1:])
        finally:
            await episode.close()
        return ProgramResult(exit_code=0, stdout="", stderr="")


class _Conversation:
    """One conversation over the chat API."""

    def __init__(
        self, name: str, trace: EpisodeTrace, episode: GuardedEpisode, model: httpx.AsyncClient, client: Client
    ) -> None:
        self.name, self.trace, self.episode, self.model, self.client = name, trace, episode, model, client
        self.messages = [
            Message(role="system", content=episode.policy),
            Message(role="user", content=episode.task.prompt),
        ]

    async def play(self) -> list[Message]:
        """Until the user ends it or verifiers refuses another turn; returns all messages, the policy first."""
        tools = [tool_spec(tool) for tool in (await self.client.list_tools()).tools]
        while (reply := await self._ask(tools)) is not None:
            self.messages.append(reply)
            if reply.tool_calls:
                self.messages += [await self._act(call, [tool.name for tool in tools]) for call in reply.tool_calls]
                continue
            turn = await self.episode.user_turn(reply.content or "")
            if turn.done:
                break
            self.messages.append(Message(role="user", content=turn.content))
        return self.messages

    async def _ask(self, tools: Sequence[ToolSpec]) -> Message | None:
        """The agent's next message; None where verifiers has stopped the rollout."""
        body: dict[str, Any] = {"model": self.name, "messages": [message.openai() for message in self.messages]}
        if tools:
            body["tools"] = [tool.openai() for tool in tools]
        response = await self.model.post("chat/completions", json=body)
        if response.is_error and self.trace.stop_condition is not None:
            return None
        response.raise_for_status()
        message = response.json()["choices"][0]["message"]
        calls = tuple(_call(item) for item in message.get("tool_calls") or ())
        return Message(role="assistant", content=message.get("content"), tool_calls=calls)

    async def _act(self, call: ToolCall, tools: Sequence[str]) -> Message:
        self.trace.info["malformed_calls"] += malformed_call(call, tools) is not None
        result = await run_call(call, tools, self.client)
        if result.is_error:
            self.trace.info["tool_errors"].append(call.id)
        return answer(call, result)


def _call(item: dict[str, Any]) -> ToolCall:
    text = item["function"].get("arguments") or "{}"
    try:
        arguments = json.loads(text)
    except json.JSONDecodeError:
        arguments = text
    known = arguments if isinstance(arguments, dict) else text
    return ToolCall(id=item.get("id") or "", name=item["function"]["name"], arguments=known)
