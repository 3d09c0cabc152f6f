"""Asking a model's endpoint: again, after a wait, where infrastructure fails; and failures by their names."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import TypeVar

import httpx
from pydantic import Field

from trace_agents.errors import InfrastructureError, UsageError
from trace_agents.types import Record

TRANSIENT = (408, 409, 425, 429)
"""HTTP statuses below 500 that another try may mend."""
MENDABLE = (400, 401, 403, 404, 413, 422)
"""HTTP statuses that only the user can mend."""
LONGEST_WAIT_S = 60.0
_FULL = re.compile(
    r"context (length|window)|context of \d+ tokens is full|maximum context|prompt is too long|too many tokens"
    r"|context_length_exceeded|max_model_len",
    re.IGNORECASE,
)

AnswerT = TypeVar("AnswerT")


class ContextFull(InfrastructureError):
    """The conversation is longer than the model's context: asking again is of no use."""


class Patience(Record):
    """How often a call is repeated that infrastructure failed."""

    retries: int = Field(default=0, ge=0)
    """Repeats after the first failure."""
    first_wait_s: float = Field(default=1.0, ge=0)
    """Seconds before the first repeat; each further one waits twice as long, up to a minute."""


async def patiently(
    call: Callable[[], Awaitable[AnswerT]],
    patience: Patience,
    wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AnswerT:
    """The answer of `call`, a request to a model's endpoint.

    Raises:
        ContextFull: the conversation does not fit. InfrastructureError: it failed to the last repeat. UsageError: the
            endpoint refuses what only the user can mend.
    """
    for repeat in range(patience.retries + 1):
        try:
            return await call()
        except Exception as error:
            if _is_full(error):
                raise ContextFull(line(error)) from error
            if not transient(error):
                raise _refusal(error) from error
            if repeat == patience.retries:
                raise InfrastructureError(f"the model failed {repeat + 1} times: {line(error)}") from error
            await wait(pause(error, patience.first_wait_s * 2**repeat))
    raise AssertionError("unreachable")


def status_of(error: BaseException) -> int | None:
    """The HTTP status behind an error, as the providers' clients carry it."""
    response = getattr(error, "response", None)
    status = getattr(error, "status_code", None) or getattr(response, "status_code", None)
    return status if isinstance(status, int) else None


def _is_full(error: BaseException) -> bool:
    """The model refuses a conversation for its length."""
    told = status_of(error) in (400, 413, 422) or isinstance(error, UsageError | InfrastructureError)
    return told and _FULL.search(str(error)) is not None


def transient(error: BaseException) -> bool:
    """Another try may succeed."""
    status = status_of(error)
    if status is not None:
        return status in TRANSIENT or status >= 500
    lost = (InfrastructureError, httpx.TransportError, ConnectionError, TimeoutError)
    # The providers' clients have connection errors of their own, without a status.
    return isinstance(error, lost) or type(error).__name__ in ("APIConnectionError", "APITimeoutError")


def pause(error: BaseException, wait: float) -> float:
    """Seconds until the next try: what the server asks for, else the doubled wait."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    try:
        asked = float(headers.get("retry-after", ""))
    except (TypeError, ValueError):
        asked = 0.0
    return min(max(asked, wait), LONGEST_WAIT_S)


def line(error: BaseException) -> str:
    """What an error says, on one line of bearable length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]}…"


def _refusal(error: Exception) -> Exception:
    """The error to raise for one that another try does not mend; a defect stays what it is."""
    status = status_of(error)
    if isinstance(error, UsageError) or status not in MENDABLE:
        return error
    remedy = {401: "check the key", 403: "check the key"}.get(status, "check the model's name and the request")
    return UsageError(f"the model's endpoint refuses ({status}: {line(error)}): {remedy}")
