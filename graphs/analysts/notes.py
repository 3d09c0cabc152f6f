"""`analyst.json`: what a reading analyst was asked, what it took, and where the statistics agree with it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from pydantic import Field

from graphs.analysts.handoff import HandoffMind
from graphs.analysts.language import LanguageAnalyst
from trace_agents.analysis.agreement import Agreement, agreement
from trace_agents.analysis.requests import Prices, Usage
from trace_agents.analysis.results import Analysis
from trace_agents.artifacts import Artifact
from trace_agents.files import write_atomically

FILE = "analyst.json"


class AnalystNotes(Artifact):
    """`analyst.json`, beside `capabilities.json`."""

    analyst: str
    prompts: str
    """Digest of the prompts' texts."""
    context_tokens: int
    usage: Usage
    """Over all sessions of the analysis."""
    prices: Prices | None = None
    """As the user gave them; None where they gave none."""
    cost: float | None = None
    """Of the metered tokens, in the currency of the prices; None without prices."""
    answered_by: dict[str, int] = Field(default_factory=dict)
    """Who answered a hand-off → requests; empty for a chat model."""
    statistics: tuple[Agreement, ...] | None = None
    """For each capability, the statistical one whose labels are most alike; None where statistics were not asked."""

    def write(self, folder: Path) -> Path:
        """Write it whole or not at all; returns its path."""
        path = folder / FILE
        write_atomically(path, self.model_dump_json(indent=2) + "\n")
        return path


def notes_on(
    analysis: Analysis,
    analyst: LanguageAnalyst,
    prices: Prices | None = None,
    statistics: Analysis | None = None,
    failed: Collection[str] = (),
) -> AnalystNotes:
    """The notes on an analysis that is done.

    Args:
        analysis: what came out.
        analyst: who read.
        prices: of its tokens.
        statistics: the statistical analysis of the same trajectories.
        failed: ids of the failed trajectories.
    """
    usage = analyst.spent()
    mind = analyst.mind
    return AnalystNotes(
        analyst=analyst.name,
        prompts=str(analyst.settings["prompts"]),
        context_tokens=analyst.config.context_tokens,
        usage=usage,
        prices=prices,
        cost=None if prices is None else prices.cost(usage),
        answered_by=mind.folder.answered_by() if isinstance(mind, HandoffMind) else {},
        statistics=None if statistics is None else agreement(analysis, statistics, set(failed)),
    )
