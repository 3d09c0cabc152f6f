"""Figures in words, for the page."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trace_agents.scores import Mean
from trace_agents.statistics import Difference, Estimate, Interval

if TYPE_CHECKING:
    from trace_agents.analysis.results import Candidate, CapabilitiesArtifact

Rate = Estimate | Mean
"""A share with its interval."""

KINDS = {
    "base": "frozen base agent",
    "router": "one adapter a task, chosen by a router",
    "composition": "several adapters at once",
    "oracle": "one adapter a task, chosen with the planted truth",
    "adapter": "one adapter on every task",
    "baseline": "trained on the target's train tasks directly",
}


def percent(value: float, digits: int = 1) -> str:
    """`47.0 %`, with a narrow space."""
    return f"{100 * value:.{digits}f} %"


def interval(rate: Rate) -> str:
    """`39.5 – 54.6`, in per cent."""
    return f"{100 * rate.low:.1f} – {100 * rate.high:.1f}"


def points(difference: Difference) -> str:
    """`+14.1`, in percentage points."""
    return f"{100 * difference.value:+.1f}"


def points_interval(difference: Difference) -> str:
    """`+8.0 to +20.3`."""
    return f"{100 * difference.low:+.1f} to {100 * difference.high:+.1f}"


def figure(value: float | None) -> str:
    """`0.43`; a dash where it is not estimable."""
    return "–" if value is None else signed(value)


def signed(value: float) -> str:
    """`0.43`, `−0.12`: with a minus sign as wide as a digit, and no sign on what rounds to zero."""
    return f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")


def between(interval: Interval) -> str:
    """`0.31 to 0.55`."""
    return f"{signed(interval.low)} to {signed(interval.high)}"


def doubt(candidate: Candidate, summary: CapabilitiesArtifact) -> str:
    """Why it is unsure that a kept capability reaches what it must; empty where its intervals do not tell."""
    if not candidate.selection.kept:
        return ""
    if summary.tasks < 2:
        return "unsure: one task gives no interval"
    needed = summary.thresholds
    figures = (("Δ", candidate.delta_interval, needed.delta), ("coverage", candidate.coverage_interval, needed.rho))
    low = [
        f"{name} may be {signed(one.low)}, {least:.2f} is needed"
        for name, one, least in figures
        if one and one.low < least
    ]
    return f"unsure: {'; '.join(low)}" if low else ""


def p_value(p: float) -> str:
    """Two significant digits; a bound where it is tiny."""
    return "< 10⁻⁶" if p < 1e-6 else f"{p:.1e}" if p < 0.001 else f"{p:.3f}"


def duration(seconds: float) -> str:
    """`3.4 s`, `2 min 05 s`, `1 h 02 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    return (
        f"{whole // 60} min {whole % 60:02d} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    )


def memory(size: int) -> str:
    """Bytes in GiB."""
    return f"{size / 2**30:.2f} GiB"


def count(number: int) -> str:
    """With thousands separated."""
    return f"{number:,}"


def facts(noted: Mapping[str, Any]) -> str:
    """What a stage noted, counts by name summed up."""
    said = []
    for key, value in noted.items():
        if isinstance(value, Mapping) and value and all(isinstance(one, int) for one in value.values()):
            value = sum(value.values())
        if isinstance(value, str | int | float):
            said.append(f"{key} {count(value) if isinstance(value, int) else value}")
    return ", ".join(said)


def date(seconds: float) -> str:
    """UTC, to the minute."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
