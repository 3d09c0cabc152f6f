"""A hand-off as the mind: requests go to a folder, the graph waits in an interrupt, answers come when they come."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from langgraph.types import interrupt

from trace_agents.analysis.handoff import HandoffFolder
from trace_agents.analysis.requests import BadAnswer, Request, Usage, check_answer

POLL_S = 1.0
"""Seconds between two looks into the folder."""


class AnswersWanted(Exception):
    """The analysis waits for answers; not an error. Run again, it goes on."""

    def __init__(self, requests: Sequence[str], folder: Path | None = None) -> None:
        super().__init__(f"{len(requests)} requests are open")
        self.requests = tuple(requests)
        """Ids of the open requests."""
        self.folder = folder
        """The hand-off folder that holds them; None where it is not known."""


class HandoffMind:
    """Whoever answers the requests in a folder: a coding agent over MCP, a person, a recorded file."""

    def __init__(
        self,
        folder: Path,
        wait: bool = False,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """A mind in `folder`; `wait` stays until answers come, instead of leaving the analysis to another call."""
        self.name = "handoff"
        self.folder = HandoffFolder(folder)
        self._analysis = ""
        self._stays, self._pause = wait, pause

    def begin(self, analysis: str, checkpoint: Path | None) -> None:
        """See `Mind`."""
        self._analysis = analysis

    def spent(self) -> Usage:
        """Only how many were answered: what it took is not known."""
        answered = sum(self.folder.answered_by().values()) if self.folder.belongs_to(self._analysis) else 0
        return Usage(answered=answered, unmetered=answered)

    async def ask(self, request: Request) -> Any:
        """See `Mind`; must run inside a graph with a checkpointer. The folder becomes this analysis's own.

        It does so no earlier, so that an analysis refused for its options leaves the folder to the next one.
        """
        self.folder.claim(self._analysis)
        self.folder.put(request)
        # The interrupt holds the id only: prompts in every checkpoint would be megabytes.
        answer = interrupt(request.id)
        check_answer(request, answer)
        return answer

    async def collect(self, requests: Sequence[str]) -> Mapping[str, Any]:
        """See `Courier`."""
        while True:
            found = {identity: answer for identity in requests if (answer := self._take(identity)) is not None}
            if found or not self._stays:
                return found
            await self._pause(POLL_S)

    def _take(self, identity: str) -> Any:
        try:
            return self.folder.take(identity)
        except BadAnswer:
            return None  # It stays open, and `HandoffFolder.refusals` says why.
