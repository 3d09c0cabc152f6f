"""What goes wrong in a tool call is something the agent reads, and blame lands at the right door."""

from __future__ import annotations

import asyncio

import mcp_types as types
import pytest
from ledger_environment import PRIVATE_TOOL, Ledger, LedgerEpisode
from mcp.client import Client
from mcp.shared.exceptions import MCPError

from mcp_servers.control import PREFIX, ControlParams, ControlResult
from mcp_servers.guard import GuardedEpisode
from mcp_servers.memory import connect
from mcp_servers.server import FAILURE_KEY, episode_server, tool_result
from trace_agents.errors import InfrastructureError, UsageError
from trace_agents.types import ToolSpec


def episode() -> LedgerEpisode:
    return LedgerEpisode(Ledger().task("train/0"))


MISTAKES = {
    "refused": ("balance", {"account": "zoe"}, '{"error": "no account zoe"}'),
    "missing": ("transfer", {"from": "ann", "to": "bob"}, "bad arguments for tool 'transfer': arguments: 'amount' is"),
    "mistyped": (
        "transfer",
        {"from": "ann", "to": "B", "amount": "5"},
        "bad arguments for tool 'transfer': amount: '5' is not of type 'integer'; to: 'B' does not match '^[a-z]+$'",
    ),
}
FAILURES = {
    "outage": ("outage", {}, "the bank's back end is down"),
    "crash": ("transfer", {"from": "ann", "to": "zoe", "amount": 5}, "tool 'transfer' failed: KeyError: 'zoe'"),
    "no result": ("untyped", {}, "tool 'untyped' returned a str: episodes return a ToolResult"),
    "text": ("garble", {}, "tool 'garble' declares an output schema but returned text: Expecting value"),
    "misfit": ("misreport", {}, "tool 'misreport' broke its own output schema: [] is not of type 'object'"),
}


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize(("tool", "arguments", "text"), MISTAKES.values(), ids=MISTAKES)
async def test_the_agents_mistakes_are_error_results(mode: str, tool: str, arguments: dict, text: str) -> None:
    async with Client(episode_server(episode()), mode=mode) as client:
        result = tool_result(await client.call_tool(tool, arguments))
    assert result.is_error
    assert result.content.startswith(text)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize(("tool", "arguments", "reason"), FAILURES.values(), ids=FAILURES)
async def test_the_environments_failures_are_readable_and_marked(
    mode: str, tool: str, arguments: dict, reason: str
) -> None:
    async with Client(episode_server(episode()), mode=mode) as client:
        result = await client.call_tool(tool, arguments)
    assert result.is_error
    assert result.content[0].text.startswith(reason)
    assert result.meta[FAILURE_KEY] == result.content[0].text
    with pytest.raises(InfrastructureError, match=reason.split(":")[0]):
        tool_result(result)


async def test_a_tool_that_the_episode_does_not_offer_cannot_be_called() -> None:
    played = episode()
    before = dict(played.accounts)
    async with connect(played) as client:
        for name in (PRIVATE_TOOL, "evaluate", "close", "__class__"):
            result = await client.call_tool(name, {})
            assert result.is_error
            assert result.content[0].text.startswith(f"unknown tool {name!r}: use one of 'balance', 'transfer'")
    assert (played.accounts, played.closes) == (before, 0)


async def test_the_agents_door_has_no_control_plane_behind_it() -> None:
    async with connect(episode()) as client:
        for operation in ("evaluate", "user_turn", "create", "delete"):
            request = types.Request[ControlParams, str](method=PREFIX + operation, params=ControlParams())
            with pytest.raises(MCPError, match="Method not found"):
                await client.session.send_request(request, ControlResult)


async def test_what_a_host_raises_while_connected_arrives_as_it_was_raised() -> None:
    with pytest.raises(InfrastructureError, match="the engine is gone") as raised:
        async with connect(episode()):
            raise InfrastructureError("the engine is gone") from OSError("broken pipe")
    assert isinstance(raised.value.__cause__, OSError)


async def test_structured_content_accompanies_a_declared_output_schema() -> None:
    played = episode()
    async with connect(played) as client:
        result = await client.call_tool("audit", {})
    assert result.structured_content == played.accounts


async def test_simultaneous_calls_run_one_at_a_time_in_order() -> None:
    played = episode()
    start = played.accounts["bob"]
    async with connect(played) as client:
        moves = ({"from": "ann", "to": "bob", "amount": amount} for amount in (1, 2, 3))
        results = await asyncio.gather(*(client.call_tool("transfer", move) for move in moves))
    assert [result.content[0].text for result in results] == [f'{{"moved": {n}, "note": null}}' for n in (1, 2, 3)]
    assert played.accounts["bob"] == start + 6


async def test_closing_waits_for_the_call_in_progress_and_happens_once() -> None:
    played = episode()
    guarded = GuardedEpisode(played)
    calling = asyncio.create_task(guarded.call("balance", {"account": "ann"}))
    await asyncio.sleep(0)
    assert guarded.busy
    await asyncio.gather(guarded.close(), guarded.close())
    assert (await calling).is_error is False
    assert played.closes == 1
    with pytest.raises(UsageError, match="the episode of task 'train/0' is closed: start a new one"):
        await guarded.call("balance", {"account": "ann"})


async def test_the_users_and_the_judges_crashes_are_infrastructure() -> None:
    guarded = GuardedEpisode.of(episode())
    assert GuardedEpisode.of(guarded) is guarded
    with pytest.raises(InfrastructureError, match="simulated user of task 'train/0' failed: ZeroDivisionError"):
        await guarded.user_turn("crash")


UNSERVABLE = {
    "tool 'a' is declared more than once": (ToolSpec(name="a"), ToolSpec(name="a")),
    "input_schema of tool 'a' has type 'array'": (ToolSpec(name="a", input_schema={"type": "array"}),),
    "output_schema of tool 'a' has type 'string'": (ToolSpec(name="a", output_schema={"type": "string"}),),
}


@pytest.mark.parametrize(("message", "tools"), UNSERVABLE.items(), ids=UNSERVABLE)
def test_a_tool_that_mcp_cannot_carry_is_refused_at_once(message: str, tools: tuple[ToolSpec, ...]) -> None:
    played = episode()
    played.tools = tools
    with pytest.raises(UsageError, match=message):
        episode_server(played)


async def test_a_tool_whose_schema_is_broken_is_the_environments_failure() -> None:
    played = episode()
    broken = {"type": "object", "properties": {"amount": {"type": 3}}}
    played.tools = (ToolSpec(name="transfer", input_schema=broken),)
    async with connect(played) as client:
        result = await client.call_tool("transfer", {"amount": 1})
    assert result.meta[FAILURE_KEY].startswith("input_schema of tool 'transfer' is not JSON Schema")
