"""Simulated users: none, one that follows a script, and upstream's, which a model speaks for."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Protocol

import httpx2
from pydantic import Field

from mcp_servers.remote import tls_context
from mcp_servers.tau2.process import Session
from mcp_servers.tau2.trajectory import Item, called, said
from trace_agents.errors import InfrastructureError, UsageError
from trace_agents.types import Record, UserTurn

DONE = "I have done that."
"""What the scripted user says after its own tool calls."""
MOST_CALLS = 50
"""Completions in one turn after which a model that speaks for the user is given up."""


class UserKind(StrEnum):
    """Who plays the simulated user."""

    NONE = "none"  # Nobody: the task is stated, and the agent's first text ends the conversation.
    SCRIPTED = "scripted"  # Says the whole scenario, does its own gold actions when spoken to, then stops.
    MODEL = "model"  # Upstream's user simulator, with a model behind an OpenAI-compatible endpoint.


class UserChoice(Record):
    """Which simulated user to play with."""

    kind: UserKind = UserKind.MODEL
    url: str = ""
    """Base URL of the OpenAI-compatible endpoint, up to `/v1`; for a model only, as all below."""
    model: str = ""
    """The endpoint's name of the model."""
    key: str = Field(default="", repr=False)
    """Bearer token; empty where the endpoint asks for none."""
    temperature: float = 0.0
    timeout_s: float = 120.0
    """Longest wait for one completion."""


class User(Protocol):
    """The other side of one episode's conversation."""

    async def open(self) -> str:
        """The first message."""

    async def hear(self, text: str) -> UserTurn:
        """The answer to the agent's text."""


class StatedTask:
    """No user: the scenario is stated once, and the agent's first text ends the conversation."""

    def __init__(self, task: Mapping[str, Any]) -> None:
        self._task = task

    async def open(self) -> str:
        """The scenario."""
        return scenario(self._task)

    async def hear(self, text: str) -> UserTurn:
        """Nothing more."""
        return UserTurn()


class ScriptedUser:
    """Says the whole scenario, does its next gold actions each time it is spoken to, and stops when none are left."""

    def __init__(self, task: Mapping[str, Any], session: Session, record: list[Item]) -> None:
        self._task, self._session, self._record = task, session, record
        self._runs = [run for requestor, run in turns(task) if requestor == "user"]

    async def open(self) -> str:
        """The scenario."""
        text = scenario(self._task)
        self._record.append(said("user", text))
        return text

    async def hear(self, text: str) -> UserTurn:
        """The user's next gold actions, done; or the end."""
        if not self._runs:
            self._record.append(said("user", "###STOP###"))
            return UserTurn()
        for action in self._runs.pop(0):
            number = f"user_{len(self._record)}"
            call = {"id": number, "name": action["name"], "arguments": action["arguments"], "requestor": "user"}
            answer = await self._session.ask("call", **call)
            self._record += [called("user", number, action["name"], action["arguments"]), answer]
        self._record.append(said("user", DONE))
        return UserTurn(content=DONE)


class ModelUser:
    """Upstream's simulator: it makes the prompts and reads the answers; the completions come from an endpoint."""

    def __init__(self, choice: UserChoice, session: Session, record: list[Item], greeting: str) -> None:
        self._choice, self._session, self._record, self._greeting = choice, session, record, greeting

    async def open(self) -> str:
        """The answer to the agent's greeting.

        Raises:
            InfrastructureError: the model ends the conversation before it began, or fails.
        """
        turn = await self.hear(self._greeting)
        if turn.content is None:
            raise InfrastructureError(f"the model {self._choice.model!r} ended the conversation in its first message")
        return turn.content

    async def hear(self, text: str) -> UserTurn:
        """The user's next text, after the calls of its own tools that it makes first."""
        wanted = await self._session.ask("hear", text=text)
        for _ in range(MOST_CALLS):
            answer = await self._session.ask("say", completion=await complete(self._choice, wanted))
            self._record += answer["messages"]
            wanted = answer["wanted"]
            if wanted is None:
                return UserTurn() if answer["done"] else UserTurn(content=answer["messages"][-1]["content"])
        raise InfrastructureError(
            f"the model {self._choice.model!r} called the user's tools {MOST_CALLS} times without a word"
        )


async def complete(choice: UserChoice, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The endpoint's chat message for upstream's request.

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
        raise InfrastructureError(f"the simulated user's endpoint {url!r} failed: {error or type(error)}") from error


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


def scenario(task: Mapping[str, Any]) -> str:
    """All that the task's user knows and wants, in the words of its scenario."""
    told = task["user_scenario"]["instructions"]
    if isinstance(told, str):
        return told
    parts = ("reason_for_call", "known_info", "unknown_info", "task_instructions")
    return "\n\n".join(told[part] for part in parts if told.get(part))


def turns(task: Mapping[str, Any]) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """The gold actions of a task in runs of one requestor, `assistant` or `user`."""
    runs: list[tuple[str, list[Mapping[str, Any]]]] = []
    for action in (task.get("evaluation_criteria") or {}).get("actions") or ():
        requestor = action.get("requestor", "assistant")
        if not runs or runs[-1][0] != requestor:
            runs.append((requestor, []))
        runs[-1][1].append(action)
    return runs
