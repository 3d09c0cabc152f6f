"""Simulated users of ToolSandbox: none, one that says given lines, and upstream's, which a model speaks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mcp_servers.benchmark.process import Session
from mcp_servers.benchmark.users import UserChoice, complete
from trace_agents.types import UserTurn


class User(Protocol):
    """The other side of one episode's conversation."""

    async def hear(self) -> UserTurn:
        """The answer to the agent's text, which the session has."""


class Nobody:
    """No user: the agent's first text ends the conversation."""

    async def hear(self) -> UserTurn:
        """Nothing more."""
        return UserTurn()


class ScriptedUser:
    """Says its lines, one after each text of the agent's, and ends the conversation."""

    def __init__(self, lines: Sequence[str], session: Session) -> None:
        self._lines, self._session = list(lines), session

    async def hear(self) -> UserTurn:
        """The next line; or the end."""
        if not self._lines:
            await self._session.ask("end")
            return UserTurn()
        line = self._lines.pop(0)
        over = await self._session.ask("tell", text=line)
        return UserTurn() if over else UserTurn(content=line)


class ModelUser:
    """Upstream's simulated user: it makes the prompts and reads the answers; the completions come from an endpoint."""

    def __init__(self, choice: UserChoice, session: Session) -> None:
        self._choice, self._session = choice, session

    async def hear(self) -> UserTurn:
        """The user's next text; nothing where it ends the conversation or has no messages left."""
        while True:
            wanted = await self._session.ask("wanted")
            answer = await self._session.ask("reply", message=await complete(self._choice, wanted))
            if answer["over"]:
                return UserTurn()
            if answer["said"] is not None:
                return UserTurn(content=answer["said"])
