"""An agent program as verifiers' own are, but in this process; model and tool servers are verifiers' to give."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import httpx
import verifiers.v1 as vf
from verifiers.v1.dialects.chat import message_to_wire
from verifiers.v1.harnesses.utils.mcp import call_mcp, connect_mcp

__all__ = ["LoopHarness"]


class LoopHarness(vf.Harness[vf.HarnessConfig]):
    """Asks the model until it says something, and calls the tools that it names."""

    APPENDS_SYSTEM_PROMPT = True
    SUPPORTS_MCP = True
    SUPPORTS_RESUME = True
    EXECUTES_CODE = False
    NEEDS_CONTAINER = False

    async def launch(
        self,
        ctx: vf.ModelContext,
        trace: vf.Trace,
        runtime: vf.Runtime,
        endpoint: str,
        secret: str,
        mcp_urls: dict[str, str],
        data: vf.TaskData,
    ) -> vf.ProgramResult:
        """One segment."""
        headers = {"Authorization": f"Bearer {secret}"}
        async with AsyncExitStack() as stack:
            model = await stack.enter_async_context(httpx.AsyncClient(base_url=endpoint, headers=headers, timeout=600))
            urls = {name: {"url": url} for name, url in mcp_urls.items()}
            tools, dispatch, servers = await connect_mcp({"mcpServers": urls}, stack)
            messages = _opening(data)
            while True:
                body = {"model": ctx.model, "messages": messages, "tools": tools}
                answer = await model.post("chat/completions", json=body)
                if answer.is_error and trace.stop_condition is not None:
                    break
                answer.raise_for_status()
                message = answer.json()["choices"][0]["message"]
                messages.append(message)
                for call in message.get("tool_calls") or ():
                    asked = call["function"]
                    said = await call_mcp(servers, dispatch, asked["name"], json.loads(asked["arguments"]))
                    messages.append({"role": "tool", "tool_call_id": call["id"], "content": said})
                if not message.get("tool_calls"):
                    break
        return vf.ProgramResult(exit_code=0, stdout="", stderr="")


def _opening(data: vf.TaskData) -> list[dict[str, Any]]:
    system: Sequence[vf.Message] = [vf.SystemMessage(content=data.system_prompt)] if data.system_prompt else []
    user = [vf.UserMessage(content=data.prompt)] if isinstance(data.prompt, str) else data.prompt or []
    return [message_to_wire(message) for message in [*system, *user]]
