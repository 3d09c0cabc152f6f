"""Simulated users: none, one that follows a script, and upstream's, which a model speaks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from mcp_servers.benchmark.process import Session
from mcp_servers.benchmark.users import UserChoice, complete
from mcp_servers.tau2.trajectory import Item, called, said
from trace_agents.errors import InfrastructureError
from trace_agents.types import UserTurn

DONE = "I have done that."
"""What the scripted user says after its own tool calls."""
MOST_CALLS = 50
"""Completions in one turn after which a model that speaks for the user is given up."""


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
