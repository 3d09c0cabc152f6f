"""The simulated user of a wrapped benchmark: its written replies, or a model that speaks for who the task describes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Protocol

from mcp_servers.benchmark.users import UserChoice, UserKind, check, complete, read_user
from mcp_servers.wrapped.description import TaskRow
from trace_agents.errors import InfrastructureError
from trace_agents.files import digest
from trace_agents.types import UserTurn

OVER = "###OVER###"
"""What the model says when the user has nothing more to say."""
GUIDE = f"""\
You play a user who talks to an agent. You are not the agent, and never help it with its work. What follows says who \
you are, what you want and what you know.

- Say one thing at a time, in a user's words, and tell only what the agent needs next.
- Never invent what is not written below; where the agent asks for that, say that you do not know.
- Once you have what you want, or it is clear that you will not get it, answer with {OVER} and nothing else.

"""
"""What a model that speaks for the user is told before the task's own text."""


class User(Protocol):
    """The other side of one episode's conversation."""

    async def hear(self, text: str) -> UserTurn:
        """The answer to the agent's text."""


class WrittenReplies:
    """Answers with the replies in order; after the last, the conversation is over."""

    def __init__(self, replies: Iterable[str]) -> None:
        self._rest = iter(replies)

    async def hear(self, text: str) -> UserTurn:
        """The next reply."""
        return UserTurn(content=next(self._rest, None))


class ModelUser:
    """A model speaks for the user that the task describes."""

    def __init__(self, choice: UserChoice, row: TaskRow) -> None:
        self._choice = choice
        self._messages = [{"role": "system", "content": GUIDE + row.user}, {"role": "assistant", "content": row.prompt}]

    async def hear(self, text: str) -> UserTurn:
        """The model's next words.

        Raises:
            InfrastructureError: its endpoint fails, or says nothing.
        """
        self._messages.append({"role": "user", "content": text})
        said = (await complete(self._choice, {"messages": self._messages, "tools": []})).get("content") or ""
        self._messages.append({"role": "assistant", "content": said})
        if OVER in said:
            return UserTurn()
        if not said.strip():
            raise InfrastructureError(f"the simulated user's model {self._choice.model!r} said nothing")
        return UserTurn(content=said)


class Users:
    """Who speaks for the users of a benchmark's tasks."""

    def __init__(self, rows: Iterable[TaskRow]) -> None:
        """Read the choice from the environment variables, where a task describes its user.

        Raises:
            UsageError: a model is to speak, and has no endpoint or no name.
        """
        self._choice: UserChoice | None = None
        if any(row.user for row in rows):
            self._choice = read_user(os.environ)
            check(self._choice)

    @property
    def provenance(self) -> Mapping[str, str]:
        """Who speaks, and what the model is told; empty where no task describes its user."""
        if self._choice is None:
            return {}
        model = self._choice.kind is UserKind.MODEL
        said = {"user guide": digest(GUIDE), "user model": self._choice.model} if model else {}
        return {"user": self._choice.kind.value, **said}

    def of(self, row: TaskRow) -> User:
        """The user of one episode."""
        if row.user and self._choice is not None and self._choice.kind is UserKind.MODEL:
            return ModelUser(self._choice, row)
        if self._choice is not None and self._choice.kind is UserKind.NONE:
            return WrittenReplies(())
        return WrittenReplies(row.replies)
