"""Labels of all runs as one array, and what follows from it: majority, contrasts, intervals, agreement, overlap.

Axes: R labelling runs, N trajectories, C capabilities, V label values, T tasks, B bootstrap resamples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from trace_agents.analysis.analyst import RunLabels
from trace_agents.contrast import Contrast, contrast_of_counts
from trace_agents.statistics import Interval, cluster_weights, krippendorff_alpha, percentile_interval
from trace_agents.types import Label, Record

RESAMPLES = 2_000
MISSING = -1
LABELS = (Label.LACKING, Label.NA, Label.PRESENT)
"""By code. Where runs are tied, the higher code wins: what is doubtful counts against no agent."""
LACKING, PRESENT = LABELS.index(Label.LACKING), LABELS.index(Label.PRESENT)

_CODES = np.full(256, MISSING, dtype=np.int8)
for _code, _label in enumerate(LABELS):
    _CODES[ord(_label.value[0])] = _code


class Overlap(Record):
    """How the failures that lack one capability relate to those that lack another."""

    both: int
    """Failures that lack both."""
    jaccard: float | None
    """Those over the failures that lack either; None where none does."""
    share: float | None
    """Those over the failures that lack the one; None where none does."""


class Intervals(Record):
    """What covers the mean over runs of a capability's figures, tasks resampled."""

    delta: Interval | None
    """None with fewer than two tasks, or where no resample estimates Δ."""
    coverage: Interval | None


class Verdicts:
    """One label for each trajectory and capability: the majority over the runs, and its deciding step."""

    def __init__(self, runs: Sequence[RunLabels]) -> None:
        self.ids = tuple(dict.fromkeys(identity for run in runs for identity in run.trajectory_ids))
        self.names = tuple(dict.fromkeys(name for run in runs for name in run.labels))
        self._at = {identity: index for index, identity in enumerate(self.ids)}
        self._column = {name: index for index, name in enumerate(self.names)}
        self._places = [{identity: place for place, identity in enumerate(run.trajectory_ids)} for run in runs]
        self._runs = runs
        self.labels_RNC = label_cube(runs, self.ids, self.names)
        self.majority_NC = majority(votes(self.labels_RNC))

    def label(self, name: str, identity: str) -> Label:
        """NA for a trajectory that no run labelled."""
        if identity not in self._at or name not in self._column:
            return Label.NA
        return LABELS[self.majority_NC[self._at[identity], self._column[name]]]

    def get(self, name: str, identity: str) -> tuple[Label, int | None]:
        """The label, and the step that most of the runs with that label name, the first of these where they tie."""
        winner = self.label(name, identity)
        steps: Counter[int | None] = Counter()
        for run, places in zip(self._runs, self._places, strict=True):
            place = places.get(identity)
            if place is not None and run.labels.get(name, "")[place : place + 1] == winner.value[0]:
                steps[run.steps[name][place]] += 1
        return winner, max(steps, key=lambda step: steps[step]) if steps else None


def label_cube(runs: Sequence[RunLabels], ids: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """labels_RNC, int8: index into `LABELS`, or `MISSING` where a run did not label a trajectory."""
    at = {identity: index for index, identity in enumerate(ids)}
    cube = np.full((len(runs), len(ids), len(names)), MISSING, dtype=np.int8)
    for r, run in enumerate(runs):
        rows = np.array([at.get(identity, -1) for identity in run.trajectory_ids], dtype=np.int64)
        for c, name in enumerate(names):
            if name in run.labels:
                cube[r, rows[rows >= 0], c] = _codes(run.labels[name])[rows >= 0]
    return cube


def _codes(letters: str) -> np.ndarray:
    return _CODES[np.frombuffer(letters.encode("ascii"), dtype=np.uint8)]


def votes(labels_RNC: np.ndarray) -> np.ndarray:
    """votes_NCV: runs that gave each label."""
    return np.stack([(labels_RNC == code).sum(axis=0) for code in range(len(LABELS))], axis=-1)


def majority(votes_NCV: np.ndarray) -> np.ndarray:
    """majority_NC: index into `LABELS`; NA where there is no vote."""
    weighed = votes_NCV * len(LABELS) + np.arange(len(LABELS))
    return np.where(votes_NCV.any(axis=-1), weighed.argmax(axis=-1), LABELS.index(Label.NA))


def run_contrasts(run: RunLabels, succeeded: Mapping[str, bool]) -> dict[str, Contrast]:
    """The contrast of each capability in one run; `succeeded` by trajectory id."""
    good_N = np.array([bool(succeeded[identity]) for identity in run.trajectory_ids], dtype=bool)
    return {name: contrast_of_codes(_codes(letters), good_N) for name, letters in run.labels.items()}


def contrast_of_codes(codes_N: np.ndarray, good_N: np.ndarray) -> Contrast:
    """The contrast of one capability from its labels' codes."""
    lacking, present = codes_N == LACKING, codes_N == PRESENT
    return contrast_of_counts(
        (int((lacking & ~good_N).sum()), int((lacking & good_N).sum())),
        (int((present & ~good_N).sum()), int((present & good_N).sum())),
        int((~good_N & (codes_N != MISSING)).sum()),
    )


def bootstrap(
    labels_RNC: np.ndarray, good_N: np.ndarray, tasks: Sequence[str], resamples: int = RESAMPLES, seed: int = 0
) -> list[Intervals]:
    """Percentile intervals of the mean over runs of Δ and Cov for each capability, trials of one task kept together.

    Tasks are what a new sample would differ in: trials of one task fail for the same reason, so resampling them
    one by one would make every interval too narrow.
    """
    capabilities = labels_RNC.shape[2]
    names, task_N = np.unique(np.asarray(tasks), return_inverse=True)
    if len(names) < 2 or not capabilities:
        return [Intervals(delta=None, coverage=None)] * capabilities
    sums = [_task_sums(labels_NC, good_N, task_N, len(names)) for labels_NC in labels_RNC]
    deltas, coverages = [], []
    for weights_BT in cluster_weights(len(names), resamples, seed):
        figures = [_figures(weights_BT @ one, capabilities) for one in sums]
        deltas.append(_mean_over_runs([delta for delta, _ in figures]))
        coverages.append(_mean_over_runs([coverage for _, coverage in figures]))
    delta_BC, coverage_BC = np.concatenate(deltas), np.concatenate(coverages)
    return [
        Intervals(delta=percentile_interval(delta_BC[:, c]), coverage=percentile_interval(coverage_BC[:, c]))
        for c in range(capabilities)
    ]


def _task_sums(labels_NC: np.ndarray, good_N: np.ndarray, task_N: np.ndarray, tasks: int) -> np.ndarray:
    """Counts of one run by task, float32: lacking and applicable on failures, on successes (C each), and failures."""
    failed, lacking, applicable = (
        ~good_N[:, None],
        labels_NC == LACKING,
        (labels_NC == LACKING) | (labels_NC == PRESENT),
    )
    seen = labels_NC[:, :1] != MISSING
    parts = (lacking & failed, applicable & failed, lacking & ~failed, applicable & ~failed, seen & failed)
    counted_NK = np.concatenate(parts, axis=1).astype(np.float32)
    order = np.argsort(task_N, kind="stable")
    starts = np.searchsorted(task_N[order], np.arange(tasks))
    return np.add.reduceat(counted_NK[order], starts, axis=0)


def _figures(summed_BK: np.ndarray, capabilities: int) -> tuple[np.ndarray, np.ndarray]:
    """Δ and Cov of one run in each resample, (B, C); NaN where not estimable."""
    cuts = [capabilities * part for part in range(1, 5)]
    lacking_failed, applicable_failed, lacking_good, applicable_good, failed = np.split(summed_BK, cuts, axis=1)
    delta = _share(lacking_failed, applicable_failed) - _share(lacking_good, applicable_good)
    return delta, _share(lacking_failed, failed)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def _mean_over_runs(figures: Sequence[np.ndarray]) -> np.ndarray:
    stacked = np.stack(figures)
    known = ~np.isnan(stacked)
    return _share(np.where(known, stacked, 0.0).sum(axis=0), known.sum(axis=0))


def alphas(votes_NCV: np.ndarray) -> list[float | None]:
    """Krippendorff's α between the runs for each capability: trajectories are the units, runs the coders."""
    return [krippendorff_alpha(votes_NCV[:, c]) for c in range(votes_NCV.shape[1])]


def overlaps(majority_NC: np.ndarray, good_N: np.ndarray, names: Sequence[str]) -> dict[str, dict[str, Overlap]]:
    """Capability → every other capability → the overlap of the failures that lack them."""
    lacking = ((majority_NC == LACKING) & ~good_N[:, None]).astype(np.int64)
    both_CC = lacking.T @ lacking
    return {
        one: {other: _overlap(both_CC, i, j) for j, other in enumerate(names) if j != i} for i, one in enumerate(names)
    }


def _overlap(both_CC: np.ndarray, i: int, j: int) -> Overlap:
    both, one = int(both_CC[i, j]), int(both_CC[i, i])
    either = one + int(both_CC[j, j]) - both
    return Overlap(both=both, jaccard=both / either if either else None, share=both / one if one else None)
