"""An episode as an MCP server: its exact tools, its policy and its task, and nothing of the control plane."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import mcp_types as types
from mcp.server import Server
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.shared.exceptions import MCPError
from pydantic_core import from_json

from mcp_servers.guard import GuardedEpisode
from trace_agents import __version__
from trace_agents.environment import Episode
from trace_agents.errors import InfrastructureError, UsageError
from trace_agents.types import ToolResult, ToolSpec

POLICY_URI = "trace-agents://policy"
"""The resource that holds the policy."""
TASK_PROMPT = "task"
"""The prompt that holds the task: the simulated user's first message."""
FAILURE_KEY = "trace-agents/failure"
"""`_meta` key of a tool result that failed for reasons that are not the agent's; its value is the reason."""

Context = ServerRequestContext[Any, Any]
Page = types.PaginatedRequestParams
Resolve = Callable[[Context], GuardedEpisode]
"""Finds the episode that a request is about; raises `UsageError` where there is none."""


def episode_server(episode: Episode) -> Server[Any]:
    """An MCP server through which an agent plays `episode`, and can do nothing else.

    Tools carry the episode's own schemas. The policy travels as the server's instructions and as the resource
    `POLICY_URI`, the task as the prompt `TASK_PROMPT`. What goes wrong in a tool call is an `is_error` result,
    never a protocol error; one that is not the agent's fault carries `FAILURE_KEY` in its `_meta`.

    Raises:
        UsageError: a tool that MCP cannot carry: a repeated name, or a schema that is not an object's.
    """
    guarded = GuardedEpisode.of(episode)
    return _server(lambda _ctx: guarded, guarded.task.environment, guarded.policy)


def routed_server(resolve: Resolve, name: str) -> Server[Any]:
    """The same door to many episodes: `resolve` tells which one each request is about."""
    server = _server(resolve, name, None)

    async def give_policy(ctx: Context, call_next: CallNext) -> HandlerResult:
        result = await call_next(ctx)
        if ctx.method in ("initialize", "server/discover") and isinstance(result, dict):
            with suppress(UsageError):  # Connecting is allowed before an episode is named; it has no policy yet.
                return {**result, "instructions": resolve(ctx).policy}
        return result

    server.middleware.append(give_policy)
    return server


def _server(resolve: Resolve, name: str, instructions: str | None) -> Server[Any]:
    door = _Door(resolve)
    server: Server[Any] = Server(
        name,
        version=__version__,
        instructions=instructions,
        on_list_tools=door.list_tools,
        on_call_tool=door.call_tool,
        on_list_resources=door.list_resources,
        on_read_resource=door.read_resource,
        on_list_prompts=door.list_prompts,
        on_get_prompt=door.get_prompt,
    )
    server.middleware.append(door.state_tools)
    return server


class _Door:
    """Answers the agent's MCP requests for the episode that `resolve` finds."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve

    def _episode(self, ctx: Context) -> GuardedEpisode:
        try:
            return self._resolve(ctx)
        except UsageError as error:
            raise MCPError(types.INVALID_PARAMS, str(error)) from error

    async def list_tools(self, ctx: Context, params: Page | None) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[])  # `state_tools` lists them.

    async def state_tools(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        """List the tools as the environment states them, byte for byte.

        MCP's typed layer, which shapes what handlers return, drops nulls from the root of a schema and, for the
        handshake era, re-orders its keys.
        """
        result = await call_next(ctx)
        if ctx.method != "tools/list" or not isinstance(result, dict):
            return result
        return {**result, "tools": from_json(self._episode(ctx).listing)}

    async def call_tool(self, ctx: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        try:
            episode = self._resolve(ctx)
            result = await episode.call(params.name, params.arguments or {})
            return mcp_result(result)
        except (InfrastructureError, UsageError) as error:
            return _error(str(error), {FAILURE_KEY: str(error)})

    async def list_resources(self, ctx: Context, params: Page | None) -> types.ListResourcesResult:
        self._episode(ctx)
        description = "The rules the agent must follow."
        policy = types.Resource(uri=POLICY_URI, name="policy", description=description, mime_type="text/markdown")
        return types.ListResourcesResult(resources=[policy])

    async def read_resource(self, ctx: Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
        episode = self._episode(ctx)
        if params.uri != POLICY_URI:
            raise MCPError(types.INVALID_PARAMS, f"unknown resource {params.uri!r}: use {POLICY_URI!r}")
        text = types.TextResourceContents(uri=POLICY_URI, mime_type="text/markdown", text=episode.policy)
        return types.ReadResourceResult(contents=[text])

    async def list_prompts(self, ctx: Context, params: Page | None) -> types.ListPromptsResult:
        self._resolve(ctx)
        return types.ListPromptsResult(
            prompts=[types.Prompt(name=TASK_PROMPT, description="The user's first message.")]
        )

    async def get_prompt(self, ctx: Context, params: types.GetPromptRequestParams) -> types.GetPromptResult:
        episode = self._episode(ctx)
        if params.name != TASK_PROMPT:
            raise MCPError(types.INVALID_PARAMS, f"unknown prompt {params.name!r}: use {TASK_PROMPT!r}")
        content = types.TextContent(type="text", text=episode.task.prompt)
        return types.GetPromptResult(messages=[types.PromptMessage(role="user", content=content)])


def tool_spec(tool: types.Tool) -> ToolSpec:
    """What an MCP client listed, as the vocabulary's tool: what a server lists, in the keys that MCP's types know
    (`mcp_servers.listing` has all)."""
    notes = None if tool.annotations is None else tool.annotations.model_dump(by_alias=True, exclude_none=True)
    icons = None if tool.icons is None else [icon.model_dump(by_alias=True, exclude_none=True) for icon in tool.icons]
    return ToolSpec(
        name=tool.name,
        description=tool.description or "",
        input_schema=tool.input_schema,
        output_schema=tool.output_schema,
        annotations=notes,
        title=tool.title,
        icons=icons,
        meta=tool.meta,
    )


def mcp_result(result: ToolResult) -> types.CallToolResult:
    """`result` as MCP's."""
    content: list[types.ContentBlock] = [types.TextContent(type="text", text=result.content)]
    return types.CallToolResult(content=content, structured_content=result.structured, is_error=result.is_error)


def tool_result(result: types.CallToolResult) -> ToolResult:
    """What an MCP client got, as the vocabulary's result: the inverse of `mcp_result`.

    Agents here read text: what is not text is named in its place.

    Raises:
        InfrastructureError: the call failed for reasons that are not the agent's (`FAILURE_KEY`).
    """
    failure = (result.meta or {}).get(FAILURE_KEY)
    if failure is not None:
        raise InfrastructureError(str(failure))
    text = "\n".join(_read(block) for block in result.content)
    return ToolResult(content=text, is_error=bool(result.is_error), structured=result.structured_content)


def _read(block: types.ContentBlock) -> str:
    match block:
        case types.TextContent():
            return block.text
        case types.EmbeddedResource(resource=types.TextResourceContents() as resource):
            return resource.text
        case types.EmbeddedResource():
            return f"[resource {block.resource.uri}, {block.resource.mime_type or 'of unknown type'}: not text]"
        case types.ResourceLink():
            return f"[resource {block.uri}: {block.description or block.name}]"
        case types.ImageContent() | types.AudioContent():
            return f"[{block.type}, {block.mime_type}, {len(block.data) * 3 // 4} bytes: not text]"


def _error(message: str, meta: dict[str, Any]) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=message)], is_error=True, _meta=meta)
