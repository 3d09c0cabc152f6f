"""What `analyze` does where a language model, or whoever answers a hand-off, is the analyst."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trace_agents.analysis.handoff import HandoffFolder
from trace_agents.analysis.requests import Prices
from trace_agents.errors import InfrastructureError, UsageError
from trace_agents.progress import Progress
from trace_agents.types import Trajectory

if TYPE_CHECKING:
    from graphs.analysis import AnalysisConfig
    from graphs.analysts.language import LanguageConfig
    from graphs.analysts.mind import Mind
    from graphs.analysts.notes import AnalystNotes
    from trace_agents.analysis import Analysis

CHECKPOINT = "analysis.sqlite"
"""In the output folder: the graph's checkpoints and the answers."""
CHAT_BATCH = 10
"""Trajectories that a chat model labels in one request, unless told otherwise: more make it careless."""


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


class Waiting(Exception):
    """A hand-off has open requests; not an error."""

    def __init__(self, folder: HandoffFolder) -> None:
        super().__init__(str(folder.path))
        self.folder = folder.path
        self.requests = folder.open()
        self.refused = folder.refusals()


@dataclass(frozen=True)
class Reader:
    """An analysis by reading."""

    mind: Mind
    reading: Reading
    config: AnalysisConfig
    out: Path

    def run(
        self, trajectories: Sequence[Trajectory], seed: int, progress: Progress
    ) -> tuple[Analysis, AnalystNotes | None]:
        """Analyse; answers are kept in `out` as they come.

        Raises:
            UsageError: the mind cannot go on; says where what was answered is kept.
            Waiting: a hand-off has open requests.
        """
        from graphs.analysis import run_analysis
        from graphs.analysts.language import LanguageAnalyst, LanguageConfig, evidence_from
        from graphs.analysts.notes import notes_on
        from trace_agents.analysis.agreement import with_agreement
        from trace_agents.analysis.statistical import StatisticalAnalyst

        statistics, settings = None, self.reading.settings or LanguageConfig()
        if self.reading.both:
            statistics = run_analysis(trajectories, StatisticalAnalyst(seed=seed), self.config)
            settings = settings.model_copy(update={"evidence": evidence_from(statistics)})
        batch = self.config.batch or (CHAT_BATCH if self.reading.llm is not None else None)
        config = self.config.model_copy(update={"batch": batch})
        analyst = LanguageAnalyst(self.mind, settings)
        with self._keeping():
            analysis = run_analysis(trajectories, analyst, config, progress, self.out / CHECKPOINT)
        failed = {one.id for one in trajectories if one.success is False}
        notes = notes_on(analysis, analyst, self.reading.prices, statistics, failed)
        return (analysis if notes.statistics is None else with_agreement(analysis, notes.statistics)), notes

    @contextmanager
    def _keeping(self) -> Iterator[None]:
        """Say what is kept where an analysis breaks off."""
        from graphs.analysts.handoff import AnswersWanted

        checkpoint = self.out / CHECKPOINT
        try:
            yield
        except AnswersWanted:
            raise Waiting(HandoffFolder(Path(str(self.reading.handoff)))) from None
        except (UsageError, InfrastructureError) as error:
            if not self.mind.spent().answered:
                raise UsageError(str(error)) from error
            raise UsageError(
                f"{error}; what was answered is kept in {str(checkpoint)!r}: run the same command again to go on"
            ) from error


def usage_line(notes: AnalystNotes) -> str:
    """What the answers took, in one line."""
    used = notes.usage
    parts = [f"{used.answered} requests answered by {notes.analyst}"]
    if used.refused:
        parts.append(f"{used.refused} answers refused and asked again")
    if used.retried:
        parts.append(f"{used.retried} calls repeated")
    if used.input_tokens or used.output_tokens:
        parts.append(f"{used.input_tokens:,} tokens read, {used.output_tokens:,} written")
    if used.unmetered:
        parts.append(f"{used.unmetered} answers without a token count")
    if notes.cost is not None:
        parts.append(f"cost {notes.cost:.2f}")
    return "; ".join(parts)
