"""Labelling guards all at once: what a call may not be made against, for every set of facts that was proposed.

Guards are most of what discovery tests, and those of one tool and one source look at the same calls, so each fact is
read once for each call instead of once for each guard. Axes: G guards, F facts, N occasions of a trajectory.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trace_agents.analysis.acts import Occasion, Refrain
from trace_agents.analysis.grammar import NOT_APPLICABLE, Fact, Finding, verdict
from trace_agents.analysis.views import View


def guards_together(statements: Sequence[Refrain]) -> list[list[int]]:
    """Indices of guards that look at the same calls: of one tool, by facts of one other tool, without conditions."""
    groups: dict[tuple[str, str, tuple[str, ...]], list[int]] = {}
    for index, guard in enumerate(statements):
        groups.setdefault((guard.tool, guard.facts[0].tool, guard.asked), []).append(index)
    return list(groups.values())


def judge_guards(guards: Sequence[Refrain], views: Sequence[View]) -> list[list[Finding]]:
    """For each view, what `Refrain.judge` says of each guard; the guards are of one group (`guards_together`)."""
    facts = list(dict.fromkeys(fact for guard in guards for fact in guard.facts))
    column = {fact: index for index, fact in enumerate(facts)}
    needs_GF = np.zeros((len(guards), len(facts)), dtype=np.float32)
    for row, guard in enumerate(guards):
        needs_GF[row, [column[fact] for fact in guard.facts]] = 1
    return [_judge(guards[0], facts, needs_GF, view) for view in views]


def _judge(guard: Refrain, facts: Sequence[Fact], needs_GF: NDArray[np.float32], view: View) -> list[Finding]:
    forbidden, seen = guard.occasions(view)
    found = [NOT_APPLICABLE] * len(needs_GF)
    for occasions, present in ((seen, True), (forbidden, False)):
        if not occasions:
            continue
        first_G = _first(occasions, facts, needs_GF)
        for index in np.nonzero(first_G >= 0)[0].tolist():
            found[index] = verdict(present, occasions[first_G[index]][0])
    return found


def _first(occasions: Sequence[Occasion], facts: Sequence[Fact], needs_GF: NDArray[np.float32]) -> NDArray[np.int64]:
    """Index of the first occasion on which all facts of a guard hold; -1 for none."""
    holds_NF = np.array([[fact.holds(source, about) for fact in facts] for _, source, about in occasions], np.float32)
    met_GN = needs_GF @ holds_NF.T >= needs_GF.sum(axis=1, keepdims=True)
    return np.where(met_GN.any(axis=1), met_GN.argmax(axis=1), -1)
