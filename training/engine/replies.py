"""Answers of the HTTP endpoint, in the field names of vLLM 0.32 and OpenAI."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import JSONResponse

from trace_agents.endpoint import Completion
from trace_agents.types import Message


def error(status: int, kind: str, message: str) -> JSONResponse:
    """A refusal or failure; `kind` is vLLM's name for it."""
    return JSONResponse({"error": {"message": message, "type": kind, "param": None, "code": status}}, status)


def usage(prompt: int, completion: int) -> dict[str, int]:
    """Token counts."""
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def envelope(
    prefix: str, kind: str, model: str, choices: list[dict[str, Any]], usage: dict[str, int]
) -> dict[str, Any]:
    """What OpenAI's answers share; `prefix` is that of the answer's id."""
    return {
        "id": f"{prefix}-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": model,
        "choices": choices,
        "usage": usage,
    }


def entry(token: int, logprob: float) -> dict[str, Any]:
    """One token's log-probability in a token-level answer.

    `token_id` is the field of vLLM 0.32; `token` is the one that clients of earlier versions read, verifiers' among
    them.
    """
    return {"token": f"token_id:{token}", "token_id": token, "logprob": max(logprob, -9999.0), "rank": None}


def token_logprobs(done: Completion) -> dict[str, Any]:
    """Log-probabilities of a token-level answer; the sampled token is its own list of alternatives."""
    entries = [entry(token, logprob) for token, logprob in zip(done.token_ids, done.logprobs, strict=True)]
    return {"content": [entry | {"top_logprobs": [entry]} for entry in entries]}


def text_entry(token: str, logprob: float) -> dict[str, Any]:
    """One token's log-probability in a chat answer."""
    entry = {"token": token, "logprob": max(logprob, -9999.0), "bytes": list(token.encode())}
    return entry | {"top_logprobs": [entry]}


def chat_message(message: Message) -> dict[str, Any]:
    """As OpenAI has it; a call's id is made anew, since it must not recur in later turns."""
    calls = [call.openai() | {"id": f"chatcmpl-tool-{uuid.uuid4().hex}"} for call in message.tool_calls]
    if calls:
        return {"role": "assistant", "content": message.content, "tool_calls": calls}
    return {"role": "assistant", "content": message.content or ""}


async def stream(envelope: dict[str, Any], with_usage: bool) -> AsyncIterator[str]:
    """The answer as server-sent events: each choice in one piece, for clients that only read streams."""
    head = {key: envelope[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    for choice in envelope["choices"]:
        calls = [{"index": index, **call} for index, call in enumerate(choice["message"].get("tool_calls", ()))]
        delta = choice["message"] | ({"tool_calls": calls} if calls else {})
        rest = {key: value for key, value in choice.items() if key not in ("message", "finish_reason")}
        yield _event(head | {"choices": [rest | {"delta": delta, "finish_reason": None}]})
        yield _event(
            head | {"choices": [{"index": choice["index"], "delta": {}, "finish_reason": choice["finish_reason"]}]}
        )
    if with_usage:
        yield _event(head | {"choices": [], "usage": envelope["usage"]})
    yield "data: [DONE]\n\n"


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"
