"""Contrast statistics: error rates, contrastive gap, coverage, and selection over independent runs (paper §3.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, sqrt

from pydantic import Field, model_validator

from trace_agents.errors import UsageError
from trace_agents.types import Label, Record


class Contrast(Record):
    """What one labelling run says about one capability c."""

    er_failed: float | None
    """ER-(c): share LACKING among the failed trajectories that are not NA; None where there is none."""
    er_succeeded: float | None
    """ER+(c): the same share among the successful trajectories; None where there is none."""
    delta: float | None
    """Δ(c) = ER- − ER+; None (not estimable) where either rate is."""
    coverage: float | None
    """Cov(c): failed trajectories labelled LACKING over all failed ones; None without a failed trajectory."""
    lacking_failed: int
    """Failed trajectories labelled LACKING."""
    lacking_succeeded: int
    applicable_failed: int
    """Failed trajectories not labelled NA."""
    applicable_succeeded: int
    failed: int
    """Failed trajectories in the run."""


def contrast(labels: Sequence[Label], succeeded: Sequence[bool]) -> Contrast:
    """The contrast of one capability in one run; `labels[i]` is the label of the trajectory with `succeeded[i]`.

    An empty denominator makes a rate not estimable (None), never 0.
    """
    if len(labels) != len(succeeded):
        raise ValueError(f"{len(labels)} labels for {len(succeeded)} trajectories")
    counts = {(label, good): 0 for label in Label for good in (False, True)}
    for label, good in zip(labels, succeeded, strict=True):
        counts[label, bool(good)] += 1
    failed = sum(counts[label, False] for label in Label)
    lacking = (counts[Label.LACKING, False], counts[Label.LACKING, True])
    present = (counts[Label.PRESENT, False], counts[Label.PRESENT, True])
    return contrast_of_counts(lacking, present, failed)


def contrast_of_counts(lacking: tuple[int, int], present: tuple[int, int], failed: int) -> Contrast:
    """The contrast from counts of labels, each on the `failed` trajectories and on the successful ones."""
    applicable = (lacking[0] + present[0], lacking[1] + present[1])
    er_failed, er_succeeded = _ratio(lacking[0], applicable[0]), _ratio(lacking[1], applicable[1])
    return Contrast(
        er_failed=er_failed,
        er_succeeded=er_succeeded,
        delta=None if er_failed is None or er_succeeded is None else er_failed - er_succeeded,
        coverage=_ratio(lacking[0], failed),
        lacking_failed=lacking[0],
        lacking_succeeded=lacking[1],
        applicable_failed=applicable[0],
        applicable_succeeded=applicable[1],
        failed=failed,
    )


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


class Thresholds(Record):
    """When a capability is kept (§3.3)."""

    delta: float = Field(default=0.20, ge=-1, le=1)
    """δ: the least contrastive gap."""
    rho: float = Field(default=0.10, ge=0, le=1)
    """ρ: the least share of failed trajectories."""
    runs: int = Field(default=10, ge=1)
    """N: independent labelling runs."""
    keep_in: int = Field(default=8, ge=1)
    """K: runs of the N that must pass both thresholds."""
    support: int = Field(default=3, ge=1)
    """Least support: a run with fewer applicable failures, applicable successes, or failures that lack the capability
    does not pass, whatever its figures are."""

    @model_validator(mode="after")
    def _k_of_n(self) -> Thresholds:
        if self.keep_in > self.runs:
            raise ValueError(f"keep_in {self.keep_in!r} is more than runs {self.runs!r}: ask for at most {self.runs}")
        return self

    @classmethod
    def for_runs(cls, runs: int) -> Thresholds:
        """The paper's thresholds with `runs` runs and its 8 of 10, rounded up.

        Raises:
            UsageError: fewer than one run.
        """
        if runs < 1:
            raise UsageError(f"runs {runs!r} is too few: give 1 or more")
        return cls(runs=runs, keep_in=ceil(0.8 * runs))

    def passed(self, one: Contrast) -> bool:
        """One run's verdict; what is not estimable, or rests on too few trajectories, does not pass."""
        if one.delta is None or one.coverage is None or not self.supported(one):
            return False
        return one.delta >= self.delta - 1e-12 and one.coverage >= self.rho - 1e-12

    def supported(self, one: Contrast) -> bool:
        """The run's figures rest on enough trajectories of each kind."""
        return min(one.applicable_failed, one.applicable_succeeded, one.lacking_failed) >= self.support


class Spread(Record):
    """Mean and spread of a figure over the runs where it is estimable."""

    mean: float | None
    """None where no run estimates it."""
    deviation: float | None
    """Sample standard deviation; None with fewer than two estimates."""
    low: float | None
    high: float | None
    estimated: int
    """Runs that estimate the figure."""


def spread(values: Sequence[float | None]) -> Spread:
    """Mean, sample deviation and range of the values that are not None."""
    known = [value for value in values if value is not None]
    if not known:
        return Spread(mean=None, deviation=None, low=None, high=None, estimated=0)
    mean = sum(known) / len(known)
    deviation = sqrt(sum((v - mean) ** 2 for v in known) / (len(known) - 1)) if len(known) > 1 else None
    return Spread(mean=mean, deviation=deviation, low=min(known), high=max(known), estimated=len(known))


class Selection(Record):
    """The verdict on one capability over all runs."""

    name: str
    """The capability's slug."""
    kept: bool
    reason: str
    """Why it was kept or not, in words with the figures."""
    passes: int
    """Runs that passed both thresholds, with enough support."""
    runs: int
    frequency: float
    """Share of the runs that selected the capability (Figure 2a)."""
    er_failed: Spread
    er_succeeded: Spread
    delta: Spread
    coverage: Spread


def select(runs: Sequence[Mapping[str, Contrast]], thresholds: Thresholds) -> list[Selection]:
    """Aggregate the runs and select, kept capabilities first, each part by falling mean coverage.

    Args:
        runs: per run, the contrast of each capability by name; all runs hold the same names.
        thresholds: `thresholds.runs` must equal the number of runs.

    Raises:
        UsageError: no runs, another number of runs than the thresholds count on, or runs over different dictionaries.
    """
    if len(runs) != thresholds.runs:
        raise UsageError(f"{len(runs)} labelling runs where the thresholds count on {thresholds.runs}: label as many")
    names = list(runs[0])
    if any(set(run) != set(names) for run in runs):
        raise UsageError("the labelling runs use different capability dictionaries: label all with one dictionary")
    found = [_select_one(name, [run[name] for run in runs], thresholds) for name in names]
    return sorted(found, key=lambda one: (not one.kept, -(one.coverage.mean or 0.0), one.name))


def _select_one(name: str, runs: Sequence[Contrast], thresholds: Thresholds) -> Selection:
    passes = sum(thresholds.passed(run) for run in runs)
    delta = spread([run.delta for run in runs])
    coverage = spread([run.coverage for run in runs])
    return Selection(
        name=name,
        kept=passes >= thresholds.keep_in,
        reason="; ".join((_tally(passes, thresholds), *_causes(runs, passes, thresholds))),
        passes=passes,
        runs=len(runs),
        frequency=passes / len(runs),
        er_failed=spread([run.er_failed for run in runs]),
        er_succeeded=spread([run.er_succeeded for run in runs]),
        delta=delta,
        coverage=coverage,
    )


def _tally(passes: int, thresholds: Thresholds) -> str:
    return f"passed in {passes} of {thresholds.runs} runs, {thresholds.keep_in} needed"


def _causes(runs: Sequence[Contrast], passes: int, thresholds: Thresholds) -> list[str]:
    """Why a capability was not kept, in words; empty for one that was."""
    if passes >= thresholds.keep_in:
        return []
    delta, coverage = spread([run.delta for run in runs]).mean, spread([run.coverage for run in runs]).mean
    if delta is None:
        return ["Δ is not estimable: no applicable success or no applicable failure"]
    figures = []
    if delta < thresholds.delta:
        figures.append(f"mean Δ {_below(delta, thresholds.delta)}")
    if coverage is not None and coverage < thresholds.rho:
        figures.append(f"mean coverage {_below(coverage, thresholds.rho)}")
    causes = [" and ".join(figures)] if figures else []
    if short := _short_support(runs, thresholds):
        causes.append(f"too little support: {' and '.join(short)}, {thresholds.support} needed in a run")
    return causes or ["its figures vary too much between runs"]


def _short_support(runs: Sequence[Contrast], thresholds: Thresholds) -> list[str]:
    """Kinds of trajectories of which the runs have too few on average."""
    kinds = {
        "applicable failures": [run.applicable_failed for run in runs],
        "applicable successes": [run.applicable_succeeded for run in runs],
        "failures that lack it": [run.lacking_failed for run in runs],
    }
    means = {kind: sum(counts) / len(counts) for kind, counts in kinds.items()}
    return [f"{mean:.3g} {kind}" for kind, mean in means.items() if mean < thresholds.support]


def _below(value: float, bar: float) -> str:
    """`0.05 is below 0.10`, with as many digits as it takes to see it."""
    digits = next((count for count in range(2, 6) if f"{value:.{count}f}" != f"{bar:.{count}f}"), 6)
    return f"{value:.{digits}f} is below {bar:.{digits}f}"
