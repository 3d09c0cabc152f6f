"""The engine over HTTP, in the shape of a vLLM server: token-level generate, OpenAI's routes, run-time adapters.

`training.engine.remote.RemoteEndpoint` is the client; because it speaks to a real vLLM server in the same words, a
URL is all that changes between the two.
"""

from __future__ import annotations

import asyncio
import hmac
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from trace_agents.endpoint import Completion
from trace_agents.errors import InfrastructureError, UsageError, unknown
from trace_agents.refusals import wanted
from training.chat import ChatFormat
from training.engine import replies
from training.engine.engine import Engine
from training.engine.wire import ChatBody, CompletionBody, GenerateBody, LoadBody, UnloadBody

Body = TypeVar("Body", bound=BaseModel)
OWNER = "trace-agents"


def create_app(engine: Engine, chat: ChatFormat | None = None, api_key: str | None = None) -> Starlette:
    """The application that serves `engine`.

    Without a chat format (a model folder without tokenizer or template) the text routes answer 400 and the
    token-level ones work. With an `api_key`, all but `/health` ask for it as a bearer token.
    """
    service = _Service(engine, chat)
    routes = [
        Route("/health", service.health, methods=["GET"]),
        Route("/v1/models", service.models, methods=["GET"]),
        Route("/v1/chat/completions", _guarded(service.chat_completions), methods=["POST"]),
        Route("/v1/completions", _guarded(service.completions), methods=["POST"]),
        Route("/inference/v1/generate", _guarded(service.generate), methods=["POST"]),
        Route("/v1/load_lora_adapter", _guarded(service.load_adapter), methods=["POST"]),
        Route("/v1/unload_lora_adapter", _guarded(service.unload_adapter), methods=["POST"]),
    ]
    return Starlette(routes=routes, middleware=[Middleware(_BearerKey, key=api_key)] if api_key else [])


class _BearerKey:
    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app, self._expected = app, f"Bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != "/health":
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self._expected):
                await replies.error(401, "AuthenticationError", "the API key is missing or wrong")(scope, receive, send)
                return
        await self._app(scope, receive, send)


class _Service:
    """The routes."""

    def __init__(self, engine: Engine, chat: ChatFormat | None) -> None:
        self._engine, self._chat = engine, chat
        self._stop = chat.stop_token_ids if chat is not None else ()
        self._started = int(time.time())

    async def health(self, request: Request) -> Response:
        return Response(status_code=200)

    async def models(self, request: Request) -> Response:
        base = self._engine.name
        cards = [
            {
                "id": name,
                "object": "model",
                "created": self._started,
                "owned_by": OWNER,
                "root": name,
                "parent": None if name == base else base,
                "max_model_len": self._engine.max_context,
            }
            for name in await self._engine.models()
        ]
        return JSONResponse({"object": "list", "data": cards})

    async def generate(self, request: Request) -> Response:
        body = await _read(request, GenerateBody)
        model, params = await self._model(body.model), body.sampling_params
        if params.logprob_token_ids is not None or params.allowed_token_ids is not None:
            choices = [await self._scored(body, model)]
        else:
            limit = self._room(body.token_ids, params.max_tokens)
            done = await self._sample(
                body.token_ids, model, [params.sampling(limit, self._stop, i) for i in range(params.n)]
            )
            choices = [
                {
                    "index": index,
                    "finish_reason": each.finish_reason,
                    "stop_reason": self._stop_reason(each),
                    "token_ids": each.token_ids,
                    "logprobs": None if params.logprobs is None else replies.token_logprobs(each),
                    "routed_experts": None,
                    "sampling_mask": None,
                    "weight_versions": None,
                }
                for index, each in enumerate(done)
            ]
        return JSONResponse(
            {
                "request_id": body.request_id or f"generate-tokens-{uuid.uuid4().hex}",
                "model": model,
                "created": int(time.time()),
                "choices": choices,
                "usage": replies.usage(len(body.token_ids), sum(len(choice["token_ids"]) for choice in choices)),
                "prompt_logprobs": None,
                "prompt_token_ids": body.token_ids if body.return_token_ids else None,
                "output_mode": "tokens",
            }
        )

    async def completions(self, request: Request) -> Response:
        body = await _read(request, CompletionBody)
        model = await self._model(body.model)
        prompts = [prompt if isinstance(prompt, list) else self._format().encode(prompt) for prompt in body.prompts()]
        rounds = [
            self._sample(
                ids, model, [body.sampling(self._room(ids, body.max_tokens), self._stop, i) for i in range(body.n)]
            )
            for ids in prompts
        ]
        choices: list[tuple[dict[str, Any], int]] = []
        for ids, done in zip(prompts, await asyncio.gather(*rounds), strict=True):
            for each in done:
                choice = {
                    "index": len(choices),
                    "text": self._text(each),
                    "finish_reason": each.finish_reason,
                    "stop_reason": self._stop_reason(each),
                    "logprobs": None if body.logprobs is None else self._text_logprobs(each, body),
                }
                if body.return_token_ids:
                    choice |= {"token_ids": each.token_ids, "prompt_token_ids": ids}
                choices.append((choice, len(each.token_ids)))
        usage = replies.usage(sum(map(len, prompts)), sum(count for _, count in choices))
        return JSONResponse(
            replies.envelope("cmpl", "text_completion", model, [choice for choice, _ in choices], usage)
        )

    async def chat_completions(self, request: Request) -> Response:
        body = await _read(request, ChatBody)
        model = await self._model(body.model)
        messages, tools = body.conversation()
        ids = self._format().prompt_ids(messages, tools)
        limit = self._room(ids, body.max_completion_tokens or body.max_tokens)
        done = await self._sample(ids, model, [body.sampling(limit, self._stop, i) for i in range(body.n)])
        choices = [self._chat_choice(index, each, body) for index, each in enumerate(done)]
        usage = replies.usage(len(ids), sum(len(each.token_ids) for each in done))
        answer = replies.envelope("chatcmpl", "chat.completion", model, choices, usage)
        if body.return_token_ids:
            answer["prompt_token_ids"] = ids
        if body.stream:
            with_usage = bool((body.stream_options or {}).get("include_usage"))
            return StreamingResponse(replies.stream(answer, with_usage), media_type="text/event-stream")
        return JSONResponse(answer)

    async def load_adapter(self, request: Request) -> Response:
        body = await _read(request, LoadBody)
        if body.lora_name in await self._engine.models() and not body.load_inplace:
            raise UsageError(f"adapter {body.lora_name!r} is loaded already: set load_inplace to replace it")
        await self._engine.load_adapter(body.lora_name, body.lora_path)
        return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' added successfully.")

    async def unload_adapter(self, request: Request) -> Response:
        body = await _read(request, UnloadBody)
        await self._engine.unload_adapter(body.lora_name)
        return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' removed successfully.")

    # Parts

    async def _model(self, name: str | None) -> str:
        known = await self._engine.models()
        if name is not None and name not in known:
            raise _NotFound(str(unknown("model", name, known)))
        return name or self._engine.name

    def _format(self) -> ChatFormat:
        if self._chat is None:
            raise UsageError(
                f"model {self._engine.name!r} has no chat template: send token ids to /inference/v1/generate"
            )
        return self._chat

    def _room(self, ids: list[int], wanted: int | None) -> int:
        """Tokens that may be sampled: those wanted, or what is left of the context."""
        room = self._engine.max_context - len(ids)
        if room < 1:
            raise UsageError(
                f"This model's maximum context length is {self._engine.max_context} tokens, and the prompt has "
                f"{len(ids)}: shorten it"
            )
        return room if wanted is None else min(room, wanted)

    async def _sample(self, ids: list[int], model: str, samplings: list[Any]) -> list[Completion]:
        return await asyncio.gather(*(self._engine.generate(ids, model, sampling) for sampling in samplings))

    async def _scored(self, body: GenerateBody, model: str) -> dict[str, Any]:
        """One token and the log-probabilities of the tokens asked for; the masks do not touch these."""
        params = body.sampling_params
        asked = list(params.logprob_token_ids or ())
        if params.allowed_token_ids is None:
            [done] = await self._sample(body.token_ids, model, [params.sampling(1, self._stop)])
            token, own = done.token_ids[0], done.logprobs[0]
        else:
            scores = await self._engine.score_next(body.token_ids, params.allowed_token_ids, model)
            own, token = max(zip(scores, params.allowed_token_ids, strict=True), key=lambda pair: (pair[0], -pair[1]))
        scores = await self._engine.score_next(body.token_ids, asked, model) if asked else []
        top = {token: own} | dict(zip(asked, scores, strict=True))
        ordered = [token, *sorted((each for each in top if each != token), key=lambda each: -top[each])]
        scored = replies.entry(token, own) | {"top_logprobs": [replies.entry(each, top[each]) for each in ordered]}
        return {
            "index": 0,
            "finish_reason": "stop" if token in params.sampling(1, self._stop).stop_token_ids else "length",
            "stop_reason": None,
            "token_ids": [token],
            "logprobs": {"content": [scored]},
        }

    def _stop_reason(self, done: Completion) -> int | None:
        """The stop token of the request's own that ended it; null for the model's end token, as vLLM has it."""
        last = done.token_ids[-1]
        return last if done.finish_reason == "stop" and last not in self._stop else None

    def _text(self, done: Completion) -> str:
        ids = done.token_ids[:-1] if done.finish_reason == "stop" else done.token_ids
        return str(self._format().tokenizer.decode(ids, skip_special_tokens=True))

    def _text_logprobs(self, done: Completion, body: CompletionBody) -> dict[str, Any]:
        decode = self._format().tokenizer.decode
        by_id = body.return_tokens_as_token_ids
        tokens = [f"token_id:{token}" if by_id else decode([token]) for token in done.token_ids]
        offsets = [len(decode(done.token_ids[:index])) for index in range(len(tokens))]
        top = [{token: logprob} for token, logprob in zip(tokens, done.logprobs, strict=True)]
        return {"tokens": tokens, "token_logprobs": done.logprobs, "top_logprobs": top, "text_offset": offsets}

    def _chat_choice(self, index: int, done: Completion, body: ChatBody) -> dict[str, Any]:
        message = self._format().parse(done.token_ids)
        reason = "tool_calls" if message.tool_calls and done.finish_reason == "stop" else done.finish_reason
        choice: dict[str, Any] = {
            "index": index,
            "message": replies.chat_message(message),
            "finish_reason": reason,
            "stop_reason": self._stop_reason(done),
            "logprobs": None,
        }
        if body.logprobs:
            decode = self._format().tokenizer.decode
            pairs = zip(done.token_ids, done.logprobs, strict=True)
            content = [replies.text_entry(str(decode([token])), logprob) for token, logprob in pairs]
            choice["logprobs"] = {"content": content}
        if body.return_token_ids:
            choice["token_ids"] = done.token_ids
        return choice


class _NotFound(UsageError):
    """An unknown model, which OpenAI's protocol answers with 404."""


def _guarded(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """`handler` with the project's errors as HTTP ones."""

    async def guarded(request: Request) -> Response:
        try:
            return await handler(request)
        except _NotFound as error:
            return replies.error(404, "NotFoundError", str(error))
        except UsageError as error:
            return replies.error(400, "BadRequestError", str(error))
        except InfrastructureError as error:
            return replies.error(500, "InternalServerError", str(error))

    return guarded


async def _read(request: Request, kind: type[Body]) -> Body:
    try:
        return kind.model_validate_json(await request.body())
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"request field {'.'.join(map(str, first['loc'])) or 'body'!r}: {wanted(first)}") from error
