"""Agents that are models play under the limits of an evaluation, over a server, in this process, or of one's own."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from graphs import agents
from graphs.patience import Patience
from mcp_servers.helpdesk import Helpdesk
from trace_agents.agent import Agent, AgentRequest, Play, PlaySettings, load_agent
from trace_agents.endpoint import Sampling
from trace_agents.errors import InfrastructureError, UsageError
from trace_agents.types import StopReason, ToolResult
from training.base_agent import find_model
from training.chat import ChatFormat
from training.engine import Engine
from training.engine.http import create_app

GREEDY = Sampling(temperature=0.0, max_tokens=96)
Answer = dict[str, Any] | tuple[int, str]
"""An assistant message, or a status and what is told with it."""


class Server:
    """A model server that says what a script says, and remembers what it was sent."""

    def __init__(self, script: Callable[[int], Answer]) -> None:
        self.script, self.bodies, self.keys, self.url = script, [], set(), ""

    def app(self) -> Starlette:
        models = JSONResponse({"data": [{"id": "talker"}]})
        return Starlette(
            routes=[
                Route("/v1/models", lambda _: models),
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
            ]
        )

    async def chat(self, request: Request) -> Response:
        self.bodies.append(await request.json())
        self.keys.add(request.headers.get("authorization"))
        said = self.script(len(self.bodies) - 1)
        if isinstance(said, tuple):
            return Response(said[1], said[0])
        message = {"role": "assistant", "content": None} | said
        usage = {"prompt_tokens": 100 * len(self.bodies), "completion_tokens": 10}
        choice = {"index": 0, "finish_reason": said.get("finish", "stop"), "message": message}
        return JSONResponse({"model": "talker", "choices": [choice], "usage": usage})


@contextmanager
def listening(app: Starlette) -> Iterator[str]:
    """URL of `app`, up to its version; the socket listens before this returns."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        running = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none", lifespan="off"))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{bound.getsockname()[1]}/v1"
        finally:
            running.should_exit = True
            thread.join(20)


def agent(spec: str, sampling: Sampling = GREEDY, context_tokens: int = 32_768) -> Agent:
    return load_agent(AgentRequest(spec, Helpdesk(), sampling, context_tokens))


def play(player: Agent, task: str = "train-000", settings: PlaySettings | None = None, **episode: Any) -> Play:
    async def run() -> Play:
        live = await Helpdesk().start(Helpdesk().task(task))
        for name, value in episode.items():
            setattr(live, name, value)
        return await player.play(live, settings or PlaySettings())

    return asyncio.run(run())


def scripted(*said: Answer, **options: Any) -> tuple[Server, Play]:
    """What an agent does whose model says `said`, the last again and again."""
    server = Server(lambda turn: said[min(turn, len(said) - 1)])
    with listening(server.app()) as url:
        return server, play(
            agent(f"{url}#talker", options.pop("sampling", GREEDY), options.pop("context", 32_768)), **options
        )


def calling(*calls: tuple[str, str]) -> dict[str, Any]:
    made = [
        {"id": f"c{n}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for n, (name, arguments) in enumerate(calls)
    ]
    return {"tool_calls": made}


LOOK = calling(("get_order", '{"order_id": "W1"}'))
BYE = {"content": "It is done."}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "PATIENCE", Patience(retries=2, first_wait_s=0))
    monkeypatch.delenv("TRACE_AGENTS_LLM_KEY", raising=False)


def test_the_embedded_agent_is_the_same_over_a_server() -> None:
    folder = find_model("embedded:helpdesk-1m")
    engine = Engine.from_pretrained(folder, threads=1)
    tasks = [f"validation-{n:03d}" for n in range(6)]
    here = agent("embedded:helpdesk-1m")
    with listening(create_app(engine, ChatFormat.from_pretrained(folder), None)) as url:
        there = agent(url)
        assert (there.name, here.name) == ("helpdesk-1m", "helpdesk-1m")

        async def both(task: str) -> list[Play]:
            return [
                await one.play(await Helpdesk().start(Helpdesk().task(task)), PlaySettings()) for one in (here, there)
            ]

        async def run() -> list[list[Play]]:
            return [await both(task) for task in tasks]

        for first, second in asyncio.run(run()):
            assert [m.model_dump(exclude={"tool_calls", "tool_call_id"}) for m in first.messages] == [
                m.model_dump(exclude={"tool_calls", "tool_call_id"}) for m in second.messages
            ]
            assert first.info["tokens"] == second.info["tokens"]
            assert first.info["tokens"]["written"] > 0


def test_sampling_the_key_and_the_policy_reach_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACE_AGENTS_LLM_KEY", "secret")
    warm = Sampling(temperature=0.7, max_tokens=33)
    server, _ = scripted(BYE, sampling=warm, settings=PlaySettings(seed=5))
    again, _ = scripted(BYE, sampling=warm, settings=PlaySettings(seed=5))
    (body, *_), (same, *_) = server.bodies, again.bodies
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("talker", 0.7, 33)
    assert isinstance(body["seed"], int)
    assert body["seed"] == same["seed"]
    assert body["messages"][0]["role"] == "system"
    assert {tool["function"]["name"] for tool in body["tools"]} >= {"get_order", "cancel_order"}
    assert server.keys == {"Bearer secret"}
    greedy, _ = scripted(BYE)
    assert "seed" not in greedy.bodies[0]


def test_tokens_and_the_users_end_are_counted() -> None:
    _, done = scripted(LOOK, BYE)
    assert (done.stop, done.info["tokens"]) == (StopReason.USER, {"read": 300, "written": 20})


def test_an_agent_that_never_ends_is_stopped_after_its_turns() -> None:
    server, done = scripted(LOOK, settings=PlaySettings(max_turns=4))
    assert (done.stop, len(server.bodies), done.messages[-1].role) == (StopReason.MAX_TURNS, 4, "tool")
    chatty, done = scripted({"content": "Please give me your order number?"}, settings=PlaySettings(max_turns=2))
    assert (done.stop, len(chatty.bodies)) == (StopReason.MAX_TURNS, 2)


def test_a_conversation_that_outgrows_the_context_ends_there() -> None:
    server, done = scripted(LOOK, context=350)
    assert (done.stop, len(server.bodies), done.messages[-1].role) == (StopReason.MAX_TOKENS, 4, "tool")


def test_a_model_whose_own_context_is_full_ends_the_episode_with_what_was_said() -> None:
    full = (400, "This model's maximum context length is 4096 tokens")
    server, done = scripted(LOOK, full)
    assert (done.stop, len(server.bodies)) == (StopReason.MAX_TOKENS, 2)
    assert [message.role for message in done.messages] == ["user", "assistant", "tool"]


def test_a_turn_that_is_cut_off_ends_the_episode() -> None:
    _, done = scripted(calling(("get_order", '{"order_id": "W')) | {"finish": "length"})
    assert (done.stop, done.messages[-1].role) == (StopReason.MAX_TOKENS, "assistant")


def test_parallel_calls_run_in_order_and_bad_ones_are_errors_to_read() -> None:
    mixed = calling(("get_order", '{"order_id": "W1"}'), ("get_order", '{"order_id": W1}'), ("fly", "{}"))
    _, done = scripted(mixed, BYE)
    results = [message for message in done.messages if message.role == "tool"]
    assert [message.tool_call_id for message in results] == ["c0", "c1", "c2"]
    assert "not a JSON object" in (results[1].content or "")
    assert "unknown tool 'fly'" in (results[2].content or "")
    assert [message.is_error for message in results[1:]] == [True, True]


def test_an_unknown_tool_is_answered_in_the_benchmarks_words_where_it_has_any() -> None:
    async def unknown_tool(name: str, arguments: Any) -> ToolResult:
        return ToolResult(content=f"Error: Tool '{name}' not found.", is_error=True)

    _, done = scripted(calling(("fly", '{"to": "mars"}')), BYE, unknown_tool=unknown_tool)
    (result,) = [message for message in done.messages if message.role == "tool"]
    assert (result.content, result.is_error) == ("Error: Tool 'fly' not found.", True)


def test_an_endpoint_that_is_away_for_a_moment_is_asked_again() -> None:
    server, done = scripted((503, "starting"), (429, "slowly"), BYE)
    assert (done.stop, len(server.bodies)) == (StopReason.USER, 3)


def test_an_endpoint_that_stays_away_is_a_failure_of_infrastructure() -> None:
    with pytest.raises(InfrastructureError, match="the model failed 3 times"):
        scripted((503, "starting"))
    with pytest.raises(InfrastructureError, match="does not answer"):
        play(agent("http://127.0.0.1:9/v1#gone"))


def test_what_only_the_user_can_mend_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"401.*check the model name, the key"):
        scripted((401, "no key"))
    with pytest.raises(UsageError, match="name the model after '#'"):
        agent("http://127.0.0.1:9/v1")
    with pytest.raises(UsageError, match="unknown embedded model 'helpdesk-2m'"):
        agent("embedded:helpdesk-2m")


def test_a_providers_model_without_a_key_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UsageError, match="OPENAI_API_KEY"):
        agent("openai:gpt-5")


OWN = """
from trace_agents.agent import Play
from trace_agents.types import Message, StopReason


class Polite:
    name = "polite"

    def __init__(self, request):
        self.most = request.sampling.max_tokens

    async def play(self, episode, settings):
        result = await episode.call("get_order", {"order_id": "W1"})
        heard = Message(role="user", content=episode.task.prompt)
        said = Message(role="assistant", content=result.content)
        return Play(messages=(heard, said), stop=StopReason.AGENT, info={"most": self.most})
"""


def test_an_agent_of_ones_own_is_named_by_its_file(tmp_path: Path) -> None:
    (tmp_path / "polite.py").write_text(OWN)
    done = play(agent(f"{tmp_path / 'polite.py'}:Polite"))
    assert (done.stop, done.info) == (StopReason.AGENT, {"most": 96})
    assert json.loads(done.messages[1].content or "")
