"""verifiers' own environment plays our episodes: its runtime, its interception, its trace, our tools and rewards."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import uvicorn
import verifiers.v1 as vf
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from verifiers.v1.clients import ModelContext
from verifiers.v1.configs.client import EvalClientConfig
from verifiers.v1.utils.loaders import load_environment, resolve_env_config

from trace_agents.cli.serve import listen
from trace_agents.types import StopReason, ToolCall
from training.rollouts import trajectory_from_trace


class ChatServer:
    """A chat endpoint that says what a script says."""

    def __init__(self, lines: Sequence[dict[str, Any]]) -> None:
        self.lines = lines
        self.bodies: list[dict[str, Any]] = []
        self.url = ""

    async def answer(self, request: Request) -> JSONResponse:
        """The next line as a chat completion."""
        line = self.lines[len(self.bodies)]
        self.bodies.append(await request.json())
        message = {"role": "assistant", "content": None, **line}
        reason = "tool_calls" if "tool_calls" in line else "stop"
        choice = {"index": 0, "message": message, "finish_reason": reason}
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        head = {"id": "chat-1", "object": "chat.completion", "created": 0, "model": "scripted"}
        return JSONResponse({**head, "choices": [choice], "usage": usage})


def called(name: str, arguments: str) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"tool_calls": [{"id": f"c-{arguments}", "type": "function", "function": function}]}


@pytest.fixture
async def server() -> AsyncIterator[ChatServer]:
    scripted = ChatServer(
        (called("add", "{"), called("add", json.dumps({"a": 1, "b": 40})), {"content": "Hm."}, {"content": "It is 41."})
    )
    app = Starlette(routes=[Route("/v1/chat/completions", scripted.answer, methods=["POST"])])
    listening = listen("127.0.0.1", 0)
    scripted.url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    running = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", ws="none"))
    task = asyncio.create_task(running.serve(sockets=[listening]))
    yield scripted
    running.should_exit = True
    await task


async def play(server: ChatServer, monkeypatch: pytest.MonkeyPatch, **agent: Any) -> vf.Trace:
    """One episode of the task of seed 1 under verifiers' environment."""
    monkeypatch.setenv("SCRIPTED_KEY", "none")
    config = resolve_env_config(
        {
            "taskset": {"id": "training", "environment": "rollout_doubles:Sums", "first_seed": 1, "seeds": 1},
            "agent": {"harness": {"id": "training"}, "runtime": {"type": "subprocess"}, **agent},
        }
    )
    environment = load_environment(config)
    client = EvalClientConfig(base_url=server.url, api_key_var="SCRIPTED_KEY")
    (task,) = environment.taskset
    async with environment.serving():
        (slot,) = environment.slots(task)
        episode = await environment.run_slot(slot, ModelContext(model="scripted", client=client))
    (trace,) = episode.traces
    return trace


async def test_an_episode_is_played_and_rewarded(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = await play(server, monkeypatch)
    assert trace.errors == []
    assert (trace.ok, trace.reward, trace.metrics["success"]) == (True, 1.0, 1.0)
    trajectory = trajectory_from_trace(trace)
    assert [message.role for message in trajectory.messages] == [
        "user", "assistant", "tool", "assistant", "tool", "assistant", "user", "assistant"
    ]  # fmt: skip
    assert trajectory.messages[1].tool_calls == (ToolCall(id="c-{", name="add", arguments="{"),)
    assert trajectory.messages[2].is_error
    assert trajectory.info["malformed_calls"] == 1
    assert [tool["function"]["name"] for tool in server.bodies[0]["tools"]] == ["add"]
    assert server.bodies[0]["messages"][0]["content"] == "Add with the tool, then say the sum."


async def test_verifiers_limits_end_the_episode_which_is_judged(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = await play(server, monkeypatch, max_turns=2)
    assert (trace.ok, trace.reward) == (True, 0.5)
    assert trajectory_from_trace(trace).stop is StopReason.MAX_TURNS
