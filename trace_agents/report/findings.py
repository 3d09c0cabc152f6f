"""Capabilities and labels for the page, read leniently: a page must not fail on a field that an analyst adds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trace_agents.errors import UsageError
from trace_agents.files import read_lines


@dataclass(frozen=True)
class Figure:
    """A statistic over labelling runs."""

    mean: float | None = None
    """None where no run could estimate it."""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Pointer:
    """A trajectory that shows a capability lacking."""

    trajectory: str
    excerpt: str = ""
    """What it says at the deciding step."""
    contrast: str = ""
    """A trajectory that exercises the capability on the same task; empty where there is none."""


@dataclass(frozen=True)
class Finding:
    """A capability of the dictionary, with what the analysis found about it."""

    name: str
    title: str
    description: str
    kept: bool
    reason: str = ""
    delta: Figure = Figure()
    coverage: Figure = Figure()
    er_failed: Figure = Figure()
    er_succeeded: Figure = Figure()
    passes: int | None = None
    """Labelling runs in which it passed both bars."""
    runs: int | None = None
    evidence: tuple[Pointer, ...] = ()
    merged: tuple[str, ...] = ()
    """Titles of the candidates that it stands for."""


@dataclass(frozen=True)
class Labels:
    """Majority labels: trajectory -> capability -> what the browser shows."""

    by_trajectory: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    runs: int = 0
    """Labelling runs seen."""


def read_findings(path: Path) -> tuple[Finding, ...]:
    """The capabilities in `capabilities.json`, in its order; empty where there is no such file.

    Raises:
        UsageError: not JSON, or it holds no list of capabilities.
    """
    if not path.exists():
        return ()
    try:
        data = json.loads(path.read_bytes())
    except ValueError as error:
        raise UsageError(f"{str(path)!r} is not JSON ({error}): run the analysis again") from error
    entries = data.get("capabilities") if isinstance(data, dict) else data
    if not isinstance(entries, list):
        raise UsageError(f"{str(path)!r} holds no list 'capabilities': run the analysis again")
    return tuple(_finding(_flat(entry)) for entry in entries)


def _flat(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry with its nested parts (`capability`, `selection`, `contrast`) lifted to one level."""
    nested = ("selection", "contrast", "capability", "statistics")
    parts = [entry[key] for key in nested if isinstance(entry.get(key), Mapping)]
    out: dict[str, Any] = {}
    for part in (*parts, entry):
        out |= part
    return out


def _finding(entry: Mapping[str, Any]) -> Finding:
    name = str(entry.get("name") or entry.get("slug") or "")
    return Finding(
        name=name,
        title=str(entry.get("title") or name.replace("-", " ")),
        description=str(entry.get("description") or ""),
        kept=bool(entry.get("kept", entry.get("selected", True))),
        reason=str(entry.get("reason") or ""),
        delta=_figure(entry.get("delta")),
        coverage=_figure(entry.get("coverage")),
        er_failed=_figure(entry.get("er_failed")),
        er_succeeded=_figure(entry.get("er_succeeded")),
        passes=entry.get("passes"),
        runs=entry.get("runs") if isinstance(entry.get("runs"), int) else None,
        evidence=tuple({one.trajectory: one for one in _pointers(entry.get("evidence") or ())}.values()),
        merged=tuple(str(title) for title in entry.get("merged") or ()),
    )


def _figure(value: Any) -> Figure:
    if isinstance(value, Mapping):
        return Figure(value.get("mean", value.get("value")), value.get("low"), value.get("high"))
    return Figure(float(value)) if isinstance(value, int | float) else Figure()


def _pointers(evidence: Any) -> list[Pointer]:
    """Evidence given as trajectory ids, as records, or as lists of either by kind."""
    if isinstance(evidence, str):
        return [Pointer(evidence)]
    if isinstance(evidence, list | tuple):
        return [one for part in evidence for one in _pointers(part)]
    if not isinstance(evidence, Mapping):
        return []
    key = next((key for key in ("trajectory_id", "trajectory", "id") if isinstance(evidence.get(key), str)), None)
    if key is None:
        return [one for part in evidence.values() for one in _pointers(part)]
    return [Pointer(evidence[key], str(evidence.get("excerpt") or ""), str(evidence.get("contrast_id") or ""))]


def read_labels(path: Path) -> Labels:
    """The majority label of each trajectory and capability over the runs; empty where there is no such file.

    The deciding step and the reason are those of the first run that gave the majority label.
    """
    if not path.exists():
        return Labels()
    votes: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    runs = set()
    for _, row in read_lines(path):
        runs.add(row.get("run", 0))
        for one in _spread(row):
            votes.setdefault((str(_trajectory(row)), str(one.get("capability", ""))), []).append(one)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for (trajectory, capability), rows in votes.items():
        majority, count = Counter(str(row["label"]).upper() for row in rows).most_common(1)[0]
        first = next(row for row in rows if str(row["label"]).upper() == majority)
        found.setdefault(trajectory, {})[capability] = {
            "label": majority,
            "share": round(count / len(rows), 3),
            "step": _step(first),
            "why": str(first.get("reason") or first.get("rationale") or first.get("why") or ""),
        }
    return Labels(found, len(runs))


def _spread(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A row that labels one capability, or a row with a mapping of `labels`, as rows of one capability each."""
    labels = row.get("labels")
    if not isinstance(labels, Mapping):
        return [row] if "label" in row else []
    return [
        {"capability": name, **(one if isinstance(one, Mapping) else {"label": one})} for name, one in labels.items()
    ]


def _trajectory(row: Mapping[str, Any]) -> Any:
    return row.get("trajectory_id") or row.get("trajectory") or row.get("id") or ""


def _step(row: Mapping[str, Any]) -> int | None:
    for key in ("step", "at", "message", "deciding_step", "steps"):
        value = row.get(key)
        if isinstance(value, list) and value:
            value = value[0]
        if isinstance(value, int):
            return value
    return None
