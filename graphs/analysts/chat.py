"""A chat model as the mind: asked again where its answer does not fit, retried where infrastructure fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from pydantic import Field

from graphs.checkpoints import AnswerBook
from graphs.patience import MENDABLE, line, pause, status_of, transient
from trace_agents.analysis.requests import BadAnswer, Request, Usage, check_answer, parse_json
from trace_agents.errors import InfrastructureError, UsageError
from trace_agents.types import Record

SHOWN_AGAIN = 20_000
"""Characters of a refused answer that its model is shown again."""
NOTHING = "(no answer)"
"""What a model that said nothing is shown as its answer."""


class ChatConfig(Record):
    """How patient the mind is with its model."""

    attempts: int = Field(default=4, ge=1)
    """Answers a request may get until one fits; nonsense to the last ends the analysis."""
    retries: int = Field(default=6, ge=0)
    """Repeats of one call that infrastructure failed."""
    first_wait_s: float = Field(default=1.0, ge=0)
    """Seconds before the first repeat; each further one waits twice as long, up to a minute."""


class ChatMind:
    """Any LangChain chat model; answers are kept in the analysis's checkpoint as they come."""

    def __init__(
        self,
        model: BaseChatModel,
        name: str,
        config: ChatConfig | None = None,
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.name = name
        self._model = model
        self._config = config or ChatConfig()
        self._wait = wait
        self._book = AnswerBook(None, "")

    def begin(self, analysis: str, checkpoint: Path | None) -> None:
        """See `Mind`."""
        self._book = AnswerBook(checkpoint, analysis)

    def spent(self) -> Usage:
        """See `Mind`."""
        return self._book.spent()

    async def ask(self, request: Request) -> Any:
        """See `Mind`; an answer given before is taken from the checkpoint."""
        held = self._book.get(request.id)
        if held is not None:
            return held
        said: list[BaseMessage] = [HumanMessage(request.prompt)]
        reason = ""
        for _ in range(self._config.attempts):
            reply = await self._call(request, said)
            text = str(reply.text)
            usage = _usage(reply)
            try:
                answer = parse_json(text)
                check_answer(request, answer)
            except BadAnswer as error:
                reason = str(error)
                self._book.put(request.id, None, usage + Usage(refused=1))
                # Providers refuse a turn without text.
                said = [*said[:1], AIMessage(text[:SHOWN_AGAIN].strip() or NOTHING), HumanMessage(_again(reason))]
                continue
            self._book.put(request.id, answer, usage + Usage(answered=1))
            return answer
        raise UsageError(
            f"request {request.id!r} ({request.about}) got no answer of {self.name!r} that fits in "
            f"{self._config.attempts} attempts, the last for this reason: {reason}; use a more able model, or smaller "
            "requests (--batch, --context-tokens)"
        )

    async def _call(self, request: Request, said: list[BaseMessage]) -> AIMessage:
        """One answer, whatever it says."""
        for repeat in range(self._config.retries + 1):
            try:
                return await self._model.ainvoke(said)
            except Exception as error:
                if not transient(error):
                    raise _refusal(self.name, request, error) from error
                if repeat == self._config.retries:
                    raise InfrastructureError(
                        f"model {self.name!r} failed {repeat + 1} times at request {request.id!r}: {line(error)}"
                    ) from error
                self._book.put(request.id, None, Usage(retried=1))
                await self._wait(pause(error, self._config.first_wait_s * 2**repeat))
        raise AssertionError("unreachable")


def _again(reason: str) -> str:
    return f"That answer cannot be taken: {reason}. Answer the request again: the whole JSON object and nothing else."


def _usage(reply: AIMessage) -> Usage:
    counted = reply.usage_metadata
    if not counted:
        return Usage(unmetered=1)
    return Usage(input_tokens=counted["input_tokens"], output_tokens=counted["output_tokens"])


def _refusal(name: str, request: Request, error: Exception) -> Exception:
    """The error to raise for one that another try does not mend; a defect stays what it is."""
    if isinstance(error, UsageError):
        return UsageError(f"{error}; at request {request.id!r}")
    status = status_of(error)
    if status not in MENDABLE:
        return error
    remedy = {401: "check the key", 403: "check the key", 404: "check the model's name"}.get(
        status, "check the model's name, and lower --context-tokens if its context is smaller"
    )
    return UsageError(f"model {name!r} refuses request {request.id!r} ({status}: {line(error)}): {remedy}")
