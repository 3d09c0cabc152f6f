"""The agent's tools: LangChain tools over MCP, bound to one conversation's connection."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

from langchain_core.messages import ToolMessage
from langchain_core.messages.tool import tool_call
from langchain_core.tools import BaseTool, ToolException
from pydantic import PrivateAttr

from mcp_servers.server import tool_result, tool_spec
from trace_agents.calls import malformed_call
from trace_agents.types import ToolCall, ToolResult, ToolSpec

Call = Callable[[str, Mapping[str, Any]], Awaitable[ToolResult]]
"""Calls a tool by name. What the agent got wrong is an `is_error` result; what it did not is an exception."""


class McpClient(Protocol):
    """What is used of a connected MCP client (`mcp.Client`, `mcp.ClientSession`)."""

    async def list_tools(self, *, cursor: str | None = None) -> Any:
        """A page of tools."""

    async def call_tool(self, name: str, arguments: dict[str, Any] | None = None) -> Any:
        """A tool's result."""


class McpTool(BaseTool):
    """One MCP tool with its schema untouched; arguments are checked by the server, which words the error."""

    _call: Call = PrivateAttr()

    @classmethod
    def of(cls, spec: ToolSpec, call: Call) -> McpTool:
        """The tool `spec`, called through `call`."""
        tool = cls(name=spec.name, description=spec.description, args_schema=spec.input_schema, handle_tool_error=True)
        tool._call = call
        return tool

    def _run(self, *args: Any, **kwargs: Any) -> str:
        raise NotImplementedError(f"MCP tool {self.name!r} is asynchronous: use `ainvoke`")

    async def _arun(self, /, **arguments: Any) -> str:
        result = await self._call(self.name, arguments)
        if result.is_error:
            raise ToolException(result.content)
        return result.content


@dataclass(frozen=True)
class ToolSet:
    """The tools of one conversation."""

    tools: tuple[BaseTool, ...] = ()
    instructions: str | None = None
    """What the server says about itself (the policy); the agent reads it before the conversation."""
    unknown: Call | None = None
    """Answers calls of unknown tools, where the server has words of its own for them; None for the house's words."""

    @classmethod
    def of(cls, tools: ToolSet | Sequence[BaseTool]) -> ToolSet:
        """`tools` as a tool set; itself where it already is."""
        return tools if isinstance(tools, ToolSet) else cls(tuple(tools))

    async def answer(self, call: ToolCall) -> ToolMessage:
        """Run one call. The agent's mistakes are error messages for it to read; other failures raise."""
        names = [tool.name for tool in self.tools]
        if self.unknown is not None and call.name and call.name not in names and isinstance(call.arguments, dict):
            said = await self.unknown(call.name, call.arguments)
            status: Literal["error", "success"] = "error" if said.is_error else "success"
            return ToolMessage(said.content, tool_call_id=call.id, name=call.name, status=status)
        malformed = malformed_call(call, names)
        if malformed is not None:
            return ToolMessage(malformed.content, tool_call_id=call.id, name=call.name, status="error")
        tool = next(tool for tool in self.tools if tool.name == call.name)
        return await tool.ainvoke(tool_call(name=call.name, args=cast(dict[str, Any], call.arguments), id=call.id))


async def mcp_tools(client: McpClient, unknown_too: bool = False) -> ToolSet:
    """The tools of a connected MCP client, exactly as the server declares and answers them.

    For episodes of this project, in memory or over HTTP: a failure of the environment raises
    `InfrastructureError` and never reaches the agent. `unknown_too` asks the server about unknown tools as well.
    """

    async def call(name: str, arguments: Mapping[str, Any]) -> ToolResult:
        return tool_result(await client.call_tool(name, dict(arguments)))

    specs: list[ToolSpec] = []
    page = await client.list_tools()
    specs += map(tool_spec, page.tools)
    while page.next_cursor:
        page = await client.list_tools(cursor=page.next_cursor)
        specs += map(tool_spec, page.tools)
    instructions = getattr(client, "instructions", None)
    tools = tuple(McpTool.of(spec, call) for spec in specs)
    return ToolSet(tools, instructions, call if unknown_too else None)


@asynccontextmanager
async def connect_tools(target: Any) -> AsyncIterator[ToolSet]:
    """The tools of any MCP server that LangChain's `MCPAdapter` reaches: a URL, a script's path, an in-process server.

    A server that asks for input in a call interrupts the graph (`langchain.mcp.elicitation`).
    """
    from langchain_core._api import LangChainBetaWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LangChainBetaWarning)
        from langchain.mcp import MCPAdapter
    async with MCPAdapter(target) as adapter:
        schemas = {tool.name: tool.input_schema for tool in await adapter.client.list_tools()}
        # The adapter opens free-form objects in the schemas; prompts take them as the server declared them.
        tools = [tool.model_copy(update={"args_schema": schemas[tool.name]}) for tool in await adapter.list_tools()]
        yield ToolSet(tuple(tools), getattr(adapter.client, "instructions", None))
