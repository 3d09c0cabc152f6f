"""The mind seam: whoever answers an analyst's requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from trace_agents.analysis.requests import Request, Usage


@runtime_checkable
class Mind(Protocol):
    """Answers requests with JSON that fits their schema. Implementations: a chat model, a hand-off."""

    name: str
    """What the analysis says of its analyst."""

    def begin(self, analysis: str, checkpoint: Path | None) -> None:
        """Called before anything is asked; see `BatchedAnalyst.begin`."""

    async def ask(self, request: Request) -> Any:
        """The answer, checked against the request's schema.

        Raises:
            UsageError: the mind cannot answer, or answers nonsense for ever.
            InfrastructureError: it does not answer.
        """

    def spent(self) -> Usage:
        """What the answers to this analysis took, those of earlier sessions among them."""
