"""The chat models against the real engine: in process, over its HTTP door, and beside the training rollouts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from locker_environment import POLICY, TOOLS, Lockers, ScriptedEndpoint, calling, careful
from peft import LoraConfig, get_peft_model
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route as Path_
from transformers import Qwen3Config, Qwen3ForCausalLM

from graphs.chat_model import EngineChatModel, ServerChatModel
from graphs.messages import ai_message, conversation, from_message, spec_of, to_message
from graphs.routed_agent import AgentConfig, build_routed_agent, play
from trace_agents.endpoint import Sampling
from trace_agents.errors import InfrastructureError, UsageError
from trace_agents.routing import FixedRouter
from trace_agents.types import Message, ToolCall
from training.base_agent.tokenizer import train_tokenizer
from training.chat import ChatFormat
from training.engine import Engine
from training.engine.http import create_app
from training.rollouts import RolloutConfig, rollout, trajectory_from_trace

# PEFT 0.21 asks transformers 5.23 by a name that it has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.fixture(scope="module")
def chat() -> ChatFormat:
    return ChatFormat(train_tokenizer(["Open locker 3.", calling("look", number="3")]))


@pytest.fixture(scope="module")
def adapted(chat: ChatFormat, tmp_path_factory: pytest.TempPathFactory) -> tuple[Qwen3ForCausalLM, Path]:
    """A random base and a random adapter for it."""
    torch.manual_seed(0)
    config = Qwen3Config(
        architectures=["Qwen3ForCausalLM"],
        vocab_size=len(chat.tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=chat.stop_token_ids[0],
        pad_token_id=chat.tokenizer.pad_token_id,
    )
    base = Qwen3ForCausalLM(config)
    for parameter in base.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.12)
    with torch.no_grad():  # Turns end, so that conversations have several.
        base.model.embed_tokens.weight[chat.stop_token_ids[0]] *= 3
    frozen = Qwen3ForCausalLM(config)
    frozen.load_state_dict(base.state_dict())
    peft = get_peft_model(frozen, LoraConfig(r=2, target_modules=["v_proj", "down_proj"], task_type="CAUSAL_LM"))
    for name, parameter in peft.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    folder = tmp_path_factory.mktemp("adapters") / "bold"
    peft.save_pretrained(folder)
    return base, folder


@pytest.fixture
async def engine(adapted: tuple[Qwen3ForCausalLM, Path]) -> Engine:
    engine = Engine.from_model(adapted[0], "tiny")
    await engine.load_adapter("bold", str(adapted[1]))
    return engine


@pytest.mark.parametrize("name", ["tiny", "bold"])
async def test_the_served_agent_says_what_the_training_rollout_says(
    engine: Engine, chat: ChatFormat, name: str
) -> None:
    environment = Lockers()
    task = environment.task("7-5-3")
    sampling = Sampling(max_tokens=60)
    config = RolloutConfig(model=name, sampling=sampling, max_turns=12, retries=0)
    trained = trajectory_from_trace(await rollout(environment, task, engine, chat, config))
    model = EngineChatModel(endpoint=engine, chat=chat, model="tiny", sampling=sampling)
    agent = build_routed_agent(FixedRouter(name), model, config=AgentConfig(max_turns=12))
    served = (await play(agent, await environment.start(task))).messages
    spoken = tuple(message for message in trained.messages if message.role != "system")
    assert len(spoken) >= 2
    assert served == spoken


WITH_SYSTEM = (
    "{% for m in messages if m.role == 'system' %}{{ m.content }}{% endfor %}"
    "{% if tools %}{{ tools | tojson }}{% endif %}"
)


@pytest.mark.parametrize(
    "said",
    [
        None,
        calling("look", number="99"),
        calling("smash", number="3"),
        calling("look", number="3")
        + '<tool_call>{"name": "open", "arguments": "?"}</tool_call>'
        + calling("look", number="5"),
        "<tool_call>nonsense</tool_call>",
    ],
)
async def test_prompts_and_results_are_the_training_rollouts_token_by_token(said: str | None) -> None:
    tokenizer = train_tokenizer(["Open locker 3."])
    tokenizer.chat_template = WITH_SYSTEM + str(tokenizer.chat_template)
    chat = ChatFormat(tokenizer)
    script = careful if said is None else lambda text: "Sorry." if "rror" in text.rpartition("<|user|>")[2] else said
    environment, task = Lockers(), Lockers().task("3-5")
    endpoints = [ScriptedEndpoint(chat, {"agent": script}) for _ in range(2)]
    config = RolloutConfig(model="agent", retries=0)
    trained = trajectory_from_trace(await rollout(environment, task, endpoints[0], chat, config))
    agent = build_routed_agent(FixedRouter("agent"), EngineChatModel(endpoint=endpoints[1], chat=chat, model="other"))
    served = (await play(agent, await environment.start(task))).messages
    assert endpoints[0].prompts == endpoints[1].prompts
    assert served == tuple(message for message in trained.messages if message.role != "system")
    first = tokenizer.decode(endpoints[1].prompts[0][1])
    assert first.startswith(POLICY)
    assert '"name": "look"' in first


async def test_adapters_are_chosen_per_call_and_the_two_doors_agree(engine: Engine, chat: ChatFormat) -> None:
    transport = httpx.ASGITransport(create_app(engine, chat))
    server = ServerChatModel(
        base_url="http://engine/v1", model="tiny", transport=transport, options={"temperature": 0, "max_tokens": 12}
    )
    inside = EngineChatModel(endpoint=engine, chat=chat, model="tiny", sampling=Sampling(max_tokens=12))
    said = {}
    for name in ("tiny", "bold"):
        first = await inside.ainvoke([HumanMessage("Open locker 3.")], model=name)
        over_http = await server.ainvoke([HumanMessage("Open locker 3.")], model=name)
        chunks = [chunk async for chunk in server.astream([HumanMessage("Open locker 3.")], model=name)]
        streamed = chunks[0]
        for chunk in chunks[1:]:
            streamed += chunk
        assert to_message(first).content == to_message(over_http).content == to_message(streamed).content
        assert over_http.response_metadata["model_name"] == name
        assert over_http.usage_metadata == first.usage_metadata
        said[name] = first.text
    assert said["tiny"] != said["bold"]


async def test_bad_requests_and_dead_servers_are_told_apart(engine: Engine, chat: ChatFormat) -> None:
    transport = httpx.ASGITransport(create_app(engine, chat, api_key="secret"))
    messages = [HumanMessage("Hi.")]
    server = ServerChatModel(base_url="http://engine/v1", model="gone", transport=transport, api_key="secret")
    with pytest.raises(UsageError, match="gone"):
        await server.ainvoke(messages)
    with pytest.raises(UsageError, match="401"):
        await server.model_copy(update={"api_key": None}).ainvoke(messages)
    dead = ServerChatModel(base_url="http://127.0.0.1:9/v1", model="tiny")
    with pytest.raises(InfrastructureError, match="does not answer"):
        await dead.ainvoke(messages)
    assert "secret" not in repr(server)


def scripted_server(seen: list[dict[str, Any]], *chunks: str) -> httpx.ASGITransport:
    """An OpenAI-compatible server that answers one call, whole or in server-sent events."""

    async def complete(request: Request) -> Response:
        seen.append(await request.json())
        if seen[-1].get("stream"):
            return StreamingResponse(
                (f"data: {chunk}\n\n" for chunk in (*chunks, "[DONE]")), media_type="text/event-stream"
            )
        call = {"id": "a", "type": "function", "function": {"name": "look", "arguments": '{"number": "3"}'}}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        return JSONResponse({"model": "m", "choices": [{"message": message, "finish_reason": "tool_calls"}]})

    async def broken(request: Request) -> Response:
        return PlainTextResponse("overloaded", 503)

    return httpx.ASGITransport(
        Starlette(
            routes=[
                Path_("/v1/chat/completions", complete, methods=["POST"]),
                Path_("/down/{rest:path}", broken, methods=["POST"]),
            ]
        )
    )


async def test_requests_have_openais_shape_and_tool_calls_come_back() -> None:
    @tool
    async def look(number: str) -> str:
        """Look up a code."""
        return number

    seen: list[dict[str, Any]] = []
    server = ServerChatModel(
        base_url="http://x/v1/", model="base", transport=scripted_server(seen), options={"seed": 3}
    )
    history = [SystemMessage("Policy."), HumanMessage("Hi."), ai_message(Message(role="assistant", content="Hello."))]
    reply = await server.bind_tools([look], model="adapter").ainvoke([*history, HumanMessage("Open 3.")])
    assert reply.tool_calls == [{"name": "look", "args": {"number": "3"}, "id": "a", "type": "tool_call"}]
    assert (seen[0]["model"], seen[0]["seed"]) == ("adapter", 3)
    assert [message["role"] for message in seen[0]["messages"]] == ["system", "user", "assistant", "user"]
    assert seen[0]["tools"] == [spec_of(look).openai()]
    with pytest.raises(InfrastructureError, match="503: overloaded"):
        await server.model_copy(update={"base_url": "http://x/down"}).ainvoke(history)


async def test_streamed_tool_calls_are_put_together() -> None:
    chunks = (
        '{"model": "m", "choices": [{"delta": {"role": "assistant", "content": "One "}}]}',
        '{"choices": [{"delta": {"content": "moment."}}]}',
        '{"choices": [{"delta": {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "look"}}]}}]}',
        '{"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{\\"number\\": "}}]}}]}',
        '{"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "\\"3\\"}"}}]}}]}',
        '{"model": "m", "choices": [{"delta": {}, "finish_reason": "tool_calls"}]}',
        '{"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 7}}',
    )
    server = ServerChatModel(base_url="http://x/v1", model="m", transport=scripted_server([], *chunks))
    parts = [part async for part in server.astream([HumanMessage("Hi.")])]
    whole = parts[0]
    for part in parts[1:]:
        whole += part
    assert isinstance(whole, AIMessageChunk)
    assert to_message(whole).model_dump(include={"content", "tool_calls"}) == {
        "content": "One moment.",
        "tool_calls": ({"id": "a", "name": "look", "arguments": {"number": "3"}},),
    }
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["total_tokens"] == 12


def test_messages_survive_the_way_to_langchain_and_back() -> None:
    messages = (
        Message(role="system", content="Policy."),
        Message(role="user", content="Hi."),
        Message(
            role="assistant",
            content="So.",
            tool_calls=(
                ToolCall(id="b", name="x", arguments="not json"),
                ToolCall(id="a", name="y", arguments={"k": [1]}),
            ),
        ),
        Message(role="tool", content="bad", tool_call_id="b", name="x", is_error=True),
        Message(role="tool", content="ok", tool_call_id="a", name="y"),
        Message(role="assistant", content="Bye."),
    )
    assert conversation([from_message(message) for message in messages]) == messages


def test_text_in_content_blocks_is_read() -> None:
    blocks = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert to_message(ToolMessage(blocks, tool_call_id="1")).content == "ab"
    assert to_message(AIMessage("")).content is None


def test_tools_reach_the_prompt_with_their_schema_untouched() -> None:
    declared = TOOLS[0]
    assert spec_of(declared.openai()).openai() == declared.openai()
    with pytest.raises(UsageError, match="wrap it with @tool"):
        ServerChatModel(base_url="http://x", model="m").bind_tools([print])


async def test_blocking_calls_and_stop_strings_are_refused_by_name(engine: Engine, chat: ChatFormat) -> None:
    model = EngineChatModel(endpoint=engine, chat=chat, model="tiny")
    with pytest.raises(NotImplementedError, match="use `ainvoke`"):
        model.invoke([HumanMessage("Hi.")])
    with pytest.raises(UsageError, match=r"stop strings \['x'\]"):
        await model.ainvoke([HumanMessage("Hi.")], stop=["x"])
