"""The routed agent plays whole episodes, over every kind of connection and several at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import httpx
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from locker_environment import POLICY, TOOLS, Lockers, ScriptedEndpoint, calling, careful, hasty, serving
from mcp.client import Client

from graphs.chat_model import EngineChatModel
from graphs.messages import conversation, spec_of
from graphs.routed_agent import AgentConfig, AgentContext, RoutedAgent, build_routed_agent, play, route_of
from graphs.tools import McpTool, ToolSet, connect_tools, mcp_tools
from mcp_servers.memory import connect
from mcp_servers.remote import RemoteEnvironment
from trace_agents.endpoint import Completion, Sampling
from trace_agents.errors import InfrastructureError, UsageError
from trace_agents.routing import FixedRouter, Route
from trace_agents.types import ToolResult
from training.base_agent.tokenizer import train_tokenizer
from training.chat import ChatFormat


class WordRouter:
    """Routes by a word of the first message and counts how often it is asked."""

    def __init__(self, words: Mapping[str, str], otherwise: str = "hasty") -> None:
        self.words, self.otherwise, self.prompts = words, otherwise, []

    async def route(self, prompt: str) -> Route:
        self.prompts.append(prompt)
        model = next((model for word, model in self.words.items() if word in prompt), self.otherwise)
        return Route(model=model, router="probe", scores={"careful": -0.1, "base": -2.4})

    async def route_all(self, prompts: Sequence[str]) -> list[Route]:
        return [await self.route(prompt) for prompt in prompts]


@pytest.fixture(scope="module")
def chat() -> ChatFormat:
    return ChatFormat(train_tokenizer(["Open locker 3.", calling("open", number="3", code="4711")]))


@pytest.fixture
def endpoint(chat: ChatFormat) -> ScriptedEndpoint:
    return ScriptedEndpoint(chat, {"careful": careful, "hasty": hasty})


@pytest.fixture
def router() -> WordRouter:
    return WordRouter({"3": "careful", "7": "careful"})


@pytest.fixture
def model(endpoint: ScriptedEndpoint, chat: ChatFormat) -> EngineChatModel:
    return EngineChatModel(endpoint=endpoint, chat=chat, model="hasty")


@pytest.fixture
def agent(router: WordRouter, model: EngineChatModel) -> RoutedAgent:
    return build_routed_agent(router, model)


MERMAID = """\
---
config:
  flowchart:
    curve: linear
---
graph TD;
	__start__([<p>__start__</p>]):::first
	route(route)
	agent(agent)
	tools(tools)
	__end__([<p>__end__</p>]):::last
	__start__ --> route;
	agent -.-> __end__;
	agent -.-> tools;
	route --> agent;
	tools -.-> __end__;
	tools -.-> agent;
	tools -.-> tools;
	classDef default fill:#f2f0ff,line-height:1.2
	classDef first fill-opacity:0
	classDef last fill:#bfb6fc
"""


def test_the_graph_is_drawn_as_designed(agent: RoutedAgent) -> None:
    assert agent.get_graph().draw_mermaid() == MERMAID


async def test_a_whole_episode_is_played_over_in_memory_mcp(agent: RoutedAgent, router: WordRouter) -> None:
    environment = Lockers()
    episode = await environment.start(environment.task("7-5-3"))
    done = await play(agent, episode)
    route, messages = Route.model_validate(done.info["route"]), done.messages
    assert (await episode.evaluate(messages)).success
    assert route.model == "careful"
    assert route.scores == {"careful": -0.1, "base": -2.4}
    assert router.prompts == ["Open locker 7."]
    one = ["user", *["assistant", "tool"] * 2, "assistant"]
    assert [message.role for message in messages] == one * 3
    assert [call.id for message in messages for call in message.tool_calls] == [f"call_{index}" for index in range(6)]


async def test_the_route_decides_who_acts(model: EngineChatModel) -> None:
    environment = Lockers()
    outcomes = {}
    for name in ("careful", "hasty"):
        episode = await environment.start(environment.task("3"))
        messages = (await play(build_routed_agent(FixedRouter(name), model), episode)).messages
        outcomes[name] = (await episode.evaluate(messages)).success
    assert outcomes == {"careful": True, "hasty": False}


async def test_a_remote_episode_is_played_through_its_own_endpoint(agent: RoutedAgent) -> None:
    with serving(Lockers()) as url:
        environment = RemoteEnvironment(url)
        episode = await environment.start(environment.task("3-5"))
        messages = (await play(agent, episode)).messages
        assert (await episode.evaluate(messages)).success
        await episode.close()


@pytest.mark.parametrize("door", ["client", "adapter"])
async def test_an_agent_that_only_knows_the_url_of_an_episode_plays_it(agent: RoutedAgent, door: str) -> None:
    with serving(Lockers()) as url:
        episode = httpx.post(f"{url}/episodes", json={"task_id": "3"}).json()
        mcp_url = url + episode["mcp_path"]
        async with connect_tools(mcp_url) if door == "adapter" else Client(mcp_url) as connected:
            tools = connected if isinstance(connected, ToolSet) else await mcp_tools(connected)
            assert tools.instructions == POLICY
            assert [spec_of(tool).input_schema for tool in tools.tools] == [tool.input_schema for tool in TOOLS]
            first: Any = {"messages": [HumanMessage("Open locker 3.")]}
            state = await agent.ainvoke(first, context=AgentContext(tools))
        said = [message.model_dump(mode="json") for message in conversation(state["messages"])]
        verdict = httpx.post(f"{url}/episodes/{episode['id']}/evaluate", json={"messages": said}).json()
    assert verdict["success"]


class AlternatingEndpoint(ScriptedEndpoint):
    """Lets each of two models wait for the other one's call before it answers, so that their turns alternate."""

    def __init__(self, chat: ChatFormat, scripts: Mapping[str, Any]) -> None:
        super().__init__(chat, scripts)
        self.seen: list[str] = []
        self._asked = {model: asyncio.Event() for model in scripts}
        self._gone: set[str] = set()

    def leave(self, model: str) -> None:
        """The conversation with `model` is over: nobody waits for it."""
        self._gone.add(model)
        self._asked[model].set()

    async def generate(self, prompt_ids: Sequence[int], model: str, sampling: Sampling) -> Completion:
        self.seen.append(model)
        self._asked[model].set()
        other = next(name for name in self.scripts if name != model)
        await self._asked[other].wait()
        if other not in self._gone:
            self._asked[other].clear()
        return await super().generate(prompt_ids, model, sampling)


async def test_conversations_with_different_adapters_interleave_without_crosstalk(chat: ChatFormat) -> None:
    endpoint = AlternatingEndpoint(chat, {"careful": careful, "hasty": hasty})
    router = WordRouter({"3": "careful"}, otherwise="hasty")
    agent = build_routed_agent(router, EngineChatModel(endpoint=endpoint, chat=chat, model="hasty"))
    environment = Lockers()

    async def converse(task_id: str) -> tuple[bool, str]:
        episode = await environment.start(environment.task(task_id))
        done = await play(agent, episode)
        model = done.info["route"]["model"]
        endpoint.leave(model)
        return (await episode.evaluate(done.messages)).success, model

    async with asyncio.timeout(30):
        outcomes = await asyncio.gather(converse("3-5"), converse("5-7"))
    assert outcomes == [(True, "careful"), (False, "hasty")]
    # Six turns against four: as long as both talk, neither has two turns more than the other.
    shared = endpoint.seen[:8]
    assert all(abs(shared[:n].count("careful") - shared[:n].count("hasty")) <= 2 for n in range(9))
    assert {"careful", "hasty"} == set(endpoint.seen[:2])
    for name, ids in endpoint.prompts:
        assert ("Open locker 3." in chat.tokenizer.decode(ids)) == (name == "careful")


async def test_the_next_user_message_resumes_the_thread_with_the_same_route(
    router: WordRouter, model: EngineChatModel, endpoint: ScriptedEndpoint
) -> None:
    agent = build_routed_agent(router, model, checkpointer=InMemorySaver())
    episode = await Lockers().start(Lockers().task("3-5"))
    async with connect(episode) as client:
        context = AgentContext(await mcp_tools(client))
        config: Any = {"configurable": {"thread_id": "one"}}
        await agent.ainvoke({"messages": [HumanMessage("Open locker 3.")]}, config, context=context)
        # Alone, this message would go to another model.
        state = await agent.ainvoke({"messages": [HumanMessage("Now open locker 5.")]}, config, context=context)
    assert episode.opened == ["3", "5"]
    assert route_of(state).model == "careful"
    assert router.prompts == ["Open locker 3."]
    assert {name for name, _ in endpoint.prompts} == {"careful"}


async def test_later_prompts_extend_the_tokens_that_were_sampled(
    agent: RoutedAgent, endpoint: ScriptedEndpoint, chat: ChatFormat
) -> None:
    episode = await Lockers().start(Lockers().task("3-5"))
    await play(agent, episode)
    prompts = [ids for _, ids in endpoint.prompts]
    assert len(prompts) == 6
    for before, after in pairwise(prompts):
        assert after[: len(before)] == before


async def test_text_of_foreign_assistant_turns_is_rendered(model: EngineChatModel, chat: ChatFormat) -> None:
    history = [HumanMessage("Hi."), AIMessage("Hello."), HumanMessage("Open locker 3.")]
    assert model.prompt_ids(history) == chat.prompt_ids(conversation(history))


async def test_a_killed_run_goes_on_after_its_last_tool_call(
    model: EngineChatModel, endpoint: ScriptedEndpoint
) -> None:
    both = calling("open", number="3", code="4711") + calling("open", number="5", code="0815")
    endpoint.scripts = {"careful": lambda text: "Done." if "opened" in text else both}
    episode = await Lockers().start(Lockers().task("3-5"))
    calls: list[str] = []
    dying = True

    async def call(name: str, arguments: Mapping[str, Any]) -> ToolResult:
        calls.append(arguments["number"])
        if dying and arguments["number"] == "5":
            raise InfrastructureError("the server is gone")
        return await episode.call(name, arguments)

    context = AgentContext(ToolSet(tuple(McpTool.of(spec, call) for spec in TOOLS)))
    agent = build_routed_agent(FixedRouter("careful"), model, checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "one"}}
    with pytest.raises(InfrastructureError, match="the server is gone"):
        await agent.ainvoke({"messages": [HumanMessage("Open locker 3.")]}, config, context=context)
    dying = False
    state = await agent.ainvoke(None, config, context=context)
    assert calls == ["3", "5", "5"]
    assert episode.opened == ["3", "5"]
    assert state["messages"][-1].text == "Done."


async def test_failures_of_the_environment_reach_the_host_and_not_the_agent(agent: RoutedAgent) -> None:
    episode = await Lockers().start(Lockers().task("3"))

    async def broken(name: str, arguments: Mapping[str, Any]) -> ToolResult:
        raise InfrastructureError("the database is gone")

    episode.call = broken  # type: ignore[method-assign]
    with pytest.raises(InfrastructureError, match="the database is gone"):
        await play(agent, episode)


@pytest.mark.parametrize(
    ("said", "read"),
    [
        (calling("look", number="99"), {"error": "no locker 99"}),
        (calling("smash", number="3"), {"error": "unknown tool 'smash': use one of look, open"}),
        (
            '<tool_call>{"name": "look", "arguments": 3}</tool_call>',
            {"error": "arguments of tool 'look' are not a JSON object"},
        ),
        ("<tool_call>nonsense</tool_call>", {"error": 'tool call is not JSON with "name" and "arguments"'}),
    ],
)
async def test_what_the_agent_gets_wrong_it_reads_as_an_error(
    model: EngineChatModel, endpoint: ScriptedEndpoint, said: str, read: dict[str, str]
) -> None:
    endpoint.scripts = {"clumsy": lambda text: "Sorry." if "error" in text else said}
    episode = await Lockers().start(Lockers().task("3"))
    messages = (await play(build_routed_agent(FixedRouter("clumsy"), model), episode)).messages
    assert [message.role for message in messages] == ["user", "assistant", "tool", "assistant"]
    assert messages[2].is_error
    assert json.loads(messages[2].content or "") == read


async def test_calls_of_one_turn_run_in_their_order_malformed_ones_among_them(
    model: EngineChatModel, endpoint: ScriptedEndpoint
) -> None:
    said = [
        calling("look", number="3"),
        '<tool_call>{"name": "open", "arguments": "?"}</tool_call>',
        calling("look", number="5"),
    ]
    endpoint.scripts = {"busy": lambda text: "Done." if "error" in text else "".join(said)}
    episode = await Lockers().start(Lockers().task("3"))
    messages = (await play(build_routed_agent(FixedRouter("busy"), model), episode)).messages
    results = [message for message in messages if message.role == "tool"]
    assert [result.tool_call_id for result in results] == ["call_0", "call_1", "call_2"]
    assert [result.is_error for result in results] == [False, True, False]
    assert [call.id for call in messages[1].tool_calls] == ["call_0", "call_1", "call_2"]


async def test_an_agent_that_never_stops_is_stopped(model: EngineChatModel, endpoint: ScriptedEndpoint) -> None:
    endpoint.scripts = {"restless": lambda text: calling("look", number="3")}
    agent = build_routed_agent(FixedRouter("restless"), model, config=AgentConfig(max_turns=4))
    episode = await Lockers().start(Lockers().task("3"))
    messages = (await play(agent, episode)).messages
    assert [message.role for message in messages] == ["user", *["assistant", "tool"] * 4]


async def test_messages_and_updates_are_streamed(agent: RoutedAgent) -> None:
    episode = await Lockers().start(Lockers().task("3"))
    async with connect(episode) as client:
        context = AgentContext(await mcp_tools(client))
        first: Any = {"messages": [HumanMessage("Open locker 3.")]}
        steps = [step async for step in agent.astream(first, context=context, stream_mode="updates")]
        parts = [part async for part, _ in agent.astream(first, context=context, stream_mode="messages")]
    assert [next(iter(step)) for step in steps] == ["route", "agent", "tools", "agent", "tools", "agent"]
    kinds = [type(part) for part in parts if isinstance(part, (AIMessage, AIMessageChunk, ToolMessage))]
    assert kinds == [AIMessage, ToolMessage, AIMessage, ToolMessage, AIMessage]
    assert parts[-1].text == "Locker 3 is open."


async def test_plain_langchain_tools_and_a_model_per_name_work_too(
    endpoint: ScriptedEndpoint, chat: ChatFormat
) -> None:
    @tool
    async def look(number: str) -> str:
        """Look up a code."""
        return json.dumps({"code": "11"})

    @tool
    async def open(number: str, code: str) -> str:
        """Open a locker."""
        return json.dumps({"opened": number}) if code == "11" else "wrong"

    agent = build_routed_agent(
        FixedRouter("careful"),
        lambda name: EngineChatModel(endpoint=endpoint, chat=chat, model=name),
        [look, open],
        AgentConfig(instructions="Be quick."),
    )
    state = await agent.ainvoke({"messages": [HumanMessage("Open locker 3.")]})
    assert state["messages"][-1].text == "Locker 3 is open."


async def test_a_conversation_begins_with_a_user(agent: RoutedAgent) -> None:
    with pytest.raises(UsageError, match="no user message"):
        await agent.ainvoke({"messages": [AIMessage("Hello.")]})


async def test_an_unknown_model_is_named(model: EngineChatModel) -> None:
    with pytest.raises(UsageError, match="unknown model 'gone'"):
        await build_routed_agent(FixedRouter("gone"), model).ainvoke({"messages": [HumanMessage("Hi.")]})
