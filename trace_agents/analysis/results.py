"""What an analysis says: candidates with all figures, evidence, and the files it is written to."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

from trace_agents.analysis.analyst import Discovered, RunLabels
from trace_agents.artifacts import Artifact
from trace_agents.contrast import Contrast, Selection, Thresholds, contrast, select
from trace_agents.files import write_atomically
from trace_agents.types import Capability, Label, Message, Record, Trajectory

EVIDENCE = 8
"""Evidence trajectories named for each capability, at most."""


class Evidence(Record):
    """A failed trajectory that lacks a capability, and where to look."""

    trajectory_id: str
    task_id: str
    trial: int
    step: int | None
    """Index of the deciding message."""
    excerpt: str
    """That message, short."""
    contrast_id: str | None = None
    """A successful trajectory of the same task that exercises the capability; None where there is none."""
    contrast_step: int | None = None
    contrast_excerpt: str = ""


class Candidate(Record):
    """A capability of the dictionary with everything known about it."""

    capability: Capability
    selection: Selection
    """Over the runs: kept or not, why, and the spread of each figure."""
    overall: Contrast
    """Over all trajectories, each with its label by majority of the runs that labelled it."""
    evidence: tuple[Evidence, ...]
    figures: dict[str, float]
    """The analyst's own measures."""
    merged: tuple[str, ...]
    """Titles of candidates that this one stands for."""


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
    """`capabilities.json`: the dictionary, what was measured, and what was kept."""

    analyst: str
    thresholds: Thresholds
    trajectories: int
    """Trajectories analysed."""
    tasks: int
    failed: int
    excluded: int
    """Trajectories left out because infrastructure failed."""
    capabilities: tuple[Candidate, ...]
    """Kept first, each part by falling mean coverage."""

    @property
    def kept(self) -> tuple[Candidate, ...]:
        """The retained capabilities C*, by falling coverage."""
        return tuple(candidate for candidate in self.capabilities if candidate.selection.kept)


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
        ids = list(dict.fromkeys(identity for run in self.runs for identity in run.trajectory_ids))
        return {name: {identity: final.get(name, identity)[0] for identity in ids} for name in names}

    def label_rows(self) -> Iterable[LabelRow]:
        """`labels.jsonl`: a row for each run × trajectory × capability."""
        for run in self.runs:
            for name in run.labels:
                for identity, label, step in zip(run.trajectory_ids, run.label(name), run.steps[name], strict=True):
                    yield LabelRow(run=run.run, trajectory_id=identity, capability=name, label=label, step=step)

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write `labels.jsonl` and `capabilities.json`, each whole or not at all; returns their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        summary, labels = folder / "capabilities.json", folder / "labels.jsonl"
        write_atomically(labels, "".join(f"{row.model_dump_json()}\n" for row in self.label_rows()))
        write_atomically(summary, self.summary.model_dump_json(indent=2) + "\n")
        return summary, labels


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


def run_contrasts(run: RunLabels, succeeded: Mapping[str, bool]) -> dict[str, Contrast]:
    """The contrast of each capability in one run; `succeeded` by trajectory id."""
    outcomes = [succeeded[identity] for identity in run.trajectory_ids]
    return {name: contrast(run.label(name), outcomes) for name in run.labels}


class Verdicts:
    """One label for each trajectory and capability: the majority over the runs, and its deciding step."""

    def __init__(self, runs: Sequence[RunLabels]) -> None:
        votes: dict[tuple[str, str], Counter[tuple[Label, int | None]]] = {}
        for run in runs:
            for name in run.labels:
                for identity, label, step in zip(run.trajectory_ids, run.label(name), run.steps[name], strict=True):
                    votes.setdefault((name, identity), Counter())[label, step] += 1
        self._final = {key: _majority(found) for key, found in votes.items()}

    def get(self, name: str, identity: str) -> tuple[Label, int | None]:
        """Label and step; NA for a trajectory that no run labelled."""
        return self._final.get((name, identity), (Label.NA, None))


def _majority(votes: Counter[tuple[Label, int | None]]) -> tuple[Label, int | None]:
    labels: Counter[Label] = Counter()
    for (label, _), times in votes.items():
        labels[label] += times
    winner = max(labels, key=lambda label: (labels[label], label is Label.PRESENT, label.value))
    return max((key for key in votes if key[0] is winner), key=lambda key: votes[key])


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
    entries = {entry.capability.name: entry for entry in discovered}
    return tuple(_candidate(entries[one.name], one, verdicts, trajectories) for one in selections)


def _candidate(
    entry: Discovered, selection: Selection, verdicts: Verdicts, trajectories: Sequence[Trajectory]
) -> Candidate:
    name = entry.capability.name
    labels = [verdicts.get(name, trajectory.id)[0] for trajectory in trajectories]
    return Candidate(
        capability=entry.capability,
        selection=selection,
        overall=contrast(labels, [bool(trajectory.success) for trajectory in trajectories]),
        evidence=tuple(gather_evidence(trajectories, lambda identity: verdicts.get(name, identity))),
        figures=entry.figures,
        merged=entry.merged,
    )


def gather_evidence(
    trajectories: Sequence[Trajectory], verdict: Callable[[str], tuple[Label, int | None]], most: int = EVIDENCE
) -> list[Evidence]:
    """Failed trajectories labelled LACKING, one from each task in turn, tasks with a contrasting success first."""
    lacking: dict[str, list[Trajectory]] = {}
    exercised: dict[str, Trajectory] = {}
    for trajectory in trajectories:
        label = verdict(trajectory.id)[0]
        if label is Label.LACKING and not trajectory.success:
            lacking.setdefault(trajectory.task_id, []).append(trajectory)
        elif label is Label.PRESENT and trajectory.success:
            exercised.setdefault(trajectory.task_id, trajectory)
    tasks = sorted(lacking, key=lambda task: (task not in exercised, -len(lacking[task]), task))
    turns = zip_longest(*(lacking[task] for task in tasks))
    chosen = [trajectory for turn in turns for trajectory in turn if trajectory is not None][:most]
    return [_evidence(one, verdict, exercised.get(one.task_id)) for one in chosen]


def _evidence(
    one: Trajectory, verdict: Callable[[str], tuple[Label, int | None]], other: Trajectory | None
) -> Evidence:
    step, other_step = verdict(one.id)[1], verdict(other.id)[1] if other else None
    return Evidence(
        trajectory_id=one.id,
        task_id=one.task_id,
        trial=one.trial,
        step=step,
        excerpt=_excerpt(one.messages, step),
        contrast_id=other.id if other else None,
        contrast_step=other_step,
        contrast_excerpt=_excerpt(other.messages, other_step) if other else "",
    )


def _excerpt(messages: Sequence[Message], step: int | None, most: int = 200) -> str:
    if step is None or not 0 <= step < len(messages):
        return ""
    message = messages[step]
    calls = [f"{call.name}({json.dumps(call.arguments, ensure_ascii=False)})" for call in message.tool_calls]
    text = " ".join([*(message.content or "").split(), *calls])
    return text if len(text) <= most else text[: most - 1] + "…"
