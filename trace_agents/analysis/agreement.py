"""Where two analyses of the same trajectories agree: capabilities matched by their labels."""

from __future__ import annotations

from collections.abc import Mapping

from trace_agents.analysis.results import Analysis, Candidate
from trace_agents.types import Label, Record

MODERATE = 0.4
"""Cohen's κ from which on two capabilities count as agreeing: the lower end of what is called moderate."""


class Agreement(Record):
    """What a second analysis says of one capability: its capability whose labels are most alike."""

    capability: str
    """Name in the first analysis."""
    other: str | None
    """Name in the second analysis; None where that has no capability."""
    other_title: str = ""
    kappa: float | None = None
    """Cohen's κ of LACKING against not LACKING over the trajectories that both labelled; None where chance decides."""
    overlap: float | None = None
    """Failed trajectories LACKING in both over those LACKING in either; None where there is none."""
    agrees: bool = False
    """κ is 0.4 or more."""


def agreement(first: Analysis, second: Analysis, failed: set[str]) -> tuple[Agreement, ...]:
    """For each capability of `first`, the one of `second` that is most alike.

    Args:
        first: the analysis whose capabilities are looked at.
        second: the other mind's.
        failed: ids of the failed trajectories.
    """
    verdicts, others = first.verdicts(), second.verdicts()
    found = []
    for candidate in first.summary.capabilities:
        labels = verdicts[candidate.capability.name]
        pairs = [_compare(candidate, labels, other, others[other.capability.name], failed) for other in _all(second)]
        nobody = Agreement(capability=candidate.capability.name, other=None)
        found.append(max(pairs, key=_likeness, default=nobody))
    return tuple(found)


def alone(first: Analysis, second: Analysis, failed: set[str]) -> tuple[str, ...]:
    """Titles of what `second` keeps and no capability of `first` agrees with, by falling coverage."""
    matched = {one.capability for one in agreement(second, first, failed) if one.agrees}
    kept = [one.capability for one in second.kept if one.capability.name not in matched]
    return tuple(one.title or one.name for one in kept)


def _likeness(one: Agreement) -> tuple[float, float]:
    return (-1.0 if one.kappa is None else one.kappa, one.overlap or 0.0)


def _all(analysis: Analysis) -> tuple[Candidate, ...]:
    return analysis.summary.capabilities


def _compare(
    one: Candidate, labels: Mapping[str, Label], other: Candidate, theirs: Mapping[str, Label], failed: set[str]
) -> Agreement:
    shared = [identity for identity in labels if identity in theirs]
    mine = {identity for identity in shared if labels[identity] is Label.LACKING}
    yours = {identity for identity in shared if theirs[identity] is Label.LACKING}
    kappa = cohen(len(mine & yours), len(mine), len(yours), len(shared))
    either = (mine | yours) & failed
    return Agreement(
        capability=one.capability.name,
        other=other.capability.name,
        other_title=other.capability.title,
        kappa=kappa,
        overlap=len(mine & yours & failed) / len(either) if either else None,
        agrees=kappa is not None and kappa >= MODERATE,
    )


def cohen(both: int, first: int, second: int, total: int) -> float | None:
    """Cohen's κ of two yes-or-no judgements: `both` say yes, `first` and `second` each do, of `total`."""
    if not total:
        return None
    observed = (total - first - second + 2 * both) / total
    expected = (first * second + (total - first) * (total - second)) / total**2
    return (observed - expected) / (1 - expected) if expected < 1 else None


def with_agreement(analysis: Analysis, found: tuple[Agreement, ...], second: Analysis | None = None) -> Analysis:
    """The analysis with how far the second one agrees with each of its capabilities: κ, no less than 0.

    A capability of a reader is words only. Where one of `second` has its labels, it gets the checkable statement of it:
    what a family's behaviour is compared by.
    """
    matched = {one.capability: one for one in found}
    known = {} if second is None else {one.capability.name: one.capability.statement for one in _all(second)}
    capabilities = []
    for candidate in analysis.summary.capabilities:
        one = matched.get(candidate.capability.name)
        kappa = None if one is None else max(one.kappa or 0.0, 0.0)
        statement = candidate.capability.statement
        if statement is None and one is not None and one.agrees and one.other is not None:
            statement = known.get(one.other)
        capability = candidate.capability.model_copy(update={"statement": statement})
        capabilities.append(candidate.model_copy(update={"agreement": kappa, "capability": capability}))
    summary = analysis.summary.model_copy(update={"capabilities": tuple(capabilities)})
    return analysis.model_copy(update={"summary": summary})
