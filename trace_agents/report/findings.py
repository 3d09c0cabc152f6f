"""What an analysis found, as pages show it: capabilities, majority labels, and the trajectories beside them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trace_agents.analysis.aggregate import LABELS as VERDICTS
from trace_agents.analysis.aggregate import Overlap
from trace_agents.analysis.agreement import Agreement
from trace_agents.analysis.notes import FILE, AnalystNotes
from trace_agents.analysis.results import CAPABILITIES, LABELS, Candidate, CapabilitiesArtifact
from trace_agents.errors import UsageError
from trace_agents.files import read_lines
from trace_agents.report.conversations import Browsable, browse
from trace_agents.runstore import read_model

LARGEST_MATRIX = 16
"""Capabilities in the overlap matrix, at most."""

_TRAJECTORY = re.compile(rb'"trajectory_id": ?("(?:[^"\\\\]|\\\\.)*")')


_RANK = {label.value: rank for rank, label in enumerate(VERDICTS)}


@dataclass(frozen=True)
class OverlapRow:
    """A row of the overlap matrix."""

    title: str
    cells: tuple[Overlap | None, ...]
    """In the order of the rows; None for the capability itself."""


@dataclass(frozen=True)
class Findings:
    """An analysis with its labels and trajectories. A run that has not come to it has no analysis."""

    analysis: CapabilitiesArtifact | None
    trajectories: Browsable
    labels: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    """Trajectory → capability → majority label, its share of the runs, and its deciding step; embedded ones only."""
    notes: AnalystNotes | None = None
    """What a reader took, and where the statistics agree with it; None where no reader looked."""

    @property
    def kept(self) -> Sequence[Candidate]:
        """Kept capabilities, by falling coverage."""
        return self.analysis.kept if self.analysis else ()

    @property
    def others(self) -> Sequence[Candidate]:
        """Candidates that were not kept."""
        candidates = self.analysis.capabilities if self.analysis else ()
        return [candidate for candidate in candidates if not candidate.selection.kept]

    @property
    def compared(self) -> bool:
        """A second analyst looked, so there is a column for what it says."""
        return any(candidate.agreement is not None for candidate in (*self.kept, *self.others))

    @property
    def agreements(self) -> dict[str, Agreement]:
        """Capability → the statistical one whose labels are most alike, where the statistics looked too."""
        found = (self.notes.statistics if self.notes else None) or ()
        return {one.capability: one for one in found if one.other is not None}

    @property
    def overlap_rows(self) -> Sequence[OverlapRow]:
        """The overlap matrix; empty with fewer than two capabilities, or where nothing was said of it."""
        shown = [candidate for candidate in (*self.kept, *self.others) if candidate.overlap][:LARGEST_MATRIX]
        names = [candidate.capability.name for candidate in shown]
        return [
            OverlapRow(one.capability.title or one.capability.name, tuple(one.overlap.get(name) for name in names))
            for one in shown
        ]

    @property
    def browsable(self) -> frozenset[str]:
        """Ids of the trajectories that the page embeds."""
        return frozenset(conversation["id"] for conversation in self.trajectories.conversations)

    @property
    def trials(self) -> dict[str, int | None]:
        """Trajectory → its trial, of those that the page embeds; None where it is not said."""
        return {conversation["id"]: conversation["trial"] for conversation in self.trajectories.conversations}

    @property
    def browser(self) -> dict[str, Any]:
        """What the page's script reads."""
        named = [candidate.capability for candidate in (*self.kept, *self.others)]
        return {
            "trajectories": self.trajectories.conversations,
            "systems": self.trajectories.systems,
            "capabilities": {capability.name: capability.title or capability.name for capability in named},
            "labels": self.labels,
        }


def read_findings(folder: Path, trajectories: Sequence[str]) -> Findings:
    """The analysis in `folder`, with the trajectories of those files (of `trajectories`) that are there.

    Raises:
        UsageError: a file is malformed, or of a schema version that this package does not read.
    """
    analysis = read_capabilities(folder / CAPABILITIES) if (folder / CAPABILITIES).exists() else None
    paths = [folder / name for name in trajectories if (folder / name).exists()]
    found = Findings(analysis, browse(paths, analysis.named if analysis else ()))
    return Findings(
        analysis, found.trajectories, read_labels(folder / LABELS, found.browsable), read_notes(folder / FILE)
    )


def read_notes(path: Path) -> AnalystNotes | None:
    """`analyst.json`; None without the file.

    Raises:
        UsageError: it is not what this package writes.
    """
    return read_model(path, AnalystNotes) if path.exists() else None


def read_capabilities(path: Path) -> CapabilitiesArtifact:
    """`capabilities.json`.

    Raises:
        UsageError: it is not what this package writes.
    """
    try:
        return CapabilitiesArtifact.model_validate_json(path.read_bytes())
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"]) or "the file"
        raise UsageError(
            f"{str(path)!r} is not an analysis that this package reads ({where}: {problem['msg']}): "
            "run the analysis again"
        ) from error


def read_labels(path: Path, only: Collection[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """The majority label of each capability over the runs, for the trajectories in `only`; empty without the file.

    Ties are settled as in the analysis: PRESENT before NA before LACKING, and of the steps that as many of the runs
    with that label name, the first.
    """
    if not path.exists():
        return {}
    quoted = {
        json.dumps(identity, ensure_ascii=escaped).encode("utf-8", "replace")
        for identity in only
        for escaped in (True, False)
    }

    def wanted(line: bytes) -> bool:
        said = _TRAJECTORY.search(line)
        return said is None or said[1] in quoted

    given: dict[tuple[str, str], list[tuple[str, int | None]]] = {}
    for number, row in read_lines(path, wanted):
        if row.get("trajectory_id") in only:
            try:
                key = (row["trajectory_id"], row["capability"])
                given.setdefault(key, []).append((row["label"], row["step"]))
            except KeyError as error:
                raise UsageError(f"line {number} of {str(path)!r} has no {error}: run the analysis again") from error
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for (trajectory, capability), labels in given.items():
        counts = Counter(label for label, _ in labels)
        majority = max(counts, key=lambda label: (counts[label], _RANK.get(label, -1)))
        steps = Counter(step for label, step in labels if label == majority)
        step = max(steps, key=steps.__getitem__)
        entry = {"label": majority, "share": round(counts[majority] / len(labels), 3), "step": step}
        found.setdefault(trajectory, {})[capability] = entry
    return found
