"""`analyst.json`: what a reading analyst was asked, what it took, and where the statistics agree with it."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from trace_agents.analysis.agreement import Agreement
from trace_agents.analysis.requests import Prices, Usage
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
    statistics_alone: tuple[str, ...] | None = None
    """Titles of what the statistics keep and no capability of the reader agrees with; None where statistics were not
    asked."""

    def write(self, folder: Path) -> Path:
        """Write it whole or not at all; returns its path."""
        path = folder / FILE
        write_atomically(path, self.model_dump_json(indent=2) + "\n")
        return path

    @property
    def spent(self) -> str:
        """What the answers took, in one line."""
        used = self.usage
        parts = [f"{used.answered} requests answered by {self.analyst}"]
        if used.refused:
            parts.append(f"{used.refused} answers refused and asked again")
        if used.retried:
            parts.append(f"{used.retried} calls repeated")
        if used.input_tokens or used.output_tokens:
            parts.append(f"{used.input_tokens:,} tokens read, {used.output_tokens:,} written")
        if used.unmetered:
            parts.append(f"{used.unmetered} answers without a token count")
        if self.cost is not None:
            parts.append(f"cost {self.cost:.2f}")
        return "; ".join(parts)

    @property
    def beside(self) -> str | None:
        """What the statistics keep besides, in one line; None where they were not asked."""
        if self.statistics_alone is None:
            return None
        titles = "; ".join(f"“{title}”" for title in self.statistics_alone)
        return (
            f"the statistics alone keep {titles}" if titles else "the statistics keep nothing that the reader does not"
        )
