"""τ²-bench as upstream plays it, over MCP. These need an installation: `trace-agents benchmarks install tau2`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from environment_serving import serving
from mcp import StdioServerParameters
from mcp.client import Client
from mcp.client.stdio import stdio_client
from tau2_benchmark import installed

from mcp_servers.benchmark.provenance import tools_hash
from mcp_servers.benchmark.users import UserChoice, UserKind
from mcp_servers.guard import GuardedEpisode
from mcp_servers.remote import RemoteEnvironment
from mcp_servers.replay import DO_NOTHING, replay
from mcp_servers.server import episode_server, tool_spec
from mcp_servers.tau2 import Tau2Environment, Tau2Episode
from mcp_servers.tau2.settings import release
from mcp_servers.tau2.tasks import has_gold, needs_judge
from trace_agents.cli import main
from trace_agents.environment import Episode
from trace_agents.errors import InfrastructureError, UsageError
from trace_agents.types import Message, ToolResult, ToolSpec

SINCE_V1 = {"airline": (14, 0), "retail": (16, 0), "telecom": (13, 30), "mock": (4, 2)}
DOMAINS = {
    "v0.2.0": {"airline": (14, 0), "retail": (15, 0), "telecom": (13, 30), "mock": (4, 0)},
    "v1.0.0": SINCE_V1,
    "v1.0.1": SINCE_V1,
}
"""Release -> domain -> number of the agent's and of the user's tools."""
FIRST = {"airline": "0", "retail": "0", "mock": "create_task_1"}
BAD_MODE = "[mobile_data_issue]data_mode_off|data_usage_exceeded[PERSONA:None]"


@pytest.fixture(scope="module", params=DOMAINS["v0.2.0"])
def domain(request: pytest.FixtureRequest) -> Tau2Environment:
    return Tau2Environment(request.param, installed())


@pytest.fixture(scope="module")
def mock() -> Tau2Environment:
    return Tau2Environment("mock", installed())


@pytest.fixture(scope="module")
def telecom() -> Tau2Environment:
    return Tau2Environment("telecom", installed())


@asynccontextmanager
async def episode_of(environment: Tau2Environment, task_id: str) -> AsyncIterator[Tau2Episode]:
    episode = await environment.start(environment.task(task_id))
    try:
        yield episode
    finally:
        await episode.close()


def as_upstream(tools: Sequence[ToolSpec]) -> str:
    """The hash that upstream's tools have, of what an agent was offered."""
    return tools_hash(
        [{"name": tool.name, "description": tool.description, "parameters": tool.input_schema} for tool in tools]
    )


def test_code_data_and_tools_are_upstreams_and_recorded(domain: Tau2Environment) -> None:
    name = domain.name.removeprefix("tau2/")
    found = domain.provenance
    played = domain.settings.release
    assert (found["revision"], found["code"]) == (played, release(played)["code"]["tau2"])
    policy = f"tau2/domains/{name}/{'main_policy' if name == 'telecom' else 'policy'}.md"
    assert found[policy] == release(played)["data"][policy]
    assert found["user"] == "scripted"
    assert (len(domain.tools), len(domain._worker.ask("describe")["user_tools"])) == DOMAINS[played][name]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize("transport", ["memory", "http"])
async def test_tools_and_policy_reach_the_agent_as_upstream_states_them(
    domain: Tau2Environment, transport: str, mode: str
) -> None:
    golden = release(domain.settings.release)["tools"][f"{domain.name.removeprefix('tau2/')}/agent"]
    async with episode_of(domain, domain.tasks("base")[0].id) as episode:
        if transport == "memory":
            await agree(Client(episode_server(episode), mode=mode), golden, domain.policy)
            return
    with serving(domain) as served:
        task = domain.tasks("base")[0].id
        path = httpx.post(f"{served.url}/episodes", json={"task_id": task}).json()["mcp_path"]
        await agree(Client(served.url + path, mode=mode), golden, domain.policy)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_they_reach_the_agent_over_stdio_too(mock: Tau2Environment, mode: str) -> None:
    words = ["serve", "tau2/mock", "--stdio", "--task", FIRST["mock"]]
    start = "import sys; from trace_agents.cli import main; sys.exit(main())"
    variables = dict(os.environ) | {"TRACE_AGENTS_USER": "scripted"}
    process = StdioServerParameters(command=sys.executable, args=["-c", start, *words], env=variables)
    await agree(
        Client(stdio_client(process), mode=mode), release(mock.settings.release)["tools"]["mock/agent"], mock.policy
    )


async def agree(connection: Client, golden: str, policy: str) -> None:
    async with connection as client:
        assert as_upstream([tool_spec(tool) for tool in (await client.list_tools()).tools]) == golden
        assert client.instructions == policy


@pytest.mark.parametrize(("name", "tasks"), [("airline", 1), ("retail", 2), ("telecom", 6), ("mock", 7)])
async def test_the_oracle_scores_1_over_mcp(name: str, tasks: int) -> None:
    environment = Tau2Environment(name, installed())
    solvable = [task for task in environment.tasks("base") if has_gold(name, task.id)]
    playable = [task for task in solvable if not needs_judge(task.data["task"])]
    for task in playable[:tasks]:
        verdict = await replay(environment, task, environment.oracle(task))
        assert (task.id, verdict.reward, verdict.success) == (task.id, 1.0, True)


async def test_doing_nothing_fails_where_something_was_to_be_done(mock: Tau2Environment) -> None:
    verdict = await replay(mock, mock.task("create_task_1"), DO_NOTHING)
    assert (verdict.success, verdict.breakdown["db"]) == (False, 0.0)


async def test_a_conversation_that_nobody_ended_scores_0(mock: Tau2Environment) -> None:
    task = mock.task("create_task_1")
    verdict = await replay(mock, task, [action for action in mock.oracle(task) if not isinstance(action, str)])
    assert (verdict.reward, verdict.breakdown) == (0.0, {})


async def test_without_a_user_the_agents_text_is_the_end() -> None:
    environment = Tau2Environment("mock", installed(UserChoice(kind=UserKind.NONE)))
    task = environment.task("create_task_1")
    assert (await replay(environment, task, environment.oracle(task))).success


@pytest.mark.parametrize(
    ("name", "arguments", "wanted"),
    [
        ("erase_everything", {}, "Error: Tool 'erase_everything' not found."),
        ("create_task", {}, "Error: MockTools.create_task() missing 2 required positional arguments"),
        ("create_task", {"user_id": "nobody", "title": "x"}, "Error: User nobody not found"),
        ("create_task", {"user_id": "user_1", "title": "x", "colour": 1}, "got an unexpected keyword argument"),
        ("create_task", {"user_id": ["user_1"], "title": "x"}, "Error: unhashable type: 'list'"),
        ("create_task", {"tool_name": "x", "requestor": "user"}, "got multiple values for keyword argument"),
    ],
)
async def test_bad_calls_are_errors_in_upstreams_words(
    name: str, arguments: dict[str, Any], wanted: str, mock: Tau2Environment
) -> None:
    async with episode_of(mock, FIRST["mock"]) as episode:
        before = await episode.state()
        async with Client(episode_server(episode)) as agent:
            result = await agent.call_tool(name, arguments)
        assert result.is_error
        assert wanted in result.content[0].text
        assert await episode.state() == before


async def test_the_users_tools_are_hidden_from_the_agent_and_change_the_users_side(telecom: Tau2Environment) -> None:
    async with episode_of(telecom, BAD_MODE) as episode:
        assert "toggle_data" not in {tool.name for tool in episode.tools}
        refused = await GuardedEpisode.of(episode).call("toggle_data", {})
        assert refused == ToolResult(content="Error: Tool 'toggle_data' not found.", is_error=True)
        agents, users = await episode.state()
        turn = await episode.user_turn("Please turn your mobile data on.")
        assert turn.content == "I have done that."
        assert (await episode.state())[0] == agents
        assert (await episode.state())[1] != users


async def test_interleaved_episodes_are_as_each_alone(mock: Tau2Environment) -> None:
    async def created(title: str, other: Episode | None = None) -> tuple[Any, Any]:
        async with episode_of(mock, FIRST["mock"]) as episode:
            answers = []
            for number in range(3):
                given = {"user_id": "user_1", "title": f"{title} {number}"}
                answers.append(await episode.call("create_task", given))
                await asyncio.sleep(0)
            return answers, await episode.state()

    alone = [await created(title) for title in "abcdefgh"]
    assert await asyncio.gather(*map(created, "abcdefgh")) == alone
    assert len({state for _, state in alone}) == 8


async def test_an_episode_begins_with_the_database_as_it_was_read() -> None:
    environment = Tau2Environment("retail", installed())
    async with episode_of(environment, "0") as one, episode_of(environment, "1") as two:
        fresh = await two.state()
        for action in environment.oracle(environment.task("0")):
            if not isinstance(action, str):
                assert not (await one.call(action.name, action.arguments)).is_error
        assert await one.state() != fresh
        assert await two.state() == fresh
    async with episode_of(environment, "0") as three:
        assert await three.state() == fresh


async def test_an_evaluator_that_raises_is_a_failure_of_infrastructure(mock: Tau2Environment) -> None:
    task = mock.task("create_task_1_with_env_assertions")
    with pytest.raises(InfrastructureError, match="failed during 'evaluate': ValueError: Task task_2 not found"):
        await replay(mock, task, DO_NOTHING)


async def test_a_call_that_never_ends_ends_its_episode_only() -> None:
    environment = Tau2Environment("retail", installed(seconds=1.0))
    async with episode_of(environment, "0") as one, episode_of(environment, "0") as two:
        with pytest.raises(InfrastructureError, match="it crashed, or took longer than 1 s"):
            await one.call("calculate", {"expression": "9**9**9**9"})
        assert (await two.call("calculate", {"expression": "2 + 2"})).content == "4.0"
        with pytest.raises(InfrastructureError):
            await one.call("calculate", {"expression": "2 + 2"})


async def test_a_worker_that_died_is_started_again() -> None:
    environment = Tau2Environment("mock", installed())
    async with episode_of(environment, FIRST["mock"]):
        environment._worker.close()
    async with episode_of(environment, FIRST["mock"]) as episode:
        assert not (await episode.call("get_users", {})).is_error


async def test_another_process_plays_it_the_same(mock: Tau2Environment) -> None:
    with serving(mock) as served:
        remote = RemoteEnvironment(served.url)
        assert remote.provenance == mock.provenance
        task = remote.task("create_task_1")
        assert (await replay(remote, task, mock.oracle(task))).success


def test_tools_that_another_pydantic_makes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = Tau2Environment("mock", installed())
    described = environment._worker.ask("describe")
    described["tools"][0]["parameters"]["additionalProperties"] = False
    with pytest.raises(UsageError, match="the agent's tools of domain 'mock' have SHA-256"):
        environment._checked(described)
    named = environment.settings.release
    with pytest.raises(UsageError, match=rf"the installed tau2 is not {named}: its code has SHA-256 abc, not"):
        environment._checked(described | {"code": "abc"})


async def test_what_the_agent_said_beside_its_calls_counts_as_told(mock: Tau2Environment) -> None:
    task = mock.task("create_task_1")
    if mock.settings.release != "v0.2.0":
        pytest.skip("from v1.0.0 on, no task of mock has something that is to be told")
    told = task.data["task"]["evaluation_criteria"]["communicate_info"][0]
    [call, _] = mock.oracle(task)
    async with episode_of(mock, task.id) as episode:
        result = await episode.call(call.name, call.arguments)
        await episode.user_turn("Bye.")
        spoken = Message(role="assistant", content=told, tool_calls=(call,))
        answer = Message(role="tool", content=json.dumps(result.content), tool_call_id=call.id)
        bye = Message(role="assistant", content="Bye.")
        assert (await episode.evaluate([spoken, answer, bye])).success
        assert not (await episode.evaluate([answer, bye])).success


def test_a_check_plays_gold_and_floor_and_prints_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    played = installed().release
    assert main(["benchmarks", "check", "--domain", "mock"]) == 0
    floor = "1/6" if played == "v0.2.0" else "1/7, without gold actions 1"
    wanted = f"mock: gold 6/6, do nothing {floor}, infrastructure failures 0, revision {played}"
    assert capsys.readouterr().out.startswith(wanted)
