"""What an analysis says: candidates with all figures, evidence, and the files it is written to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from trace_agents.analysis.aggregate import (
    Overlap,
    Verdicts,
    alphas,
    bootstrap,
    contrast_of_codes,
    label_cube,
    majority,
    overlaps,
    run_contrasts,
    votes,
)
from trace_agents.analysis.analyst import Discovered, RunLabels
from trace_agents.analysis.evidence import EVIDENCE, Evidence, gather_evidence
from trace_agents.artifacts import Artifact
from trace_agents.contrast import Contrast, Selection, Thresholds, select
from trace_agents.files import write_atomically, write_lines
from trace_agents.statistics import Interval
from trace_agents.types import Capability, Label, Record, Trajectory

CAPABILITIES, LABELS, EVIDENCE_FILE = "capabilities.json", "labels.jsonl", "evidence.jsonl"
"""Names of an analysis' files."""

SHOWN = 400
"""Trajectories kept beside an analysis for its page, at most; those that evidence names are kept beyond it too."""


class Candidate(Record):
    """A capability of the dictionary with everything known about it."""

    capability: Capability
    selection: Selection
    """Over the runs: kept or not, why, and the spread of each figure."""
    overall: Contrast
    """Over all trajectories, each with its label by majority of the runs that labelled it."""
    delta_interval: Interval | None = None
    """Covers the mean Δ: tasks resampled. None where it is not estimable, or in files of schema version 1."""
    coverage_interval: Interval | None = None
    """Covers the mean coverage, in the same way."""
    alpha: float | None = None
    """Krippendorff's α between the runs over the three labels; None where it is not estimable: one run, or one label
    everywhere."""
    overlap: dict[str, Overlap] = Field(default_factory=dict)
    """Every other candidate by name: how the failures that lack this one relate to those that lack the other."""
    agreement: float | None = None
    """Where a second analyst looked too: how far its most alike capability has the same labels (Cohen's κ, at most 1);
    None where none was asked."""
    evidence: tuple[Evidence, ...]
    figures: dict[str, float]
    """The analyst's own measures."""
    merged: tuple[str, ...]
    """Titles of candidates that this one stands for."""
    examples: tuple[str, ...] = ()
    """Ids of trajectories that lack it, as its discoverer named them; empty for an analyst that names none."""


class LabelRow(Artifact):
    """One line of `labels.jsonl`."""

    run: int
    """From 0."""
    trajectory_id: str
    capability: str
    label: Label
    step: int | None
    """Index of the deciding message; None for NA."""


class CapabilitiesArtifact(Artifact):
    """`capabilities.json`: the dictionary, what was measured, and what was kept.

    Version 2 added least support, intervals, agreement and overlap, version 3 what the kept ones cover together; older
    files are read without them.
    """

    version: Literal[1, 2, 3] = 3  # type: ignore[assignment]
    analyst: str
    thresholds: Thresholds
    trajectories: int
    """Trajectories analysed."""
    tasks: int
    failed: int
    excluded: int
    """Trajectories left out because infrastructure failed."""
    covered: int | None = None
    """Failed trajectories that lack at least one kept capability, by the majority of the runs; None in files of schema
    version 1 or 2."""
    capabilities: tuple[Candidate, ...]
    """Kept first, each part by falling mean coverage."""

    @property
    def kept(self) -> tuple[Candidate, ...]:
        """The retained capabilities C*, by falling coverage."""
        return tuple(candidate for candidate in self.capabilities if candidate.selection.kept)

    @property
    def named(self) -> tuple[str, ...]:
        """Ids of the trajectories that evidence names, most telling first: the first of each capability in its order,
        then the second of each."""
        ranked = [candidate.evidence[rank : rank + 1] for rank in range(EVIDENCE) for candidate in self.capabilities]
        pairs = [(one.trajectory_id, one.contrast_id) for found in ranked for one in found]
        return tuple(dict.fromkeys(identity for pair in pairs for identity in pair if identity is not None))


class Analysis(Record):
    """The outcome of the contrastive analysis: what goes to disk."""

    summary: CapabilitiesArtifact
    runs: tuple[RunLabels, ...]

    @property
    def kept(self) -> tuple[Candidate, ...]:
        """The retained capabilities C*, by falling coverage."""
        return self.summary.kept

    def verdicts(self) -> dict[str, dict[str, Label]]:
        """Capability → trajectory id → its label by majority of the runs that labelled it."""
        final = Verdicts(self.runs)
        names = [candidate.capability.name for candidate in self.summary.capabilities]
        return {name: {identity: final.label(name, identity) for identity in final.ids} for name in names}

    def label_rows(self) -> Iterator[LabelRow]:
        """`labels.jsonl`: a row for each run × trajectory × capability."""
        for run in self.runs:
            for name in run.labels:
                for identity, label, step in zip(run.trajectory_ids, run.label(name), run.steps[name], strict=True):
                    yield LabelRow(run=run.run, trajectory_id=identity, capability=name, label=label, step=step)

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write `labels.jsonl` and `capabilities.json`, each whole or not at all; returns their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        summary, labels = folder / CAPABILITIES, folder / LABELS
        write_lines(labels, _label_lines(self.runs))
        write_atomically(summary, self.summary.model_dump_json(indent=2) + "\n")
        return summary, labels

    def write_evidence(self, folder: Path, trajectories: Sequence[Trajectory], most: int = SHOWN) -> Path:
        """Write `evidence.jsonl`, what the page shows: the trajectories that evidence names, and others up to `most`.

        The others are spread evenly over the rest, so that the page is no picture of the first tasks only.
        """
        named = self.summary.named
        by_id = {trajectory.id: trajectory for trajectory in trajectories}
        others = [trajectory for trajectory in trajectories if trajectory.id not in set(named)]
        room = min(len(others), max(0, most - len(named)))
        chosen = [by_id[identity] for identity in named if identity in by_id]
        chosen += [others[place * len(others) // room] for place in range(room)]
        path = folder / EVIDENCE_FILE
        write_lines(path, (trajectory.model_dump_json(exclude={"tools"}) for trajectory in chosen))
        return path


def _label_lines(runs: Sequence[RunLabels]) -> Iterator[str]:
    """`label_rows` as JSON. A large analysis has millions of them, so each is put together from quoted parts."""
    words = {label.value[0]: json.dumps(label.value) for label in Label}
    for run in runs:
        ids = [json.dumps(identity, ensure_ascii=False) for identity in run.trajectory_ids]
        for name, letters in run.labels.items():
            end = f',"capability":{json.dumps(name, ensure_ascii=False)},"label":'
            start = f'{{"version":1,"run":{run.run},"trajectory_id":'
            for identity, letter, step in zip(ids, letters, run.steps[name], strict=True):
                yield f'{start}{identity}{end}{words[letter]},"step":{"null" if step is None else step}}}'


def joined_runs(parts: Iterable[RunLabels]) -> list[RunLabels]:
    """Batches put together, one entry for each run, by run number."""
    runs: dict[int, list[RunLabels]] = {}
    for part in parts:
        runs.setdefault(part.run, []).append(part)
    return [_join(runs[run]) for run in sorted(runs)]


def _join(parts: Sequence[RunLabels]) -> RunLabels:
    return RunLabels(
        run=parts[0].run,
        trajectory_ids=tuple(identity for part in parts for identity in part.trajectory_ids),
        labels={name: "".join(part.labels[name] for part in parts) for name in parts[0].labels},
        steps={name: tuple(step for part in parts for step in part.steps[name]) for name in parts[0].steps},
    )


def conclude(
    discovered: Sequence[Discovered],
    runs: Sequence[RunLabels],
    trajectories: Sequence[Trajectory],
    thresholds: Thresholds,
) -> tuple[Candidate, ...]:
    """Aggregate the runs, select, and gather the evidence."""
    succeeded = {trajectory.id: bool(trajectory.success) for trajectory in trajectories}
    selections = select([run_contrasts(run, succeeded) for run in runs], thresholds)
    verdicts = Verdicts(runs)
    figures = _figures(runs, trajectories, [one.name for one in selections])
    entries = {entry.capability.name: entry for entry in discovered}
    return tuple(
        Candidate(
            capability=entries[one.name].capability,
            selection=one,
            evidence=tuple(gather_evidence(trajectories, one.name, verdicts)),
            figures=entries[one.name].figures,
            merged=entries[one.name].merged,
            examples=entries[one.name].examples,
            **figures[one.name],
        )
        for one in selections
    )


def covered(candidates: Sequence[Candidate], runs: Sequence[RunLabels], trajectories: Sequence[Trajectory]) -> int:
    """Failed trajectories that lack at least one kept capability, by the majority of the runs."""
    verdicts = Verdicts(runs)
    kept = [one.capability.name for one in candidates if one.selection.kept]
    failed = [one.id for one in trajectories if one.success is False]
    return sum(any(verdicts.label(name, identity) is Label.LACKING for name in kept) for identity in failed)


def _figures(
    runs: Sequence[RunLabels], trajectories: Sequence[Trajectory], names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """What is computed for all capabilities at once: fields of `Candidate`, by capability."""
    good_N = np.array([bool(trajectory.success) for trajectory in trajectories], dtype=bool)
    labels_RNC = label_cube(runs, [trajectory.id for trajectory in trajectories], names)
    votes_NCV = votes(labels_RNC)
    majority_NC = majority(votes_NCV)
    intervals = bootstrap(labels_RNC, good_N, [trajectory.task_id for trajectory in trajectories])
    overlap, alpha = overlaps(majority_NC, good_N, names), alphas(votes_NCV)
    return {
        name: {
            "overall": contrast_of_codes(majority_NC[:, c], good_N),
            "delta_interval": intervals[c].delta,
            "coverage_interval": intervals[c].coverage,
            "alpha": alpha[c],
            "overlap": overlap[name],
        }
        for c, name in enumerate(names)
    }
