"""Who plays a benchmark's simulated user, and the endpoint that a model speaks through."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import httpx2
from pydantic import Field

from mcp_servers.tls import tls_context
from trace_agents.errors import InfrastructureError, UsageError, unknown
from trace_agents.types import Record

USER_VARIABLE = "TRACE_AGENTS_USER"
"""The simulated user: `model`, `scripted` or `none`; with `_URL`, `_MODEL` and `_KEY`, the model's endpoint."""


class UserKind(StrEnum):
    """Who plays the simulated user."""

    NONE = "none"  # Nobody: the task is stated, and the agent's first text ends the conversation.
    SCRIPTED = "scripted"  # Follows a script: for tests and ceilings.
    MODEL = "model"  # Upstream's user simulator, with a model behind an OpenAI-compatible endpoint.


class Endpoint(Record):
    """A model behind an OpenAI-compatible endpoint."""

    url: str = ""
    """Base URL of the endpoint, up to `/v1`."""
    model: str = ""
    """The endpoint's name of the model."""
    key: str = Field(default="", repr=False)
    """Bearer token; empty where the endpoint asks for none."""
    temperature: float = 0.0
    timeout_s: float = 120.0
    """Longest wait for one completion."""


class UserChoice(Endpoint):
    """Which simulated user to play with; the endpoint is for a model only."""

    kind: UserKind = UserKind.MODEL


def read_user(named: Mapping[str, str]) -> UserChoice:
    """The simulated user that the variables `named` ask for.

    Raises:
        UsageError: there is no such user.
    """
    kind = named.get(USER_VARIABLE, UserKind.MODEL.value)
    if kind not in set(UserKind):
        raise unknown(f"simulated user in {USER_VARIABLE}", kind, [each.value for each in UserKind])
    given = {field: named.get(f"{USER_VARIABLE}_{field.upper()}", "") for field in ("url", "model", "key")}
    return UserChoice(kind=UserKind(kind), **given)


async def complete(choice: Endpoint, wanted: Mapping[str, Any], speaker: str = "simulated user") -> dict[str, Any]:
    """The endpoint's chat message for upstream's request; `speaker` is who errors say it speaks for.

    Raises:
        InfrastructureError: the endpoint fails, is gone, or answers in another shape.
    """
    body = {"model": choice.model, "temperature": choice.temperature, "messages": list(map(_sent, wanted["messages"]))}
    if wanted["tools"]:
        body |= {"tools": wanted["tools"], "tool_choice": "auto"}
    headers = {"Authorization": f"Bearer {choice.key}"} if choice.key else {}
    url = f"{choice.url.rstrip('/')}/chat/completions"
    try:
        async with httpx2.AsyncClient(verify=tls_context(), timeout=choice.timeout_s, headers=headers) as client:
            response = await client.post(url, json=body)
        response.raise_for_status()
        return dict(response.json()["choices"][0]["message"])
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, LookupError, TypeError) as error:
        raise InfrastructureError(f"the {speaker}'s endpoint {url!r} failed: {error or type(error)}") from error


def _sent(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as OpenAI's API takes it: upstream leaves empty tool calls and a second name in it."""
    kept = {key: value for key, value in message.items() if key != "tool_calls" or value}
    if "tool_calls" in kept:
        kept["tool_calls"] = [{key: call[key] for key in ("id", "type", "function")} for call in kept["tool_calls"]]
    return kept


def check(choice: UserChoice) -> None:
    """That a model can be asked.

    Raises:
        UsageError: there is no endpoint or no model name.
    """
    for name, value in (("URL", choice.url), ("MODEL", choice.model)):
        if choice.kind is UserKind.MODEL and not value:
            others = f"or set TRACE_AGENTS_USER to {UserKind.SCRIPTED.value!r} or {UserKind.NONE.value!r}"
            raise UsageError(
                f"the simulated user's model has no {name.lower()} ({value!r}): set TRACE_AGENTS_USER_{name}, {others}"
            )
