"""What `analyze` does where a language model, or whoever answers a hand-off, is the analyst."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from trace_agents.analysis.handoff import HandoffFolder
from trace_agents.analysis.requests import Prices
from trace_agents.errors import InfrastructureError, UsageError
from trace_agents.progress import Progress
from trace_agents.types import Trajectory

if TYPE_CHECKING:
    from graphs.analysis import AnalysisConfig
    from graphs.analysts.language import LanguageConfig
    from graphs.analysts.mind import Mind
    from trace_agents.analysis import Analysis
    from trace_agents.analysis.notes import AnalystNotes

CHECKPOINT = "analysis.sqlite"
"""In the output folder: the graph's checkpoints and the answers."""


@dataclass(frozen=True)
class Reading:
    """Who reads, and how."""

    llm: str | None
    """A chat model's spec; None for a hand-off."""
    handoff: Path | None
    wait: bool
    """Stay until a hand-off's requests are answered."""
    both: bool
    """Show the reader the strongest statistics, and compare with them."""
    prices: Prices | None = None
    settings: LanguageConfig | None = None

    def mind(self) -> Mind:
        """Who answers.

        Raises:
            UsageError: a model that cannot be used.
        """
        if self.handoff is not None:
            from graphs.analysts.handoff import HandoffMind

            return HandoffMind(self.handoff, self.wait)
        from graphs.analysts.chat import ChatMind
        from graphs.analysts.models import load_chat_model

        spec = str(self.llm)
        return ChatMind(load_chat_model(spec), spec)


@dataclass(frozen=True)
class Reader:
    """An analysis by reading."""

    mind: Mind
    reading: Reading
    config: AnalysisConfig
    out: Path

    def run(self, trajectories: Sequence[Trajectory], progress: Progress) -> tuple[Analysis, AnalystNotes]:
        """Analyse; answers are kept in `out` as they come.

        Raises:
            UsageError: the mind cannot go on; says where what was answered is kept.
            AnswersWanted: a hand-off has open requests.
        """
        from graphs.analysts.language import LanguageConfig
        from graphs.analysts.reading import ReadingPlan, read_trajectories

        plan = ReadingPlan(
            config=self.config,
            settings=self.reading.settings or LanguageConfig(),
            both=self.reading.both,
            prices=self.reading.prices,
        )
        checkpoint = self.out / CHECKPOINT
        try:
            return asyncio.run(read_trajectories(trajectories, self.mind, plan, progress, checkpoint))
        except (UsageError, InfrastructureError) as error:
            if not self.mind.spent().answered:
                raise UsageError(str(error)) from error
            raise UsageError(
                f"{error}; what was answered is kept in {str(checkpoint)!r}: run the same command again to go on"
            ) from error


def show_open(folder: HandoffFolder, again: str, as_json: bool = False) -> None:
    """What a hand-off waits for, and how to go on: `again` says what to call once the answers are in."""
    requests = folder.open()
    if as_json:
        typer.echo(dumps({"open": [{"id": one.id, "about": one.about} for one in requests]}, indent=2))
        return
    typer.echo(f"waiting in {str(folder.path)!r} for answers, {len(requests)}:")
    for one in requests:
        typer.echo(f"  {one.id}  {one.about}")
    for identity, reason in folder.refusals().items():
        typer.echo(f"  {identity}: the answer in its file cannot be taken: {reason}")
    typer.echo(
        f"answer with `trace-agents handoff answer {folder.path} ID FILE`, or let an agent do it through "
        f"`trace-agents handoff serve {folder.path}` (MCP); then {again} to go on"
    )
