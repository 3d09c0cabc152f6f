"""Upstream's simulated user, spoken for by a model behind an OpenAI-compatible endpoint."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from tau2_benchmark import installed

from mcp_servers.benchmark.users import UserChoice, complete
from mcp_servers.tau2 import Tau2Environment, Tau2Episode
from mcp_servers.tau2.users import MOST_CALLS
from trace_agents.errors import InfrastructureError
from trace_agents.types import Message

BAD_MODE = "[mobile_data_issue]data_mode_off|data_usage_exceeded[PERSONA:None]"
EMPTY: dict[str, Any] = {"messages": [], "tools": None}


class Endpoint(ThreadingHTTPServer):
    """Answers chat completions with `lines`, in order, and the last of them for ever; keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lines: list[dict[str, Any]] = []
        self.asked: list[dict[str, Any]] = []

    def choice(self) -> UserChoice:
        return UserChoice(url=f"http://127.0.0.1:{self.server_port}/v1", model="speaker", key="k")


class Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        assert (self.path, self.headers["Authorization"]) == ("/v1/chat/completions", "Bearer k")
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        lines = self.server.lines
        message = lines.pop(0) if len(lines) > 1 else lines[0]
        body = json.dumps({"choices": [{"message": {"role": "assistant"} | message}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *given: object) -> None: ...


def says(text: str) -> dict[str, Any]:
    return {"content": text}


def calls(name: str, arguments: str = "{}") -> dict[str, Any]:
    return {"content": None, "tool_calls": [{"id": "u1", "function": {"name": name, "arguments": arguments}}]}


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = Endpoint()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


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
    assert (first["model"], first["temperature"], "tools" in first) == ("speaker", 0.0, False)
    system, greeting = first["messages"]
    guidelines = (environment.settings.data / "tau2/user_simulator/simulation_guidelines.md").read_text()
    assert system["role"] == "system"
    assert system["content"].startswith(guidelines)
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
