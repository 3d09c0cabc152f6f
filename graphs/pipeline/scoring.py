"""The analysis against the planted truth: precision and recall over capabilities matched by behaviour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trace_agents.artifacts import AnalysisScore
from trace_agents.environment import GroundTruth
from trace_agents.types import Label, TaskInstance, Trajectory

MATCH = 0.5
"""Least F1 at which a kept capability counts as a planted deficit."""

Verdicts = Mapping[str, Mapping[str, Label]]
"""Capability -> trajectory id -> label (the majority over runs)."""


def planted_lacking(
    truth: GroundTruth, trajectories: Sequence[Trajectory], tasks: Mapping[str, TaskInstance], planted: Sequence[str]
) -> dict[str, dict[str, bool]]:
    """Planted deficit -> trajectory id -> lacking, where its decision was reached."""
    found: dict[str, dict[str, bool]] = {name: {} for name in planted}
    for trajectory in trajectories:
        for name, done in truth.exercised(tasks[trajectory.task_id], trajectory.messages).items():
            if name in found:
                found[name][trajectory.id] = not done
    return found


def score_analysis(verdicts: Verdicts, lacking: Mapping[str, Mapping[str, bool]]) -> AnalysisScore:
    """Kept capabilities matched one to one with planted deficits, best F1 of the LACKING labels first."""
    pairs = sorted(
        (
            (agreement(labels, truth), name, planted)
            for name, labels in verdicts.items()
            for planted, truth in lacking.items()
        ),
        reverse=True,
    )
    matched: dict[str, str] = {}
    for f1, name, planted in pairs:
        if f1 >= MATCH and name not in matched and planted not in matched.values():
            matched[name] = planted
    return AnalysisScore(
        planted=tuple(lacking),
        kept=tuple(verdicts),
        matched=matched,
        precision=len(matched) / len(verdicts) if verdicts else 0.0,
        recall=len(matched) / len(lacking) if lacking else 0.0,
    )


def agreement(labels: Mapping[str, Label], truth: Mapping[str, bool]) -> float:
    """F1 of "labelled LACKING" as a detector of "lacking in truth", over all trajectories of either."""
    claimed = {key for key, label in labels.items() if label is Label.LACKING}
    actual = {key for key, lacking in truth.items() if lacking}
    both = len(claimed & actual)
    return 2 * both / (len(claimed) + len(actual)) if both else 0.0
