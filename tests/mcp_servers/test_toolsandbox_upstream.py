"""ToolSandbox as upstream plays it, over MCP. These need `trace-agents benchmarks install toolsandbox`."""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from environment_serving import serving
from mcp import StdioServerParameters
from mcp.client import Client
from mcp.client.stdio import stdio_client
from toolsandbox_benchmark import episode_of, in_upstreams_python, playable

from mcp_servers.benchmark.users import UserChoice, UserKind
from mcp_servers.guard import GuardedEpisode
from mcp_servers.remote import RemoteEnvironment
from mcp_servers.replay import replay
from mcp_servers.server import episode_server, tool_spec
from mcp_servers.toolsandbox import ToolSandbox, ToolSandboxEpisode
from mcp_servers.toolsandbox.environment import OVER, WORKER
from mcp_servers.toolsandbox.facts import Fact, read_facts
from trace_agents.environment import Environment, HasOracle, WritesResults
from trace_agents.errors import InfrastructureError, TaskUnavailable, UsageError
from trace_agents.types import Action, Message, ToolCall, ToolSpec

SEND = "send_message_with_contact_content_cellular_off"
SCRAMBLED = f"{SEND}_3_distraction_tools_tool_name_scrambled"
STOCK = "find_stock_symbol_with_company_name"
WITHOUT_ITS_TOOL = "find_temperature_f_with_location_and_time_diff_low_battery_mode_multiple_user_turn"
SORRY = "I am sorry, but I cannot assist with that."
LIST_ALL = """
import json, sys
sys.path.insert(0, sys.argv[1])
import standins
standins.install()
from tool_sandbox.common.execution_context import RoleType, set_current_context
from tool_sandbox.common.tool_conversion import convert_to_openai_tools
from tool_sandbox.common.tool_discovery import ToolBackend
from tool_sandbox.roles.base_role import BaseRole
from tool_sandbox.scenarios import named_scenarios
class Agent(BaseRole):
    role_type = RoleType.AGENT
for name, scenario in named_scenarios(ToolBackend.DEFAULT).items():
    set_current_context(scenario.starting_context)
    print(json.dumps([name, convert_to_openai_tools(Agent.get_available_tools())]))
"""


@pytest.fixture(scope="module")
def sandbox() -> ToolSandbox:
    return playable()


def openai(tools: Sequence[ToolSpec]) -> list[dict[str, Any]]:
    return [tool.openai() for tool in tools]


def test_it_has_gold_actions_and_results_of_its_own(sandbox: ToolSandbox) -> None:
    assert isinstance(sandbox, Environment)
    assert isinstance(sandbox, HasOracle)
    assert isinstance(sandbox, WritesResults)


def test_every_scenario_is_a_task_and_28_of_the_base_ones_need_rapid_api(sandbox: ToolSandbox) -> None:
    sizes = sandbox.splits
    assert (sizes["base"], sizes["offline"], sizes["all"]) == (129, 101, 1032)
    assert {sizes[split] for split in sizes if split.endswith(("tools", "scrambled"))} == {129}
    assert sum(task.data["needs_rapid_api"] for task in sandbox.tasks("all")) == 28 * 8
    assert sandbox.provenance["revision"].startswith("165848b")
    with pytest.raises(UsageError, match="unknown split 'train'"):
        sandbox.tasks("train")
    with pytest.raises(UsageError, match="unknown task 'nothing' of environment 'toolsandbox': use for example"):
        sandbox.task("nothing")
    with pytest.raises(UsageError, match="fixed tasks only, none for seed 7"):
        sandbox.generate(7)


@pytest.mark.slow
def test_scenarios_are_the_same_in_every_build_and_move_with_the_clock(sandbox: ToolSandbox, tmp_path: Path) -> None:
    again = playable(kept=tmp_path)
    assert len(again.digests()) == 1032
    assert again.digests() == sandbox.digests()
    later = playable(kept=tmp_path, now="2025-03-01T09:00:00+00:00")
    assert not set(later.digests().values()) & set(sandbox.digests().values())


@pytest.mark.slow
async def test_the_tools_of_every_scenario_are_upstreams(sandbox: ToolSandbox) -> None:
    lines = in_upstreams_python("-c", LIST_ALL, str(WORKER)).splitlines()
    wanted = dict(map(json.loads, lines))
    assert len(wanted) == 1032
    for task in sandbox.tasks("all"):
        if not task.data["needs_rapid_api"]:
            async with episode_of(sandbox, task.id) as episode:
                given = [{"type": "function", "function": _function(tool)} for tool in episode.tools]
                assert given == wanted[task.id]


def _function(tool: ToolSpec) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "parameters": tool.input_schema}


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_schemas_are_the_same_over_every_transport_and_both_eras(sandbox: ToolSandbox, mode: str) -> None:
    async with episode_of(sandbox, SCRAMBLED) as episode:
        wanted, policy = openai(episode.tools), episode.policy
        server = episode_server(GuardedEpisode.of(episode))
        async with Client(server, mode=mode) as client:
            assert openai([tool_spec(tool) for tool in (await client.list_tools()).tools]) == wanted
    with serving(sandbox) as served:
        remote = RemoteEnvironment(served.url)
        far = await remote.start(remote.task(SCRAMBLED))
        assert (openai(far.tools), far.policy) == (wanted, policy)
        await far.close()
    start = "import sys; from trace_agents.cli import main; sys.exit(main(sys.argv[1:]))"
    words = ["serve", "toolsandbox", "--stdio", "--task", SCRAMBLED]
    variables = {**os.environ, "TRACE_AGENTS_USER": "none"}
    process = StdioServerParameters(command=sys.executable, args=["-c", start, *words], env=variables)
    async with Client(stdio_client(process), mode=mode) as client:
        assert openai([tool_spec(tool) for tool in (await client.list_tools()).tools]) == wanted


async def test_gold_actions_of_scrambled_tools_reach_1(sandbox: ToolSandbox) -> None:
    task = sandbox.task(SCRAMBLED)
    actions = sandbox.oracle(task)
    assert not {"search_contacts"} & {each.name for each in actions if isinstance(each, ToolCall)}
    assert (await replay(sandbox, task, actions)).success


async def test_giving_up_and_a_wordy_answer_cost_what_upstream_says(sandbox: ToolSandbox) -> None:
    task = sandbox.task(SEND)
    actions = list(sandbox.oracle(task))
    assert (await replay(sandbox, task, [SORRY])).reward < 0.5
    wordy = await replay(sandbox, task, [*actions[:-1], f"As you have asked me to do, I tell you: {actions[-1]}"])
    assert 0.8 < wordy.reward < 1
    assert not wordy.success


async def test_what_goes_wrong_in_a_call_is_an_error_in_upstreams_words(sandbox: ToolSandbox) -> None:
    async with episode_of(sandbox, SEND) as episode:
        for name, arguments, wanted in (
            ("end_conversation", {}, "is not a known allowed tool"),
            ("get-wifi-status", {}, "is not a known allowed tool"),
            ("set_cellular_service_status", {"off": True}, "TypeError: "),
            ("set_cellular_service_status", {"on": "yes"}, "TypeError: Parameter 'on' is of type"),
            ("send_message_with_phone_number", {"phone_number": "+12453344098", "content": "a"}, "ConnectionError: "),
            ("search_contacts", {"name": "'); import os #"}, "[]"),
        ):
            result = await GuardedEpisode.of(episode).call(name, arguments)
            assert wanted in result.content
            assert result.is_error == (wanted != "[]")


@pytest.mark.slow
async def test_a_tool_that_would_compute_for_ever_is_stopped_and_the_episode_goes_on(sandbox: ToolSandbox) -> None:
    async with episode_of(sandbox, "cellular_off_all_tools") as episode:
        endless = {"amount": 1.0, "from_unit": "9**9**9**9*meter", "to_unit": "meter"}
        result = await episode.call("unit_conversion", endless)
        assert result.is_error
        assert "TimeoutError: the tool was stopped: it computed for 10 s" in result.content
        assert not (await episode.call("get_cellular_service_status", {})).is_error
        assert (await episode.record([]))["result"]["turn_count"] == 4


async def test_an_error_reads_alike_in_every_process(sandbox: ToolSandbox) -> None:
    told = []
    for environment in (sandbox, playable()):
        async with episode_of(environment, "cellular_off_all_tools") as episode:
            told += [await episode.call("remove_contact", {"person_id": f"nobody-{number}"}) for number in range(3)]
    assert told[0].content.startswith("polars.exceptions.NoDataError: No db entry matching predicate=<Expr [")
    assert told[0].is_error
    assert {result.content for result in told} == {told[0].content}


async def test_after_30_messages_nothing_more_is_done(sandbox: ToolSandbox) -> None:
    async with episode_of(sandbox, SEND) as episode:
        results = [await episode.call("get_cellular_service_status", {}) for _ in range(17)]
        assert [result.content for result in results] == ["False"] * 15 + [OVER] * 2
        assert (await episode.user_turn("Still there?")).done
        recorded = await episode.record([])
        assert recorded["result"]["turn_count"] == 30


async def test_a_last_text_that_the_user_never_heard_counts_once(sandbox: ToolSandbox) -> None:
    *calls, text = sandbox.oracle(sandbox.task(SEND))
    said = Message(role="assistant", content=str(text))
    async with episode_of(sandbox, SEND) as episode:
        for each in calls:
            assert isinstance(each, ToolCall)
            assert isinstance(each.arguments, dict)
            await episode.call(each.name, each.arguments)
        assert (await episode.evaluate([])).reward < 1
        assert [(await episode.evaluate([said])).reward for _ in range(2)] == [1, 1]
        assert (await episode.user_turn(str(text))).done
        assert (await episode.evaluate([said])).reward == 1


async def test_a_scripted_user_says_their_lines_and_ends(sandbox: ToolSandbox) -> None:
    talking = playable(lines={SEND: ("To Fredrik.", "Please do.")})
    async with episode_of(talking, SEND) as episode:
        turns = [await episode.user_turn(f"Question {number}?") for number in range(4)]
        assert [turn.content for turn in turns] == ["To Fredrik.", "Please do.", None, None]
        assert [turn.done for turn in turns] == [False, False, True, True]
    async with episode_of(playable(user=UserChoice(kind=UserKind.NONE)), SEND) as episode:
        assert (await episode.user_turn("Yes?")).done


@pytest.mark.parametrize("count", [18, pytest.param(64, marks=pytest.mark.slow)])
async def test_interleaved_episodes_end_as_each_alone(sandbox: ToolSandbox, count: int) -> None:
    tasks = sandbox.tasks("offline")[:: 101 // count][:count]
    gold = [sandbox.oracle(task) for task in tasks]
    alone = []
    for task, actions in zip(tasks, gold, strict=True):
        async with episode_of(sandbox, task.id) as episode:
            alone.append(await ending(episode, [await told(episode, action) for action in actions]))
    rng = random.Random(0)
    async with AsyncExitStack() as stack:
        episodes = [await stack.enter_async_context(episode_of(sandbox, task.id)) for task in tasks]
        heard: list[list[str]] = [[] for _ in tasks]
        left = [number for number, actions in enumerate(gold) for _ in actions]
        rng.shuffle(left)
        for number in left:
            heard[number].append(await told(episodes[number], gold[number][len(heard[number])]))
        together = [await ending(episode, each) for episode, each in zip(episodes, heard, strict=True)]
    assert len(together) == count
    assert together == alone
    assert {reward for _, _, reward in together} == {1.0}


async def told(episode: ToolSandboxEpisode, action: Action) -> str:
    """What an action is answered."""
    if isinstance(action, str):
        return repr(await episode.user_turn(action))
    assert isinstance(action.arguments, dict)
    return repr(await episode.call(action.name, action.arguments))


async def ending(episode: ToolSandboxEpisode, answers: Sequence[str]) -> tuple[Sequence[str], dict[str, str], float]:
    """What an episode answered, its final state and its reward."""
    return answers, dict(await episode.state()), (await episode.evaluate([])).reward


async def test_scenarios_that_need_rapid_api_are_not_run_without_it(sandbox: ToolSandbox) -> None:
    task = sandbox.task(STOCK)
    with pytest.raises(TaskUnavailable, match="needs RapidAPI, and there is no key: set RAPID_API_KEY, or name a file"):
        await sandbox.start(task)
    with pytest.raises(TaskUnavailable):
        sandbox.oracle(task)


async def test_known_facts_answer_for_rapid_api_and_others_are_infrastructure(tmp_path: Path) -> None:
    url = "https://real-time-finance-data.p.rapidapi.com/search"
    answer = {"data": {"stock": [{"name": "Acme", "symbol": "ACME:NASDAQ"}]}}
    known = playable(facts=(Fact(url=url, params={"query": "Acme"}, response=answer),))
    async with episode_of(known, STOCK) as episode:
        for _ in range(2):
            result = await episode.call("search_stock", {"query": "Acme"})
            assert result.content == "{'name': 'Acme', 'symbol': 'ACME'}"
        with pytest.raises(InfrastructureError, match=r"no fact for .*Unheard of.*, and no RAPID_API_KEY to ask with"):
            await episode.call("search_stock", {"query": "Unheard of"})
    assert read_facts(tmp_path / "none.json", may_be_new=True) == ()


@pytest.mark.slow
async def test_gold_actions_with_known_facts_reach_1_where_the_tools_that_it_takes_are_offered() -> None:
    facts = read_facts(Path(__file__).with_name("toolsandbox_facts.json"), may_be_new=False)
    known = playable(facts=facts)
    needing = [task for task in known.tasks("base") if task.data["needs_rapid_api"]]
    assert len(needing) == 28
    without = known.task(WITHOUT_ITS_TOOL)
    for task in needing:
        if task != without:
            assert (await replay(known, task, known.oracle(task))).reward == 1.0
    with pytest.raises(UsageError, match=r"has no gold actions .* reaches a similarity of 0\.600"):
        known.oracle(without)
    async with episode_of(known, without.id) as episode:
        assert "unit_conversion" not in [tool.name for tool in episode.tools]


async def test_a_distraction_that_asks_rapid_api_is_refused_as_without_a_key_whether_there_are_facts_or_not() -> None:
    told = []
    for facts in (None, ()):
        async with episode_of(playable(facts=facts), "cellular_off_all_tools") as episode:
            told.append(await episode.call("search_stock", {"query": "Apple"}))
    assert told[0] == told[1]
    assert told[0].is_error
    assert told[0].content.startswith("PermissionError: Please provide 'RAPID_API_KEY'")
