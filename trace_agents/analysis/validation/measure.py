"""What an analysis claims against what was planted: matched by behaviour, scored by precision, recall and rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import Field

from trace_agents.analysis.analyst import RunLabels
from trace_agents.analysis.results import run_contrasts
from trace_agents.analysis.validation.play import Dealt
from trace_agents.contrast import Thresholds, select
from trace_agents.types import Label, Record, Trajectory

MATCH = 0.7
"""Least F1 of the LACKING labels at which a claim is a planted deficit."""


class Claim(Record):
    """A capability that an analysis says is lacking."""

    title: str
    coverage: float
    """Share of the failures that lack it, as the analysis says."""
    lacking: frozenset[str]
    """Ids of the trajectories that it labels LACKING."""


class Truth(Record):
    """A planted deficit as it came out."""

    coverage: float
    """Share of the failures that lack it in truth."""
    due: bool
    """The true labels pass the selection, so the deficit is there to be found."""
    lacking: frozenset[str]


class Score(Record):
    """One analysis against the truth of its trajectories."""

    domain: str
    seed: int
    kept: int
    """Claims."""
    due: tuple[str, ...]
    """Planted deficits that are there to be found."""
    matched: dict[str, str] = Field(default_factory=dict)
    """Planted deficit → title of its claim."""
    unmatched: tuple[str, ...] = ()
    """Titles of claims that are no planted deficit."""
    precision: float | None
    """Share of the claims that are planted deficits; None without claims."""
    recall: float | None
    """Share of the due deficits that are claimed; None where none is due."""
    rank_correlation: float | None
    """Spearman's ρ of planted with claimed coverage over all deficits, 0 for what is not claimed; None where either
    does not vary."""


def agreement(one: frozenset[str], two: frozenset[str]) -> float:
    """F1 of two sets of trajectories; 0 where nothing is in both."""
    both = len(one & two)
    return 2 * both / (len(one) + len(two)) if both else 0.0


def truths(dealt: Dealt, draws: Sequence[Sequence[Trajectory]], thresholds: Thresholds) -> dict[str, Truth]:
    """The planted deficits; those are due that an analyst with the true labels would select from the same draws."""
    succeeded = {one.id: bool(one.success) for one in dealt.trajectories}
    runs = [_true_run(dealt, drawn, run) for run, drawn in enumerate(draws)]
    kept = {one.name for one in select([run_contrasts(run, succeeded) for run in runs], thresholds) if one.kept}
    failed = frozenset(identity for identity, good in succeeded.items() if not good)
    found = {}
    for deficit, labels in dealt.lacking.items():
        lacking = frozenset(identity for identity, lacks in labels.items() if lacks)
        coverage = len(lacking & failed) / max(len(failed), 1)
        found[deficit] = Truth(coverage=coverage, due=deficit in kept, lacking=lacking)
    return found


def _true_run(dealt: Dealt, drawn: Sequence[Trajectory], run: int) -> RunLabels:
    letters = {None: Label.NA.value[0], False: Label.PRESENT.value[0], True: Label.LACKING.value[0]}
    ids = tuple(one.id for one in drawn)
    labels = {
        deficit: "".join(letters[truth.get(identity)] for identity in ids) for deficit, truth in dealt.lacking.items()
    }
    return RunLabels(run=run, trajectory_ids=ids, labels=labels, steps={name: (None,) * len(ids) for name in labels})


def matches(claims: Sequence[Claim], found: Mapping[str, Truth]) -> dict[str, Claim]:
    """Planted deficit → its claim, one to one, best agreement first: by whom they call lacking, never by words."""
    pairs = [
        (agreement(claim.lacking, truth.lacking), index, deficit)
        for index, claim in enumerate(claims)
        for deficit, truth in found.items()
    ]
    taken: dict[str, int] = {}
    for f1, index, deficit in sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2])):
        if f1 >= MATCH and deficit not in taken and index not in taken.values():
            taken[deficit] = index
    return {deficit: claims[index] for deficit, index in taken.items()}


def score(domain: str, seed: int, claims: Sequence[Claim], found: Mapping[str, Truth]) -> Score:
    """Precision, recall and rank correlation of the claims."""
    matched = matches(claims, found)
    due = tuple(deficit for deficit, truth in found.items() if truth.due)
    claimed = [matched[deficit].coverage if deficit in matched else 0.0 for deficit in found]
    titles = [claim.title for claim in matched.values()]
    return Score(
        domain=domain,
        seed=seed,
        kept=len(claims),
        due=due,
        matched={deficit: claim.title for deficit, claim in matched.items()},
        unmatched=tuple(claim.title for claim in claims if claim.title not in titles),
        precision=len(matched) / len(claims) if claims else None,
        recall=sum(deficit in matched for deficit in due) / len(due) if due else None,
        rank_correlation=spearman([truth.coverage for truth in found.values()], claimed),
    )


def spearman(one: Sequence[float], two: Sequence[float]) -> float | None:
    """Spearman's ρ with ties at their mean rank; None where either does not vary."""
    ranks = [_ranks(values) for values in (one, two)]
    if any(np.ptp(values) == 0 for values in ranks):
        return None
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    below = (array[:, None] > array[None, :]).sum(axis=1)
    return below + ((array[:, None] == array[None, :]).sum(axis=1) - 1) / 2
