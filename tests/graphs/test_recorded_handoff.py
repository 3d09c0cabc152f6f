"""The recorded hand-off of three readers: whole, and its table follows from its labels."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from trace_agents.analysis.analyst import Discovered, RunLabels
from trace_agents.analysis.results import LabelRow, conclude
from trace_agents.contrast import Thresholds
from trace_agents.importers import load_trajectories
from trace_agents.types import Capability

ROOT = Path(__file__).parents[2]
RECORD = ROOT / "docs" / "examples" / "handoff-airline"
REAL = ROOT.parent / "shared" / "data" / "tau-bench" / "gpt-4o-airline.json"


def dictionary() -> list[Discovered]:
    """The merged dictionary, as the reader gave it."""
    (merged,) = (RECORD / "answers").glob("merge-*.json")
    entries = json.loads(merged.read_text())["capabilities"]
    return [
        Discovered(capability=Capability(name=name, title=entry["title"], description=entry["description"]))
        for name, entry in entries.items()
    ]


def runs() -> list[RunLabels]:
    """The label rows as runs."""
    rows = [LabelRow.model_validate_json(line) for line in (RECORD / "labels.jsonl").read_text().splitlines()]
    found = []
    for run in sorted({row.run for row in rows}):
        mine = {(row.capability, row.trajectory_id): row for row in rows if row.run == run}
        names, ids = list(dict.fromkeys(key[0] for key in mine)), list(dict.fromkeys(key[1] for key in mine))
        labels = {name: "".join(mine[name, identity].label.value[0] for identity in ids) for name in names}
        steps = {name: tuple(mine[name, identity].step for identity in ids) for name in names}
        found.append(RunLabels(run=run, trajectory_ids=tuple(ids), labels=labels, steps=steps))
    return found


def test_every_answer_says_who_gave_it() -> None:
    answers = {path.stem for path in (RECORD / "answers").glob("*.json")}
    log = [json.loads(line) for line in (RECORD / "answered.jsonl").read_text().splitlines()]
    assert {row["id"] for row in log} == answers
    assert Counter(row["id"].split("-")[0] for row in log) == {"discover": 2, "merge": 1, "label": 12}
    assert len({row["by"] for row in log}) == 3


@pytest.mark.skipif(not REAL.is_file(), reason="gpt-4o-airline.json does not lie beside the checkout")
def test_the_recorded_table_follows_from_the_labels() -> None:
    labelled = runs()
    ids = set(labelled[0].trajectory_ids)
    trajectories = [one for one in load_trajectories(REAL, "tau-bench").trajectories if one.id in ids]
    assert (len(trajectories), len(labelled)) == (40, 3)
    found = conclude(dictionary(), labelled, trajectories, Thresholds.for_runs(3))
    table = (RECORD / "README.md").read_text()
    for one in found:
        delta, coverage = one.selection.delta.mean, one.selection.coverage.mean
        assert delta is not None
        assert coverage is not None
        (line,) = [row for row in table.splitlines() if row.startswith(f"| {one.capability.title} |")]
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[1].split()[0] == f"{delta:.2f}"
        assert cells[2].split()[0] == f"{coverage:.2f}"
        assert cells[3:5] == [f"{one.selection.passes}/3", f"{one.alpha:.2f}"]
        assert cells[5].split(":")[0] == ("yes" if one.selection.kept else "no")
    assert [one.selection.kept for one in found] == [True] * 4 + [False] * 2
