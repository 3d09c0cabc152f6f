"""Request bodies of the HTTP endpoint, in the field names of vLLM 0.32.

Fields that steer decoding and that the engine does not have are refused unless they are neutral, never ignored:
a sampled token must mean what its request said.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from trace_agents.endpoint import Sampling
from trace_agents.errors import UsageError
from trace_agents.types import Message, Role, ToolCall, ToolSpec

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "top_k": (0, -1),
    "min_p": (0,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "repetition_penalty": (1,),
    "min_tokens": (0,),
    "logit_bias": ({},),
    "bad_words": ([],),
    "stop": ("", []),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "use_beam_search": (False,),
    "prompt_logprobs": (),
    "structured_outputs": (),
    "response_format": ({"type": "text"},),
    "chat_template": (),
    "chat_template_kwargs": ({},),
    "continue_final_message": (False,),
    "add_generation_prompt": (True,),
    "thinking_token_budget": (),
    "content_parts": ([],),
    "features": (),
}
"""Fields that are understood only at these values (and at null)."""

_ROLES: dict[Any, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}


class _Body(BaseModel):
    model_config = ConfigDict(extra="allow")

    @model_validator(mode="after")
    def _refuse_what_is_not_applied(self) -> _Body:
        for name, value in (self.model_extra or {}).items():
            if name in _NEUTRAL and value is not None and value not in _NEUTRAL[name]:
                raise ValueError(f"{name}={value!r} is not supported by this server: leave it out")
        return self


class _Decoding(_Body):
    """Fields that all kinds of generation share; the defaults are vLLM's."""

    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    seed: int | None = None
    n: int = Field(default=1, ge=1, le=64)
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False

    def sampling(self, max_tokens: int, stop: tuple[int, ...], index: int = 0) -> Sampling:
        """As the engine takes it; `stop` are the model's own stop tokens, `index` the number of the choice."""
        return Sampling(
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            max_tokens=max_tokens,
            stop_token_ids=(*(self.stop_token_ids or ()), *(() if self.ignore_eos else stop)),
            seed=None if self.seed is None else self.seed + index,
        )


class GenerateSampling(_Decoding):
    """`sampling_params` of `/inference/v1/generate`."""

    max_tokens: int | None = Field(default=None, ge=1)
    """None: as many as the context holds."""
    logprobs: int | None = Field(default=None, ge=-1)
    """None: no log-probabilities; any number: the sampled token's."""
    logprob_token_ids: list[int] | None = Field(default=None, max_length=128)
    """Tokens whose log-probabilities are returned too; needs `max_tokens` 1."""
    allowed_token_ids: list[int] | None = Field(default=None, min_length=1)
    """Tokens that may be sampled; needs `max_tokens` 1 and temperature 0."""

    @model_validator(mode="after")
    def _check(self) -> GenerateSampling:
        scored = self.logprob_token_ids is not None or self.allowed_token_ids is not None
        if scored and self.max_tokens != 1:
            raise ValueError("logprob_token_ids and allowed_token_ids need max_tokens=1 on this server")
        if self.allowed_token_ids is not None and self.temperature != 0:
            raise ValueError("allowed_token_ids needs temperature=0 on this server")
        if (self.logprobs or 0) > 1 and self.logprobs != len(self.logprob_token_ids or ()):
            raise ValueError(f"logprobs={self.logprobs} is not supported by this server: give 1, or logprob_token_ids")
        return self


class GenerateBody(_Body):
    """`POST /inference/v1/generate`."""

    model: str | None = None
    token_ids: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    sampling_params: GenerateSampling
    request_id: str | None = None
    return_token_ids: bool | None = None
    stream: Literal[False] | None = None
    output_mode: Literal["tokens"] = "tokens"


class CompletionBody(_Decoding):
    """`POST /v1/completions`."""

    model: str | None = None
    prompt: str | list[str] | list[int] | list[list[int]]
    max_tokens: int | None = Field(default=16, ge=1)
    logprobs: int | None = Field(default=None, ge=0, le=1)
    stream: Literal[False] | None = None
    return_token_ids: bool | None = None
    return_tokens_as_token_ids: bool | None = None

    def prompts(self) -> list[str | list[int]]:
        """The prompts, one or many."""
        if isinstance(self.prompt, str) or (self.prompt and isinstance(self.prompt[0], int)):
            return [self.prompt]  # type: ignore[list-item]
        return list(self.prompt)  # type: ignore[arg-type]


class ChatBody(_Decoding):
    """`POST /v1/chat/completions`."""

    model: str | None = None
    messages: list[dict[str, Any]] = Field(min_length=1)
    tools: list[dict[str, Any]] | None = None
    tool_choice: Literal["auto", "none"] | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=1)
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    return_token_ids: bool | None = None

    def conversation(self) -> tuple[list[Message], list[ToolSpec]]:
        """Messages and tools in the project's own types."""
        tools = [] if self.tool_choice == "none" else [_tool(tool) for tool in self.tools or []]
        return [_message(message) for message in self.messages], tools


class LoadBody(_Body):
    """`POST /v1/load_lora_adapter`."""

    lora_name: str = Field(min_length=1)
    lora_path: str = Field(min_length=1)
    load_inplace: bool = False
    """Replace an adapter of that name rather than refuse."""


class UnloadBody(_Body):
    """`POST /v1/unload_lora_adapter`."""

    lora_name: str = Field(min_length=1)


def _tool(tool: dict[str, Any]) -> ToolSpec:
    function = tool.get("function")
    if tool.get("type") != "function" or not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise UsageError(
            f"tool {tool!r} is not supported: give {{'type': 'function', 'function': {{'name': ..., ...}}}}"
        )
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    return ToolSpec(name=function["name"], description=function.get("description") or "", input_schema=schema)


def _message(message: dict[str, Any]) -> Message:
    role = message.get("role")
    if role not in _ROLES:
        raise UsageError(f"message role {role!r} is not supported: use system, user, assistant or tool")
    return Message(
        role=_ROLES[role],
        content=_text(message.get("content")),
        tool_calls=tuple(_call(call) for call in message.get("tool_calls") or ()),
        tool_call_id=message.get("tool_call_id"),
        name=message.get("name"),
    )


def _text(content: Any) -> str | None:
    if content is None or isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        return "".join(part.get("text") or "" for part in content)
    raise UsageError(f"message content {content!r} is not supported: give text, or parts of type 'text'")


def _call(call: dict[str, Any]) -> ToolCall:
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise UsageError(f"tool call {call!r} is not supported: give an id and a function with name and arguments")
    arguments = function.get("arguments") or "{}"
    if isinstance(arguments, str):
        try:
            parsed = json.loads(arguments)
        except json.JSONDecodeError:
            parsed = None
        arguments = parsed if isinstance(parsed, dict) else arguments
    return ToolCall(id=call.get("id") or "", name=function["name"], arguments=arguments)
