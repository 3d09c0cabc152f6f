"""Upstream's simulated user, spoken for by a model behind an OpenAI-compatible endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from speaking_endpoint import Endpoint, calls, listening, says
from tau2_benchmark import installed

from mcp_servers.benchmark.users import UserChoice, complete
from mcp_servers.tau2 import Tau2Environment, Tau2Episode
from mcp_servers.tau2.users import MOST_CALLS
from trace_agents.errors import InfrastructureError
from trace_agents.types import Message

BAD_MODE = "[mobile_data_issue]data_mode_off|data_usage_exceeded[PERSONA:None]"
EMPTY: dict[str, Any] = {"messages": [], "tools": None}


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with listening() as server:
        yield server


async def opened(domain: str, task_id: str, endpoint: Endpoint) -> tuple[Tau2Environment, Tau2Episode]:
    environment = Tau2Environment(domain, installed(endpoint.choice()))
    return environment, await environment.start(environment.task(task_id))


async def test_upstreams_prompt_is_sent_and_its_sentinel_stops(endpoint: Endpoint) -> None:
    endpoint.lines = [says("Create a task, please."), says("No, that is all. ###STOP###")]
    environment, episode = await opened("mock", "create_task_1", endpoint)
    assert (environment.task("create_task_1").prompt, episode.task.prompt) == ("", "Create a task, please.")
    turn = await episode.user_turn("Done. Anything else?")
    assert turn.done
    first, second = endpoint.asked
    tools = environment.settings.release != "v0.2.0"  # From v1.0.0 on, the user of mock has two.
    assert (first["model"], first["temperature"], "tools" in first) == ("speaker", 0.0, tools)
    system, greeting = first["messages"]
    name = "simulation_guidelines_tools.md" if tools else "simulation_guidelines.md"
    guidelines = (environment.settings.data / "tau2/user_simulator" / name).read_text()
    assert system["role"] == "system"
    assert system["content"].startswith(guidelines.partition("<PERSONA_GUIDELINES>")[0])
    assert "Create a new task called 'Important Meeting' for user_1." in system["content"]
    assert greeting == {"role": "user", "content": "Hi! How can I help you today?"}
    assert second["messages"][2:] == [
        {"role": "assistant", "content": "Create a task, please."},
        {"role": "user", "content": "Done. Anything else?"},
    ]
    assert environment.provenance["user"] == "model speaker"
    assert (await episode.evaluate([Message(role="assistant", content="Done. Anything else?")])).breakdown != {}
    await episode.close()


async def test_the_users_own_tools_are_offered_to_the_model_and_run_on_the_users_side(endpoint: Endpoint) -> None:
    lines = [calls("toggle_data"), calls("check_status_bar"), says("It is on now.")]
    endpoint.lines = [says("My data does not work."), *lines]
    environment, episode = await opened("telecom", BAD_MODE, endpoint)
    before = await episode.state()
    turn = await episode.user_turn("Please turn your mobile data on.")
    assert turn.content == "It is on now."
    after = await episode.state()
    assert (before[0] == after[0], before[1] == after[1]) == (True, False)
    offered = {tool["function"]["name"] for tool in endpoint.asked[0]["tools"]}
    assert len(offered) == 30
    assert not offered & {tool.name for tool in environment.tools}
    *_, called, answered = endpoint.asked[2]["messages"]
    assert called["tool_calls"] == [
        {"id": "u1", "type": "function", "function": {"name": "toggle_data", "arguments": "{}"}}
    ]
    assert (answered["role"], answered["tool_call_id"]) == ("tool", "u1")
    assert "Mobile Data is now ON" in answered["content"]
    await episode.close()


async def test_a_model_that_cannot_speak_for_the_user_is_a_failure_of_infrastructure(endpoint: Endpoint) -> None:
    endpoint.lines = [says("###STOP###")]
    with pytest.raises(InfrastructureError, match="ended the conversation in its first message"):
        await opened("mock", "create_task_1", endpoint)
    endpoint.lines = [calls("toggle_data", "{")]
    with pytest.raises(InfrastructureError, match="failed during 'say': JSONDecodeError"):
        await opened("telecom", BAD_MODE, endpoint)
    endpoint.lines = [calls("check_status_bar")]
    with pytest.raises(InfrastructureError, match=f"called the user's tools {MOST_CALLS} times without a word"):
        await opened("telecom", BAD_MODE, endpoint)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/v1", "not a url"])
async def test_an_endpoint_that_is_not_there_is_a_failure_of_infrastructure(url: str) -> None:
    with pytest.raises(InfrastructureError, match=r"the simulated user's endpoint .* failed"):
        await complete(UserChoice(url=url, model="m"), EMPTY)
