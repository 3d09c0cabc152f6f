"""Evidence with every task's own difficulty allowed for: what LACKING tells beyond the task that it occurs in.

Trials of one task succeed or fail together. A task's failure rate is taken to be drawn from a beta distribution, fitted
to all tasks, so that a task which fails in every trial lends a statement little evidence however many of its trials
lack it, and a task whose successes lack it too counts against it once. Axes: S statements, K tasks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trace_agents.analysis.significance import (
    LACKING,
    NA,
    SLACK,
    Floats,
    Labels,
    Outcomes,
    count,
    explained,
    replicated,
)

_SPARED = 0.05
"""Share of the trials that lack a capability which succeed nevertheless, where it decides the task."""
_SPREADS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 64.0)
"""Sums of the beta distribution's two parameters that are tried: the smaller, the more alike a task's trials."""


def evidence(labels_ST: Labels, outcomes: Outcomes, abstains_S: NDArray[np.bool_]) -> Floats:
    """Log-likelihood gain (nats) of each statement, where it explains anything (`explained`).

    Args:
        abstains_S: statements about what is not to be done: a trial to which they do not apply has not done it either,
            and is contrasted with the task's other trials.

    In data without several trials a task it is `explained` itself.
    """
    plain = explained(count(labels_ST, outcomes))
    if not replicated(outcomes):
        return plain
    return np.where(plain > 0, beyond_difficulty(labels_ST, outcomes, abstains_S), 0.0)


def beyond_difficulty(labels_ST: Labels, outcomes: Outcomes, abstains_S: NDArray[np.bool_]) -> Floats:
    """The gain of LACKING trials failing because they lack it, over all trials of a task failing at its own rate.

    A statement may be beside the point in a share `SLACK` of the tasks where it is lacking, which bounds what any one
    task can say against it.
    """
    lacking, counted = labels_ST == LACKING, (labels_ST != NA) | abstains_S[:, None]
    lacking_failed, lacking_good = (
        outcomes.by_task(lacking & outcomes.failed_T),
        outcomes.by_task(lacking & ~outcomes.failed_T),
    )
    failed, good = outcomes.by_task(counted & outcomes.failed_T), outcomes.by_task(counted & ~outcomes.failed_T)
    tables = _tables(outcomes)
    alike = _marginal(failed, good, tables)
    decided = lacking_failed * np.log(1 - _SPARED) + lacking_good * np.log(_SPARED)
    decided += _marginal(failed - lacking_failed, good - lacking_good, tables)
    gain = np.logaddexp(np.log(1 - SLACK) + decided - alike, np.log(SLACK))
    return np.maximum(np.where(lacking_failed + lacking_good > 0, gain, 0.0).sum(axis=1), 0.0)


_Tables = tuple[Floats, Floats, Floats]
"""log Γ(p + n) / Γ(p) by n, for both parameters p of a beta distribution and for their sum."""


def _tables(outcomes: Outcomes) -> _Tables:
    """Of the beta distribution that fits the tasks' failure rates best."""
    failed, sizes = outcomes.by_task(outcomes.failed_T[None])[0], np.bincount(outcomes.tasks_T)
    rate = float(np.clip(failed.sum() / max(sizes.sum(), 1), 0.01, 0.99))
    most = int(sizes.max(initial=0))
    fits: list[_Tables] = [
        (_rising(rate * spread, most), _rising((1 - rate) * spread, most), _rising(spread, most)) for spread in _SPREADS
    ]
    return max(fits, key=lambda tables: float(_marginal(failed, sizes - failed, tables).sum()))


def _rising(parameter: float, most: int) -> Floats:
    return np.concatenate([[0.0], np.cumsum(np.log(parameter + np.arange(most)))])


def _marginal(failed: Floats, good: Floats, tables: _Tables) -> Floats:
    """Log-likelihood of so many failures and successes of a task whose rate is not known."""
    f, g = failed.astype(np.int64), good.astype(np.int64)
    return tables[0][f] + tables[1][g] - tables[2][f + g]
