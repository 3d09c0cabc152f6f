"""Chat models whose model name, the base, an adapter or a composition, is chosen per call.

`EngineChatModel` speaks to a token-level endpoint in this process, `ServerChatModel` to the chat door of any
OpenAI-compatible server. Both take `model=` as a call option, so nothing global holds the current adapter.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from pydantic import Field, SecretStr

from graphs.messages import ai_message, calls_of, parse_arguments, spec_of, to_message
from trace_agents.endpoint import Completion, ModelEndpoint, Sampling
from trace_agents.errors import InfrastructureError, UsageError
from trace_agents.types import Message, ToolCall, ToolSpec
from training.chat import ChatFormat

TOKENS = "token_ids"
"""Key of an assistant message's `response_metadata` under which its sampled token ids travel."""


class _AsyncChatModel(BaseChatModel):
    """What both models share: tools by schema, and no blocking calls."""

    def bind_tools(
        self, tools: Sequence[dict[str, Any] | type | Callable | BaseTool], **kwargs: Any
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """The model with tools to call: LangChain tools, or OpenAI's form.

        Raises:
            UsageError: a bare class or function; make it a tool first.
        """
        declared = [spec_of(tool) for tool in tools if isinstance(tool, (dict, BaseTool))]
        if len(declared) < len(tools):
            other = next(tool for tool in tools if not isinstance(tool, (dict, BaseTool)))
            raise UsageError(f"tool {other!r} is neither a LangChain tool nor OpenAI's form: wrap it with @tool")
        return self.bind(tools=[spec.openai() for spec in declared], **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        raise NotImplementedError(f"{type(self).__name__} is asynchronous: use `ainvoke` or `astream`")


class EngineChatModel(_AsyncChatModel):
    """A `ModelEndpoint` and its chat format as a LangChain chat model.

    Tokens are never re-made: an assistant message carries its sampled ids in `response_metadata`, and later
    prompts are the earlier tokens plus the new messages. A history with foreign assistant messages is rendered
    from its text.
    """

    endpoint: ModelEndpoint
    chat: ChatFormat
    model: str
    """Model name for calls that give none."""
    sampling: Sampling = Field(default_factory=Sampling)

    @property
    def _llm_type(self) -> str:
        return "trace-agents-engine"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": self.model, "sampling": self.sampling.model_dump()}

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        if stop:
            raise UsageError(f"stop strings {stop!r} are not supported: a turn ends with the chat format's stop token")
        tools = [spec_of(tool) for tool in kwargs.get("tools") or ()]
        sampling = kwargs.get("sampling", self.sampling)
        seed = kwargs.get("seed", sampling.seed)
        sampling = sampling.model_copy(update={"stop_token_ids": self.chat.stop_token_ids, "seed": seed})
        prompt = self.prompt_ids(messages, tools)
        completion = await self.endpoint.generate(prompt, kwargs.get("model", self.model), sampling)
        called = sum(len(calls_of(message)) for message in messages if isinstance(message, AIMessage))
        return ChatResult(generations=[ChatGeneration(message=self._reply(completion, len(prompt), called))])

    def prompt_ids(self, messages: Sequence[BaseMessage], tools: Sequence[ToolSpec] = ()) -> list[int]:
        """Token ids of the prompt for the next turn: rendered once, then extended by what was sampled."""
        spoken = [place for place, message in enumerate(messages) if isinstance(message, AIMessage)]
        sampled: list[list[int]] = [messages[place].response_metadata.get(TOKENS) or [] for place in spoken]
        said = [to_message(message) for message in messages]
        if not spoken or not all(sampled) or spoken[-1] + 1 == len(messages):
            return self.chat.prompt_ids(said, tools)
        ids = self.chat.prompt_ids(said[: spoken[0]], tools)
        for place, tokens, following in zip(spoken, sampled, [*spoken[1:], len(messages)], strict=True):
            ids += tokens
            if tokens[-1] not in self.chat.stop_token_ids:  # Cut off at max_tokens: close the turn.
                ids.append(self.chat.stop_token_ids[0])
            ids += self.chat.extension_ids(said[place + 1 : following])
        return ids

    def _reply(self, completion: Completion, prompt_tokens: int, called: int) -> AIMessage:
        parsed = self.chat.parse(completion.token_ids)
        calls = tuple(
            call.model_copy(update={"id": f"call_{called + index}"}) for index, call in enumerate(parsed.tool_calls)
        )
        sampled = len(completion.token_ids)
        return ai_message(
            parsed.model_copy(update={"tool_calls": calls}),
            usage_metadata=UsageMetadata(
                input_tokens=prompt_tokens, output_tokens=sampled, total_tokens=prompt_tokens + sampled
            ),
            response_metadata={
                TOKENS: completion.token_ids,
                "logprobs": completion.logprobs,
                "finish_reason": completion.finish_reason,
                "model_name": completion.model,
            },
        )


class ServerChatModel(_AsyncChatModel):
    """The `/chat/completions` door of an OpenAI-compatible server, such as vLLM with adapters as models."""

    base_url: str
    """Up to and including the version, for example `http://localhost:8000/v1`."""
    model: str
    """Model name for calls that give none."""
    api_key: SecretStr | None = None
    """Sent as a bearer token; None sends none."""
    timeout: float = 120.0
    """Seconds without a byte after which the server counts as gone."""
    options: dict[str, Any] = Field(default_factory=dict)
    """More fields of the request's body (`temperature`, `max_tokens`, `seed`, ...)."""
    transport: httpx.AsyncBaseTransport | None = None
    """Takes the network's place, for example an ASGI application in this process."""

    @property
    def _llm_type(self) -> str:
        return "trace-agents-server"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": self.model, "base_url": self.base_url, **self.options}

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        async with self._client() as client, _network(self.base_url):
            response = await client.post("chat/completions", json=self._body(messages, stop, kwargs))
            await _check(response)
            answer = response.json()
        choice = answer["choices"][0]
        message = choice["message"]
        calls = tuple(
            ToolCall(
                id=call["id"], name=call["function"]["name"], arguments=parse_arguments(call["function"]["arguments"])
            )
            for call in message.get("tool_calls") or ()
        )
        reply = ai_message(
            Message(role="assistant", content=message.get("content") or None, tool_calls=calls),
            usage_metadata=_usage(answer.get("usage")),
            response_metadata={"finish_reason": choice.get("finish_reason"), "model_name": answer.get("model", "")},
        )
        return ChatResult(generations=[ChatGeneration(message=reply)])

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        body = self._body(messages, stop, kwargs) | {"stream": True, "stream_options": {"include_usage": True}}
        async with (
            self._client() as client,
            _network(self.base_url),
            client.stream("POST", "chat/completions", json=body) as response,
        ):
            await _check(response)
            async for line in response.aiter_lines():
                data = line.removeprefix("data:").strip()
                if not line.startswith("data:") or data == "[DONE]":
                    continue
                chunk = _chunk(json.loads(data))
                if run_manager is not None:
                    await run_manager.on_llm_new_token(str(chunk.text), chunk=chunk)
                yield chunk

    def _client(self) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {self.api_key.get_secret_value()}"} if self.api_key else {}
        url = self.base_url.rstrip("/") + "/"
        return httpx.AsyncClient(base_url=url, headers=headers, timeout=self.timeout, transport=self.transport)

    def _body(
        self, messages: Sequence[BaseMessage], stop: list[str] | None, kwargs: Mapping[str, Any]
    ) -> dict[str, Any]:
        body = {"model": self.model, **self.options, **kwargs}
        body["messages"] = [to_message(message).openai() for message in messages]
        return body | ({"stop": stop} if stop else {})


@asynccontextmanager
async def _network(base_url: str) -> AsyncIterator[None]:
    """Turns what the network does into `InfrastructureError`."""
    try:
        yield
    except httpx.TransportError as error:
        reason = str(error) or type(error).__name__
        raise InfrastructureError(f"model server {base_url!r} does not answer: {reason}") from error


async def _check(response: httpx.Response) -> None:
    """Raise for an error status: what the caller can mend is a `UsageError`, the rest an `InfrastructureError`."""
    if response.is_success:
        return
    await response.aread()
    message = f"model server {str(response.url)!r} answered {response.status_code}: {response.text[:300].strip()}"
    mendable = response.status_code in (400, 401, 403, 404, 422)
    raise (
        UsageError(f"{message}; check the model name, the key and the request")
        if mendable
        else InfrastructureError(message)
    )


def _chunk(event: Mapping[str, Any]) -> ChatGenerationChunk:
    """One server-sent event as LangChain's chunk; the last one has usage and no choices."""
    choice = (event.get("choices") or [{}])[0]
    delta = choice.get("delta") or {}
    calls = [
        tool_call_chunk(
            name=(call.get("function") or {}).get("name"),
            args=(call.get("function") or {}).get("arguments"),
            id=call.get("id"),
            index=call.get("index", 0),
        )
        for call in delta.get("tool_calls") or ()
    ]
    finish = choice.get("finish_reason")
    message = AIMessageChunk(
        content=delta.get("content") or "",
        tool_call_chunks=calls,
        usage_metadata=_usage(event.get("usage")),
        response_metadata={"finish_reason": finish, "model_name": event.get("model", "")} if finish else {},
    )
    return ChatGenerationChunk(message=message)


def _usage(usage: Mapping[str, Any] | None) -> UsageMetadata | None:
    if not usage:
        return None
    read, written = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
    return UsageMetadata(input_tokens=read, output_tokens=written, total_tokens=read + written)
