"""What the page of an evaluation shows: an agent between its ceiling and floors, and its trajectories."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path

from trace_agents.report.findings import Findings, read_findings
from trace_agents.scores import Score

KINDS = {"oracle": "oracle", "do-nothing": "baseline", "decline": "baseline", "random": "baseline"}
"""Agent that stands beside the one measured -> the colour of its bar, by the style sheet's word."""


@dataclass(frozen=True)
class EvaluationContents:
    """An evaluation, as the page reads it."""

    environment: str
    asked: str
    """Split, number of tasks and trials, in words."""
    score: Score
    """The agent's."""
    beside: tuple[Score, ...]
    """The ceiling and the floors."""
    notes: tuple[str, ...]
    provenance: dict[str, str]
    """What the environment is made from."""
    found: Findings
    """The agent's trajectories, and no analysis."""
    package: str
    """Version of trace-agents."""

    @property
    def rows(self) -> list[tuple[Score, str]]:
        """(score, colour of its bar), the agent's first."""
        return [(self.score, "composition"), *((one, KINDS.get(one.agent, "baseline")) for one in self.beside)]

    @property
    def heading(self) -> str:
        """What the bars show, by who stands beside the agent."""
        ceiling = any(one.agent == "oracle" for one in self.beside)
        floors = len(self.beside) > ceiling
        if not self.beside:
            return "Result"
        return (
            "Between ceiling and floors"
            if ceiling and floors
            else "Below its ceiling"
            if ceiling
            else "Above its floors"
        )

    @property
    def parts(self) -> list[str]:
        """Names of the reward's parts, over all rows."""
        return sorted({name for one, _ in self.rows for name in one.breakdown})


def trajectories_of(folder: Path, file: str) -> tuple[Findings, str]:
    """What the page embeds of the trajectories in `folder`, and the version of trace-agents that makes it.

    Raises:
        UsageError: a malformed line, with its number.
    """
    return read_findings(folder, [file]), installed_version("trace-agents")
