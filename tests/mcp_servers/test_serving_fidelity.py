"""What the environment states is what an agent reads, over every transport and in both protocol eras."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from environment_serving import Served
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_environment import TOOLS, Ledger, LedgerEpisode
from mcp import StdioServerParameters
from mcp.client import Client
from mcp.client.stdio import stdio_client

from mcp_servers.helpdesk import Helpdesk
from mcp_servers.memory import connect
from mcp_servers.server import POLICY_URI, TASK_PROMPT, episode_server, tool_spec
from trace_agents.types import ToolSpec

ERAS = {"auto": "2026-07-28", "legacy": "2025-11-25"}
TASK = Ledger().task("train/1")
HANDSHAKE = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}


@asynccontextmanager
async def opened(transport: str, mode: str, ledger: Served) -> AsyncIterator[Client]:
    """An MCP client on an episode of `TASK`."""
    if transport == "memory":
        server: Any = episode_server(LedgerEpisode(TASK))
    elif transport == "http":
        server = ledger.url + httpx.post(f"{ledger.url}/episodes", json={"task_id": TASK.id}).json()["mcp_path"]
    else:
        server = stdio_client(stdio_parameters(TASK.id))
    async with Client(server, mode=mode) as client:
        yield client


def stdio_parameters(task_id: str) -> StdioServerParameters:
    """The ledger's episode of `task_id` as a process."""
    path = Path(__file__).with_name("ledger_environment.py")
    arguments = ["-c", "import sys; from trace_agents.cli import main; sys.exit(main())"]
    return StdioServerParameters(
        command=sys.executable, args=[*arguments, "serve", f"{path}:Ledger", "--stdio", "--task", task_id]
    )


@pytest.mark.parametrize("mode", ERAS)
@pytest.mark.parametrize("transport", ["memory", "http", "stdio"])
async def test_an_agent_reads_exactly_what_the_environment_states(transport: str, mode: str, ledger: Served) -> None:
    async with opened(transport, mode, ledger) as client:
        assert client.protocol_version == ERAS[mode]
        listed = [tool_spec(tool) for tool in (await client.list_tools()).tools]
        assert listed == list(TOOLS)
        assert [json.dumps(spec.input_schema) for spec in listed] == [json.dumps(spec.input_schema) for spec in TOOLS]
        policy = LedgerEpisode(TASK).policy
        assert client.instructions == policy
        [resource] = (await client.list_resources()).resources
        assert (resource.uri, (await client.read_resource(POLICY_URI)).contents[0].text) == (POLICY_URI, policy)
        [prompt] = (await client.list_prompts()).prompts
        [message] = (await client.get_prompt(prompt.name)).messages
        assert (prompt.name, message.role, message.content.text) == (TASK_PROMPT, "user", TASK.prompt)
        result = await client.call_tool("transfer", {"from": "ann", "to": "bob", "amount": 5, "note": None})
        assert (result.content[0].text, result.is_error) == ('{"moved": 5, "note": null}', False)


def test_tool_schemas_have_the_same_bytes_in_a_prompt_over_every_transport(ledger: Served) -> None:
    async def prompts() -> set[str]:
        found = set()
        for transport in ("memory", "http"):
            for mode in ERAS:
                async with opened(transport, mode, ledger) as client:
                    listed = [tool_spec(tool).openai() for tool in (await client.list_tools()).tools]
                found.add(repr(listed))
        return found

    assert asyncio.run(prompts()) == {repr([spec.openai() for spec in TOOLS])}


@pytest.mark.parametrize("version", ["2025-03-26", "2025-06-18", "2025-11-25"])
def test_a_handshake_era_exchange_in_plain_http_plays_the_episode(version: str, ledger: Served) -> None:
    path = httpx.post(f"{ledger.url}/episodes", json={"task_id": TASK.id}).json()["mcp_path"]
    headers = HANDSHAKE | {"MCP-Protocol-Version": version}

    def ask(method: str, params: dict[str, Any], number: int | None) -> httpx.Response:
        numbered = {} if number is None else {"id": number}
        body = {"jsonrpc": "2.0", "method": method, "params": params} | numbered
        return httpx.post(ledger.url + path, json=body, headers=HANDSHAKE if method == "initialize" else headers)

    info = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "plain", "version": "0"}}
    initialized = ask("initialize", info, 1).json()["result"]
    assert (initialized["protocolVersion"], initialized["instructions"]) == (version, LedgerEpisode(TASK).policy)
    assert ask("notifications/initialized", {}, None).status_code == 202
    tools = ask("tools/list", {}, 2).json()["result"]["tools"]
    assert {tool["name"]: tool["inputSchema"] for tool in tools} == {spec.name: spec.input_schema for spec in TOOLS}
    answer = ask("tools/call", {"name": "balance", "arguments": {"account": "ann"}}, 3)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["result"]["content"][0]["text"] == f'{{"balance": {TASK.data["accounts"]["ann"]}}}'


def test_a_2026_exchange_in_plain_http_needs_no_handshake(ledger: Served) -> None:
    path = httpx.post(f"{ledger.url}/episodes", json={"task_id": TASK.id}).json()["mcp_path"]
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "plain", "version": "0"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    headers = HANDSHAKE | {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "balance"}
    params = {"name": "balance", "arguments": {"account": "bob"}, "_meta": meta}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    answer = httpx.post(ledger.url + path, json=body, headers=headers)
    assert answer.json()["result"]["content"][0]["text"] == f'{{"balance": {TASK.data["accounts"]["bob"]}}}'
    assert "mcp-session-id" not in answer.headers


@pytest.mark.parametrize("mode", ERAS)
async def test_the_helpdesk_reads_the_same_to_an_mcp_client(mode: str) -> None:
    episode = await Helpdesk().start(Helpdesk().task("train-000"))
    async with Client(episode_server(episode), mode=mode) as client:
        assert [tool_spec(tool) for tool in (await client.list_tools()).tools] == list(episode.tools)
        assert client.instructions == episode.policy


def test_what_is_for_people_is_in_no_prompt_and_in_no_record_without_it() -> None:
    bare = ToolSpec(name="balance", description="The balance.")
    titled = bare.model_copy(update={"title": "Balance", "icons": [{"src": "x"}], "meta": {"a": 1}})
    assert titled.openai() == bare.openai()
    assert set(bare.model_dump()) == {"name", "description", "input_schema", "output_schema", "annotations"}
    assert ToolSpec.model_validate_json(titled.model_dump_json()) == titled


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=30, deadline=None)
@given(properties=st.dictionaries(st.text(), st.dictionaries(st.text(), JSON, max_size=3), max_size=3), extra=JSON)
def test_any_schema_travels_unchanged(properties: dict[str, Any], extra: Any) -> None:
    schema = {"type": "object", "properties": properties, "x-extra": extra}
    episode = LedgerEpisode(TASK)
    episode.tools = (ToolSpec(name="any", description="d", input_schema=schema),)

    async def listed() -> list[ToolSpec]:
        async with connect(episode) as client:
            return [tool_spec(tool) for tool in (await client.list_tools()).tools]

    assert asyncio.run(listed()) == list(episode.tools)
