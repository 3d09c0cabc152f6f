"""The tools of an MCP server as it states them, to the byte: MCP's own types know fewer keys, in an order of theirs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mcp_types as types
from mcp.client import Client
from pydantic import TypeAdapter

from trace_agents.types import ToolSpec

_RAW: TypeAdapter[Any] = TypeAdapter(dict[str, Any])


async def stated_tools(client: Client) -> list[ToolSpec]:
    """All tools, page by page, but for those that MCP has clients leave out.

    Raises:
        MCPError: the server refuses. ValueError: its answer is not the protocol's.
    """
    specs: list[ToolSpec] = []
    cursor: str | None = None
    while True:
        # The client's own listing as well: it checks results against what it has listed.
        kept = {tool.name for tool in (await client.list_tools(cursor=cursor)).tools}
        asked = types.ListToolsRequest(params=types.PaginatedRequestParams(cursor=cursor))
        page = await client.session.send_request(asked, _RAW)
        specs += [_spec(tool) for tool in page["tools"] if tool["name"] in kept]
        cursor = page.get("nextCursor")
        if not cursor:
            return specs


def _spec(stated: Mapping[str, Any]) -> ToolSpec:
    return ToolSpec(
        name=stated["name"],
        description=stated.get("description") or "",
        input_schema=stated["inputSchema"],
        output_schema=stated.get("outputSchema"),
        annotations=stated.get("annotations"),
        title=stated.get("title"),
        icons=stated.get("icons"),
        meta=stated.get("_meta"),
    )
