"""The HTTP endpoint: the same answers as in process, in the shape that vLLM's clients expect."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import uvicorn
from openai import AsyncOpenAI, BadRequestError, NotFoundError
from renderers.configs import DefaultRendererConfig
from tiny_base import make_adapter, make_base, teach_adapter
from verifiers.v1.clients.train import TrainClient
from verifiers.v1.configs.client import TrainClientConfig
from verifiers.v1.dialects.chat import ChatDialect
from verifiers.v1.types import SamplingConfig

from trace_agents.cli import main
from trace_agents.cli.serve import listen
from trace_agents.endpoint import Completion, ModelEndpoint, Sampling
from trace_agents.errors import InfrastructureError, UsageError
from trace_agents.types import Message, ToolCall, ToolSpec
from training.chat import ChatFormat
from training.engine import Engine
from training.engine.http import create_app
from training.engine.remote import RemoteEndpoint

# PEFT 0.21 asks transformers 5.23 by a name that it has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

PROMPT = list(range(20, 60))
ASKED = [{"role": "user", "content": "Where is order W12?"}]
CALL = ToolCall(name="get_order", arguments={"id": "W12"})
TOOL = {
    "type": "function",
    "function": {
        "name": "get_order",
        "description": "Look up an order.",
        "parameters": {"type": "object", "properties": {"id": {"type": "string"}}},
    },
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(base, tmp_path_factory.mktemp("adapters") / "plain", 1)


@pytest.fixture(scope="module")
def caller(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that has learned to answer `ASKED` with a tool call."""
    chat = ChatFormat.from_pretrained(base)
    conversation = [Message(role="user", content=ASKED[0]["content"]), Message(role="assistant", tool_calls=(CALL,))]
    text = chat.tokenizer.apply_chat_template(
        [
            {"role": "user", "content": conversation[0].content},
            {"role": "assistant", "tool_calls": [{"function": {"name": CALL.name, "arguments": CALL.arguments}}]},
        ],
        tokenize=False,
    )
    return teach_adapter(base, tmp_path_factory.mktemp("taught") / "caller", [chat.encode(text)])


@pytest.fixture
async def engine(base: Path, adapter: Path, caller: Path) -> Engine:
    engine = Engine.from_pretrained(base, max_context=200)
    await engine.load_adapter("plain", str(adapter))
    await engine.load_adapter("caller", str(caller))
    return engine


@pytest.fixture
async def http(engine: Engine, base: Path) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(engine, ChatFormat.from_pretrained(base)))
    async with httpx.AsyncClient(transport=transport, base_url="http://engine") as client:
        yield client


@pytest.fixture
async def remote(engine: Engine, base: Path) -> AsyncIterator[RemoteEndpoint]:
    transport = httpx.ASGITransport(create_app(engine, ChatFormat.from_pretrained(base)))
    async with RemoteEndpoint("http://engine/v1", transport=transport) as endpoint:
        yield endpoint


@contextlib.asynccontextmanager
async def serving(engine: Engine, base: Path) -> AsyncIterator[str]:
    """The endpoint on a port of this machine; the socket listens already, so a client may call at once."""
    listening = listen("127.0.0.1", 0)
    app = create_app(engine, ChatFormat.from_pretrained(base))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", ws="none"))
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


def assert_same(one: Completion, other: Completion) -> None:
    """Equal but for the last bits of float32: a processor's kernels may sum in another order from call to call."""
    assert one.model_copy(update={"logprobs": ()}) == other.model_copy(update={"logprobs": ()})
    assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)


async def test_over_http_everything_is_exactly_as_in_process(engine: Engine, remote: RemoteEndpoint) -> None:
    assert isinstance(remote, ModelEndpoint)
    assert await remote.models() == await engine.models() == ["tiny", "plain", "caller"]
    sampling = Sampling(temperature=0.9, top_p=0.95, max_tokens=12, stop_token_ids=(7, 8), seed=5)
    for model in await engine.models():
        local = await engine.generate(PROMPT, model, sampling)
        assert_same(await remote.generate(PROMPT, model, sampling), local)
        stopping = sampling.model_copy(update={"stop_token_ids": (local.token_ids[3],)})
        assert_same(await remote.generate(PROMPT, model, stopping), await engine.generate(PROMPT, model, stopping))
        candidates = [3, 299, 3, 50]
        scores = await engine.score_next(PROMPT, candidates, model)
        assert await remote.score_next(PROMPT, candidates, model) == pytest.approx(scores, abs=1e-5)


async def test_more_candidates_than_one_request_takes_are_scored_in_several(
    engine: Engine, remote: RemoteEndpoint
) -> None:
    candidates = list(range(280))
    expected = await engine.score_next(PROMPT, candidates, "plain")
    assert await remote.score_next(PROMPT, candidates, "plain") == pytest.approx(expected, abs=1e-5)


async def test_adapters_come_and_go_over_http(engine: Engine, remote: RemoteEndpoint, adapter: Path) -> None:
    await remote.load_adapter("another", str(adapter))
    sampling = Sampling(max_tokens=4)
    same = [(await remote.generate(PROMPT, name, sampling)).token_ids for name in ("another", "plain")]
    assert same[0] == same[1]
    await remote.load_adapter("another", str(adapter))  # Replaced in place.
    await remote.unload_adapter("another")
    assert "another" not in await remote.models()
    with pytest.raises(UsageError, match=r"refused /inference/v1/generate: unknown model 'another': use one of"):
        await remote.generate(PROMPT, "another", sampling)
    with pytest.raises(UsageError, match=r"refused /v1/load_lora_adapter: .*has no adapter_config\.json"):
        await remote.load_adapter("another", "/nowhere")
    with pytest.raises(UsageError, match="unknown adapter 'another'"):
        await remote.unload_adapter("another")


async def test_loading_over_an_adapter_is_refused_unless_asked_for(http: httpx.AsyncClient, adapter: Path) -> None:
    body = {"lora_name": "plain", "lora_path": str(adapter)}
    refused = await http.post("/v1/load_lora_adapter", json=body)
    assert refused.status_code == 400
    assert "set load_inplace to replace it" in refused.json()["error"]["message"]
    assert (await http.post("/v1/load_lora_adapter", json=body | {"load_inplace": True})).status_code == 200


async def test_a_full_context_is_an_infrastructure_failure_over_http_too(remote: RemoteEndpoint) -> None:
    with pytest.raises(InfrastructureError, match="maximum context length is 200 tokens"):
        await remote.generate([5] * 200, "tiny", Sampling(max_tokens=5))
    with pytest.raises(InfrastructureError, match="full after 190 prompt and 10 sampled tokens"):
        await remote.generate([5] * 190, "tiny", Sampling(max_tokens=50))


async def test_a_server_that_is_gone_is_an_infrastructure_failure() -> None:
    free = listen("127.0.0.1", 0)
    port = free.getsockname()[1]
    free.close()
    async with RemoteEndpoint(f"http://127.0.0.1:{port}") as remote:
        with pytest.raises(InfrastructureError, match="is gone"):
            await remote.models()


def test_one_remote_endpoint_serves_one_event_loop_after_another(base: Path) -> None:
    listening = listen("127.0.0.1", 0)
    config = uvicorn.Config(create_app(Engine.from_pretrained(base)), log_level="warning", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        remote = RemoteEndpoint(f"http://127.0.0.1:{listening.getsockname()[1]}")
        sampling = Sampling(max_tokens=3)
        turns = [asyncio.run(_once(remote, sampling)) for _ in range(2)]
        assert turns[0] == turns[1]
    finally:
        server.should_exit = True
        thread.join()


async def _once(remote: RemoteEndpoint, sampling: Sampling) -> list[int]:
    async with remote:
        return (await remote.generate(PROMPT, "tiny", sampling)).token_ids


async def test_verifiers_train_client_plays_against_the_endpoint_unchanged(engine: Engine, base: Path) -> None:
    async with serving(engine, base) as url:
        client = TrainClient(
            TrainClientConfig(
                base_url=f"{url}/v1",
                renderer=DefaultRendererConfig(tool_parser="qwen3"),
                renderer_model_name=str(base),
            )
        )
        body = {"model": "caller", "messages": ASKED, "tools": [TOOL]}
        sampling = SamplingConfig(temperature=1.0, top_p=1.0, max_tokens=40, seed=3)
        response = await client.get_response(ChatDialect(), body, sampling)
        await client.close()
    assert response.tokens is not None
    tool = ToolSpec(name="get_order", description="Look up an order.", input_schema=TOOL["function"]["parameters"])
    chat = ChatFormat.from_pretrained(base)
    prompt = chat.prompt_ids([Message(role="user", content=ASKED[0]["content"])], [tool])
    assert response.tokens.prompt_ids == prompt
    local = await engine.generate(
        prompt, "caller", Sampling(temperature=1.0, max_tokens=40, seed=3, stop_token_ids=chat.stop_token_ids)
    )
    assert response.tokens.completion_ids == local.token_ids
    assert response.tokens.completion_logprobs == pytest.approx(local.logprobs, abs=1e-5)
    assert response.finish_reason in ("stop", "tool_calls", "length")


async def test_openais_client_gets_tool_calls_and_plays_on(engine: Engine, base: Path) -> None:
    async with serving(engine, base) as url, AsyncOpenAI(base_url=f"{url}/v1", api_key="-") as client:
        assert [card.id async for card in client.models.list()] == ["tiny", "plain", "caller"]
        answer = await client.chat.completions.create(
            model="caller", messages=ASKED, tools=[TOOL], temperature=0, logprobs=True, n=2
        )
        chat = ChatFormat.from_pretrained(base)
        prompt = chat.prompt_ids([Message(role="user", content=ASKED[0]["content"])])  # This template shows no tools.
        local = await engine.generate(prompt, "caller", Sampling(stop_token_ids=chat.stop_token_ids))
        for choice in answer.choices:
            assert choice.finish_reason == "tool_calls"
            [call] = choice.message.tool_calls
            assert (call.function.name, json.loads(call.function.arguments)) == (CALL.name, CALL.arguments)
            assert [entry.logprob for entry in choice.logprobs.content] == pytest.approx(local.logprobs, abs=1e-5)
        assert answer.usage.completion_tokens == 2 * len(answer.choices[0].logprobs.content)
        played_on = [
            *ASKED,
            answer.choices[0].message.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": call.id, "content": '{"status": "shipped"}'},
        ]
        later = await client.chat.completions.create(
            model="tiny", messages=played_on, max_tokens=6, temperature=0, extra_body={"return_token_ids": True}
        )
        conversation = [
            Message(role="user", content=ASKED[0]["content"]),
            Message(role="assistant", tool_calls=(CALL,)),
            Message(role="tool", content='{"status": "shipped"}', tool_call_id=call.id),
        ]
        assert later.model_extra["prompt_token_ids"] == chat.prompt_ids(conversation)
        with pytest.raises(NotFoundError, match="unknown model 'gone'"):
            await client.chat.completions.create(model="gone", messages=ASKED)
        with pytest.raises(BadRequestError, match=r"presence_penalty=1\.5 is not supported"):
            await client.chat.completions.create(model="tiny", messages=ASKED, presence_penalty=1.5)
        with pytest.raises(BadRequestError, match=r"stop='###' is not supported"):
            await client.chat.completions.create(model="tiny", messages=ASKED, stop="###")


async def test_a_streamed_answer_adds_up_to_the_plain_one(engine: Engine, base: Path) -> None:
    async with serving(engine, base) as url, AsyncOpenAI(base_url=f"{url}/v1", api_key="-") as client:
        for model in ("caller", "tiny"):
            asked = {"model": model, "messages": ASKED, "temperature": 0, "max_tokens": 40}
            plain = await client.chat.completions.create(**asked)
            stream = await client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
            chunks = [chunk async for chunk in stream]
            deltas = [choice for chunk in chunks for choice in chunk.choices]
            assert "".join(choice.delta.content or "" for choice in deltas) == (plain.choices[0].message.content or "")
            calls = [call.function for choice in deltas for call in choice.delta.tool_calls or ()]
            expected = [call.function for call in plain.choices[0].message.tool_calls or ()]
            assert [(call.name, call.arguments) for call in calls] == [(call.name, call.arguments) for call in expected]
            assert deltas[-1].finish_reason == plain.choices[0].finish_reason
            assert chunks[-1].usage == plain.usage


async def test_completions_take_text_or_tokens_and_return_logprobs(engine: Engine, base: Path) -> None:
    chat = ChatFormat.from_pretrained(base)
    text = "Please cancel order W1234."
    async with serving(engine, base) as url, AsyncOpenAI(base_url=f"{url}/v1", api_key="-") as client:
        asked = {"model": "plain", "max_tokens": 5, "temperature": 0, "logprobs": 1}
        by_text = await client.completions.create(prompt=text, **asked)
        both = await client.completions.create(
            prompt=[chat.encode(text), PROMPT], **asked, extra_body={"return_token_ids": True}
        )
    local = await engine.generate(
        chat.encode(text), "plain", Sampling(max_tokens=5, stop_token_ids=chat.stop_token_ids)
    )
    assert by_text.choices[0].logprobs.token_logprobs == pytest.approx(local.logprobs, abs=1e-5)
    assert both.choices[0].text == by_text.choices[0].text
    assert [choice.index for choice in both.choices] == [0, 1]
    assert both.choices[0].model_extra["token_ids"] == local.token_ids
    assert both.usage.prompt_tokens == len(chat.encode(text)) + len(PROMPT)


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/v1/chat/completions", {"messages": []}, "messages"),
        ("/v1/chat/completions", {"messages": [{"role": "critic", "content": "-"}]}, "role 'critic' is not supported"),
        ("/v1/chat/completions", {"messages": ASKED, "tool_choice": "required"}, "tool_choice"),
        ("/v1/chat/completions", {"messages": ASKED, "logit_bias": {"5": 1}}, "logit_bias={'5': 1} is not supported"),
        ("/v1/completions", {"prompt": "a", "echo": True}, "echo=True is not supported"),
        ("/inference/v1/generate", {"token_ids": [], "sampling_params": {}}, "token_ids"),
        ("/inference/v1/generate", {"token_ids": [5], "sampling_params": {"top_k": 5}}, "top_k=5 is not supported"),
        ("/inference/v1/generate", {"token_ids": [70_000], "sampling_params": {}}, "prompt has token id 70000"),
        ("/inference/v1/generate", {"token_ids": [5], "sampling_params": {"logprobs": 7}}, "logprobs=7"),
        ("/inference/v1/generate", {"token_ids": [5], "sampling_params": {"allowed_token_ids": [5]}}, "max_tokens=1"),
    ],
)
async def test_what_the_endpoint_does_not_apply_it_refuses(
    http: httpx.AsyncClient, path: str, body: dict[str, object], message: str
) -> None:
    answer = await http.post(path, json=body)
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


async def test_a_body_that_is_no_json_is_refused(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/completions", content=b"{")
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "BadRequestError")


async def test_model_cards_state_the_context_and_the_base(http: httpx.AsyncClient) -> None:
    cards = (await http.get("/v1/models")).json()["data"]
    assert [(card["id"], card["parent"], card["max_model_len"]) for card in cards] == [
        ("tiny", None, 200),
        ("plain", "tiny", 200),
        ("caller", "tiny", 200),
    ]
    assert (await http.get("/health")).status_code == 200


async def test_with_an_api_key_only_health_answers_without_it(engine: Engine) -> None:
    transport = httpx.ASGITransport(create_app(engine, None, api_key="secret"))
    async with httpx.AsyncClient(transport=transport, base_url="http://engine") as client:
        assert (await client.get("/v1/models")).status_code == 401
        assert (await client.get("/health")).status_code == 200
    async with RemoteEndpoint("http://engine", api_key="secret", transport=transport) as remote:
        assert "tiny" in await remote.models()
    async with RemoteEndpoint("http://engine", api_key="wrong", transport=transport) as remote:
        with pytest.raises(UsageError, match="check the API key"):
            await remote.models()


async def test_without_a_chat_template_tokens_still_go_in_and_out(engine: Engine) -> None:
    transport = httpx.ASGITransport(create_app(engine))
    async with httpx.AsyncClient(transport=transport, base_url="http://engine") as client:
        refused = await client.post("/v1/chat/completions", json={"messages": ASKED})
        assert "has no chat template: send token ids to /inference/v1/generate" in refused.json()["error"]["message"]
    async with RemoteEndpoint("http://engine", transport=transport) as remote:
        assert len((await remote.generate(PROMPT, "tiny", Sampling(max_tokens=3))).token_ids) == 3


def test_the_command_refuses_bad_input_in_one_line(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    taken = listen("127.0.0.1", 0)
    port = str(taken.getsockname()[1])
    cases = {
        ("nowhere",): "model folder 'nowhere' holds no config.json",
        (str(base), "--adapter", "x=/nowhere"): "adapter folder '/nowhere' has no adapter_config.json",
        (str(base), "--adapter", "x="): "--adapter 'x=' names no folder",
        (str(base), "--dtype", "float8"): "engine setting dtype='float8'",
        (str(base), "--port", port): f"port {port} on '127.0.0.1' is in use",
    }
    for arguments, message in cases.items():
        assert main(["endpoint", *arguments]) == 2
        assert message in capsys.readouterr().err
    taken.close()
