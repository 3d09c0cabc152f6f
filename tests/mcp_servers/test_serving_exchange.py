"""Tool calls that are answered in one exchange read as MCP's own manager would answer them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from ledger_environment import Ledger, LedgerEpisode
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.types import Receive, Scope, Send

from mcp_servers.exchange import CallDoor
from mcp_servers.guard import GuardedEpisode
from mcp_servers.server import episode_server
from trace_agents.types import ToolSpec

JSON = {"Accept": "application/json", "Content-Type": "application/json"}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "plain", "version": "0"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
MODERN = JSON | {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "balance"}
OLD = JSON | {"MCP-Protocol-Version": "2025-06-18"}
LONGEST = 2000
CALL = {"name": "balance", "arguments": {"account": "ann"}}


def body(params: Any, **other: Any) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params} | other)


def modern(**params: Any) -> str:
    return body(CALL | {"_meta": META} | params)


CALLS = {
    "a call of the 2026 era": (MODERN, modern()),
    "one with null among its arguments": (MODERN, modern(arguments={"account": None})),
    "a call of 2025": (OLD, body(CALL)),
    "one whose id is text": (OLD, body(CALL, id="seven")),
    "a tool that raises": (OLD, body({"name": "transfer", "arguments": {}})),
    "an unknown tool": (OLD, body({"name": "nothing"})),
    "an unknown tool of 2026": (MODERN | {"Mcp-Name": "nothing"}, modern(name="nothing")),
    "no name": (OLD, body({"arguments": {}})),
    "no name in 2026": (MODERN, body({"_meta": META})),
    "arguments that are no object": (OLD, body(CALL | {"arguments": [1]})),
    "arguments of 2026 that are no object": (MODERN, modern(arguments=[1])),
    "no parameters": (OLD, body(None)),
}
OTHERS = {
    "another method in the header": (MODERN | {"Mcp-Method": "tools/list"}, modern()),
    "another name in the header": (MODERN | {"Mcp-Name": "transfer"}, modern()),
    "no header of the method": (JSON | {"MCP-Protocol-Version": "2026-07-28"}, modern()),
    "a header that a parameter does not fit": (MODERN | {"Mcp-Name": "pay", "Mcp-Param-To": "bob"}, modern(name="pay")),
    "no envelope": (MODERN, body(CALL)),
    "an unknown version": (JSON | {"MCP-Protocol-Version": "1999-01-01"}, modern()),
    "no version": (JSON, body(CALL)),
    "a listing": (OLD, body(None, method="tools/list")),
    "a notification": (OLD, json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"})),
    "a batch": (OLD, f"[{body(CALL)}]"),
    "no JSON": (OLD, "{"),
    "nothing": (OLD, ""),
    "another media type": (OLD | {"Content-Type": "text/plain"}, body(CALL)),
    "a client that takes no JSON": (OLD | {"Accept": "text/html"}, body(CALL)),
    "a long body": (OLD, body(CALL | {"filler": "x" * LONGEST})),
}


async def asked(headers: dict[str, str], content: str, with_door: bool) -> tuple[bool, int, str | None, Any]:
    """Whether the door answered; and the answer's status, media type and content."""
    episode = LedgerEpisode(Ledger().task("train/1"))
    schema = {"type": "object", "properties": {"to": {"type": "string", "x-mcp-header": "To"}}}
    episode.tools = (*episode.tools, ToolSpec(name="pay", input_schema=schema))
    guarded = GuardedEpisode(episode)
    server = episode_server(guarded)
    manager = StreamableHTTPSessionManager(server, json_response=True, stateless=True, max_request_body_size=LONGEST)
    answered = False

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal answered
        left = await CallDoor(server, LONGEST).answer(guarded, scope, receive, send) if with_door else receive
        answered = left is None
        if left is not None:
            await manager.handle_request(scope, left, send)

    async with manager.run(), httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
        response = await client.post("http://127.0.0.1/", headers=headers, content=content)
    media = response.headers.get("content-type")
    told = response.json() if media == "application/json" and response.content else response.text
    return answered, response.status_code, media, told


@pytest.mark.parametrize("name", [*CALLS, *OTHERS])
def test_a_request_is_answered_as_the_manager_answers_it(name: str) -> None:
    headers, content = (CALLS | OTHERS)[name]
    answered, *ours = asyncio.run(asked(headers, content, True))
    _, *manager = asyncio.run(asked(headers, content, False))
    assert ours == manager
    assert not answered or name in CALLS


@pytest.mark.parametrize("name", ["a call of the 2026 era", "a call of 2025", "an unknown tool", "no name"])
def test_plain_calls_need_no_manager(name: str) -> None:
    answered, *_ = asyncio.run(asked(*CALLS[name], True))
    assert answered
