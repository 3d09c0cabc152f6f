"""Evidence in a label matrix: what statements explain, within tasks and overall, and how much chance would.

Axes: S statements, T trajectories, K tasks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

NA, PRESENT, LACKING = 0, 1, 2
"""Codes of the label matrix."""
SLACK = 0.15
"""Largest share of successes that a lacking capability is allowed (label noise); Definition 1 says none."""

UNNECESSARY = 1 / 3
"""ER+ above which a capability cannot be called necessary (Definition 1 says 0)."""
_LEAST_Z = 1.64
"""Least z of the contrast within tasks (5 %, one-sided)."""

_LEAST_CONTESTED = 0.2
"""Least share of its failures that lie in tasks where another trial exercises the capability."""

Labels = NDArray[np.int8]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Counts:
    """Trajectories by label and outcome; arrays over S."""

    lacking_failed: Floats
    lacking_succeeded: Floats
    present_failed: Floats
    present_succeeded: Floats

    @property
    def delta(self) -> Floats:
        """Δ (§3.3); -1 where it is not estimable."""
        failed, succeeded = self.lacking_failed + self.present_failed, self.lacking_succeeded + self.present_succeeded
        rates = self.lacking_failed / np.maximum(failed, 1) - self.lacking_succeeded / np.maximum(succeeded, 1)
        return np.where((failed > 0) & (succeeded > 0), rates, -1.0)


@dataclass(frozen=True)
class Outcomes:
    """What labels are contrasted with."""

    failed_T: NDArray[np.bool_]
    tasks_T: NDArray[np.int64]
    """Task index of each trajectory, 0..K-1."""

    @cached_property
    def _order(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Trajectories in order of their task, and where each task begins."""
        order = np.argsort(self.tasks_T, kind="stable")
        return order, np.searchsorted(self.tasks_T[order], np.arange(self.tasks))

    @property
    def tasks(self) -> int:
        """K."""
        return int(self.tasks_T.max()) + 1 if len(self.tasks_T) else 0

    def by_task(self, marks_ST: NDArray[np.bool_]) -> Floats:
        """Marked trajectories of each task (S × K)."""
        order, starts = self._order
        if not self.tasks or not len(marks_ST):
            return np.zeros((len(marks_ST), self.tasks))
        return np.add.reduceat(marks_ST[:, order], starts, axis=1, dtype=np.int32).astype(np.float64)

    def subset(self, keep_T: NDArray[np.bool_]) -> Outcomes:
        """The outcomes of some trajectories, tasks numbered anew."""
        _, tasks = np.unique(self.tasks_T[keep_T], return_inverse=True)
        return Outcomes(self.failed_T[keep_T], tasks.astype(np.int64))


def count(labels_ST: Labels, outcomes: Outcomes) -> Counts:
    """Counts of every statement."""
    failed = outcomes.failed_T.astype(np.float32)
    lacking, present = (labels_ST == LACKING).astype(np.float32), (labels_ST == PRESENT).astype(np.float32)
    return Counts(
        lacking_failed=(lacking @ failed).astype(np.float64),
        lacking_succeeded=(lacking @ (1 - failed)).astype(np.float64),
        present_failed=(present @ failed).astype(np.float64),
        present_succeeded=(present @ (1 - failed)).astype(np.float64),
    )


def prior_weights(written: NDArray[np.bool_]) -> Floats:
    """Weights of mean 1 that leave half of the false discoveries to the hypotheses that are written down.

    The agent's instructions say which rules matter before any outcome is known; the many that are mined from the data
    share the other half.
    """
    named = int(written.sum())
    if not 0 < named < len(written) / 2:
        return np.ones(len(written))
    return np.where(written, len(written) / (2 * named), len(written) / (2 * (len(written) - named)))


def explained(counts: Counts) -> Floats:
    """Log-likelihood gain (nats) of telling LACKING from PRESENT when predicting failure among the applicable.

    A lacking capability may succeed in at most `SLACK` of its trajectories (Definition 1 says never), so that a
    statement which successes often lack gains little however different its rates are. Nor does it gain anything
    where more than `UNNECESSARY` of the applicable successes lack it, few successes given the benefit of the doubt:
    success does without it. Never negative.
    """
    lf, ls, ps = counts.lacking_failed, counts.lacking_succeeded, counts.present_succeeded
    rate = np.clip((ls + 0.25) / (lf + ls + 0.5), 1e-3, SLACK)
    lacking = lf * np.log(1 - rate) + ls * np.log(rate)
    gain = likelihood_ratio(counts) - _loglik(lf, ls) + lacking
    necessary = at_least(ls, ls + ps) <= UNNECESSARY
    return np.where((counts.delta > 0) & necessary, np.maximum(gain, 0.0), 0.0)


def at_least(marked: Floats, total: Floats) -> Floats:
    """Lower bound of a share (Wilson's, one-sided 5 %); 0 of nothing."""
    n, z = np.maximum(total, 1), _LEAST_Z
    share = marked / n
    margin = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return np.maximum((share + z * z / (2 * n) - margin) / (1 + z * z / n), 0.0)


def likelihood_ratio(counts: Counts) -> Floats:
    """Log-likelihood gain (nats) of two failure rates, LACKING's and PRESENT's, over one for both."""
    lf, ls, pf, ps = counts.lacking_failed, counts.lacking_succeeded, counts.present_failed, counts.present_succeeded
    return _loglik(lf, ls) + _loglik(pf, ps) - _loglik(lf + pf, ls + ps)


def _loglik(failed: Floats, succeeded: Floats) -> Floats:
    total = np.maximum(failed + succeeded, 1)
    parts = [n * np.log(np.where(n > 0, n / total, 1.0)) for n in (failed, succeeded)]
    return parts[0] + parts[1]


@dataclass(frozen=True)
class Within:
    """The contrast between trials of one task, over all tasks (Cochran–Mantel–Haenszel); arrays over S."""

    z: Floats
    """0 where no task tells anything."""
    contested: Floats
    """Share of the failures that lack it which lie in tasks where another trial exercises it."""
    tasks: NDArray[np.int64]
    """Tasks where both label and outcome vary."""


def replicated(outcomes: Outcomes) -> bool:
    """Whether most tasks have three trials or more, so that trials of one task can be contrasted."""
    return bool(np.median(np.bincount(outcomes.tasks_T)) >= 3) if len(outcomes.tasks_T) else False


def shown_within(labels_ST: Labels, outcomes: Outcomes, abstains_S: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Statements whose gap is not the work of task difficulty: trials of one task show it, in two tasks or more.

    A fair share of the failures must also lie in tasks where the capability was within reach of another trial: what
    a few tasks show is not laid on many that always fail. Without several trials a task nothing can be said, and
    all pass.
    """
    if not replicated(outcomes):
        return np.ones(len(labels_ST), dtype=bool)
    within = within_tasks(labels_ST, outcomes, abstains_S)
    return (within.tasks >= 2) & (within.z >= _LEAST_Z) & (within.contested >= _LEAST_CONTESTED)


def within_tasks(labels_ST: Labels, outcomes: Outcomes, abstains_S: NDArray[np.bool_]) -> Within:
    """Contrast every statement within tasks.

    Args:
        abstains_S: statements about what is not to be done: a trial to which they do not apply has not done it either,
            and is contrasted with the task's other trials.
    """
    applicable, lacking = (labels_ST != NA) | abstains_S[:, None], labels_ST == LACKING
    n, x_lacking = outcomes.by_task(applicable), outcomes.by_task(lacking)
    x_failed, both = outcomes.by_task(applicable & outcomes.failed_T), outcomes.by_task(lacking & outcomes.failed_T)
    weight = x_lacking * (n - x_lacking) / np.maximum(n, 1)
    variance = weight * x_failed * (n - x_failed) / np.maximum(n * (n - 1), 1)
    root = np.sqrt(np.maximum(variance.sum(axis=1), 1e-12))
    informed = variance.sum(axis=1) > 0
    reachable = np.where(x_lacking < n, both, 0.0).sum(axis=1)
    return Within(
        z=np.where(informed, (both - x_lacking * x_failed / np.maximum(n, 1)).sum(axis=1) / root, 0.0),
        contested=reachable / np.maximum(both.sum(axis=1), 1),
        tasks=(variance > 0).sum(axis=1),
    )


def permuted(outcomes: Outcomes, rng: np.random.Generator) -> Outcomes:
    """Outcomes that know nothing of the labels: tasks swap their outcomes, trials of a task swap theirs.

    How outcomes cluster by task is kept. Between tasks of different size they are drawn anew from the donor's.
    """
    members = [np.nonzero(outcomes.tasks_T == task)[0] for task in range(outcomes.tasks)]
    donors = rng.permutation(len(members))
    failed = np.empty_like(outcomes.failed_T)
    for receiver, donor in zip(members, donors, strict=True):
        theirs = outcomes.failed_T[members[donor]]
        failed[receiver] = rng.choice(theirs, size=len(receiver), replace=len(theirs) != len(receiver))
    return Outcomes(failed, outcomes.tasks_T)


def permutation_p(observed_S: Floats, null_BS: Floats) -> Floats:
    """One-sided p values of gains against those of all statements under B permutations, pooled."""
    pool = np.sort(null_BS.ravel())
    above = len(pool) - np.searchsorted(pool, observed_S - 1e-9, side="left")
    return (1 + above) / (1 + len(pool))


def discoveries(p: Floats, rate: float, weights: Floats) -> NDArray[np.bool_]:
    """Weighted Benjamini–Hochberg: which hypotheses to reject so that at most `rate` of the rejections are false.

    Args:
        p: one for each hypothesis.
        rate: expected share of false rejections.
        weights: what was thought of each hypothesis before the outcomes were seen, of mean 1 (Genovese, Roeder and
            Wasserman, False discovery control with p-value weighting, Biometrika 2006).
    """
    found = np.zeros(len(p), dtype=bool)
    weighted = p / weights
    order = np.argsort(weighted, kind="stable")
    passing = np.nonzero(weighted[order] <= rate * np.arange(1, len(p) + 1) / max(len(p), 1))[0]
    if len(passing):
        found[order[: passing[-1] + 1]] = True
    return found
