"""Group-relative advantages (eq. 1 of Appendix A)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_SAME = 1e-9
"""Rewards that differ by less are identical: rewards lie in [0, 1], and sums of parts round differently."""


def group_advantages(rewards: Sequence[float], eps: float = 1e-6) -> list[float] | None:
    """Â_k = (r_k - mean) / (std + eps) within one group, with the population's standard deviation.

    None where all rewards are identical, or there is only one: such a group carries no signal and is discarded.
    """
    values = np.asarray(rewards, dtype=np.float64)
    if len(values) < 2 or np.ptp(values) < _SAME:
        return None
    return ((values - values.mean()) / (values.std() + eps)).tolist()
