"""What follows from all runs together, against computations that share no code with it."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from trace_agents.analysis.aggregate import LABELS, Verdicts, bootstrap, label_cube, overlaps, run_contrasts
from trace_agents.analysis.analyst import Discovered, RunLabels
from trace_agents.analysis.results import Analysis, CapabilitiesArtifact, conclude
from trace_agents.contrast import Thresholds, contrast
from trace_agents.types import Capability, Label, Message, Trajectory


def run_labels(run: int, **letters: str) -> RunLabels:
    """Run number `run` over trajectories t0, t1, ...; deciding step: the run's number."""
    ids = tuple(f"t{i}" for i in range(len(next(iter(letters.values())))))
    steps = {name: tuple(None if one == "N" else run for one in found) for name, found in letters.items()}
    return RunLabels(run=run, trajectory_ids=ids, labels=letters, steps=steps)


def trajectories(outcomes: str, trials: int = 1) -> list[Trajectory]:
    """Trajectories t0, t1, ... with `outcomes` of + and -, `trials` to a task."""
    said = (Message(role="user", content="Hi."), Message(role="assistant", content="Done."))
    return [
        Trajectory(id=f"t{i}", task_id=f"task-{i // trials}", trial=i % trials, messages=said, success=one == "+")
        for i, one in enumerate(outcomes)
    ]


def random_runs(rng: random.Random, runs: int, size: int, capabilities: int = 2) -> list[RunLabels]:
    return [
        run_labels(run, **{f"c{c}": "".join(rng.choices("NPL", k=size)) for c in range(capabilities)})
        for run in range(runs)
    ]


def test_contrasts_of_a_run_are_those_of_its_labels_one_by_one() -> None:
    rng = random.Random(0)
    (run,) = random_runs(rng, 1, 60)
    succeeded = {identity: rng.random() < 0.5 for identity in run.trajectory_ids}
    expected = {name: contrast(run.label(name), list(succeeded.values())) for name in run.labels}
    assert run_contrasts(run, succeeded) == expected


def test_the_verdict_is_the_majority_of_the_runs_that_labelled_with_its_commonest_step() -> None:
    runs = [run_labels(0, care="LPNL"), run_labels(1, care="LLPN"), run_labels(2, care="PL")]
    verdicts = Verdicts(runs)
    found = [verdicts.get("care", f"t{i}") for i in range(5)]
    assert found == [
        (Label.LACKING, 0),
        (Label.LACKING, 1),
        (Label.PRESENT, 1),  # A tie counts against no agent: PRESENT before NA, NA before LACKING.
        (Label.NA, None),
        (Label.NA, None),  # Never labelled.
    ]


def slow_bootstrap(runs: list[RunLabels], them: list[Trajectory], name: str, resamples: int) -> np.ndarray:
    """Quantiles of mean Δ and mean Cov, task after task, by dictionaries."""
    rng = random.Random(7)
    tasks: dict[str, list[Trajectory]] = {}
    for one in them:
        tasks.setdefault(one.task_id, []).append(one)
    label = [dict(zip(run.trajectory_ids, run.label(name), strict=True)) for run in runs]
    found: list[list[float]] = [[], []]
    for _ in range(resamples):
        drawn = [one for task in rng.choices(sorted(tasks), k=len(tasks)) for one in tasks[task]]
        each = []
        for labels in label:
            seen = [one for one in drawn if one.id in labels]
            each.append(contrast([labels[one.id] for one in seen], [bool(one.success) for one in seen]))
        for values, kind in zip(found, ("delta", "coverage"), strict=True):
            known = [getattr(one, kind) for one in each if getattr(one, kind) is not None]
            values.append(sum(known) / len(known))
    return np.array([np.quantile(values, [0.025, 0.975]) for values in found])


def test_intervals_agree_with_a_bootstrap_written_the_slow_way() -> None:
    rng = random.Random(1)
    them = trajectories("".join(rng.choices("+-", k=80)), trials=4)
    runs = random_runs(rng, 3, 70)
    cube = label_cube(runs, [one.id for one in them], ["c0", "c1"])
    found = bootstrap(cube, np.array([bool(one.success) for one in them]), [one.task_id for one in them])
    for name, one in zip(("c0", "c1"), found, strict=True):
        assert one.delta is not None
        assert one.coverage is not None
        fast = [[one.delta.low, one.delta.high], [one.coverage.low, one.coverage.high]]
        assert np.allclose(fast, slow_bootstrap(runs, them, name, 1_500), atol=0.03)


def test_repeating_every_trial_tells_nothing_new_because_tasks_are_resampled() -> None:
    rng = random.Random(2)
    outcomes, letters = ("".join(rng.choices(kinds, k=40)) for kinds in ("+-", "NPL"))
    alone = intervals_of(letters, outcomes, trials=1)
    repeated = intervals_of("".join(one * 5 for one in letters), "".join(one * 5 for one in outcomes), trials=5)
    assert repeated == pytest.approx(alone)


def intervals_of(letters: str, outcomes: str, trials: int) -> list[float]:
    them = trajectories(outcomes, trials)
    cube = label_cube([run_labels(0, c=letters)], [one.id for one in them], ["c"])
    (one,) = bootstrap(cube, np.array([bool(t.success) for t in them]), [f"{int(t.task_id[5:]):03d}" for t in them])
    assert one.delta is not None
    assert one.coverage is not None
    return [one.delta.low, one.delta.high, one.coverage.low, one.coverage.high]


def test_a_single_task_has_no_interval_and_an_empty_denominator_none_either() -> None:
    good = np.array([False, False, True, True])
    cube = label_cube([run_labels(0, c="LPPL", never="NNNN")], ["t0", "t1", "t2", "t3"], ["c", "never"])
    assert {one.delta for one in bootstrap(cube, good, ["a"] * 4)} == {None}
    several = bootstrap(cube, good, ["a", "b", "c", "d"])
    assert several[0].delta is not None
    assert several[1].delta is None
    assert several[1].coverage is not None
    assert (several[1].coverage.low, several[1].coverage.high) == (0.0, 0.0)


def test_overlap_counts_the_failures_that_lack_both() -> None:
    letters = {"one": "LLLPNL", "two": "LLPLNL", "three": "NNNNNN"}
    codes = {label.value[0]: code for code, label in enumerate(LABELS)}
    labels = np.array([[codes[letter] for letter in found] for found in letters.values()])
    found = overlaps(labels.T, np.array([False] * 5 + [True]), list(letters))
    assert found["one"]["two"].model_dump() == {"both": 2, "jaccard": 2 / 4, "share": 2 / 3}
    assert found["three"]["two"].model_dump() == {"both": 0, "jaccard": 0.0, "share": None}
    assert set(found["one"]) == {"two", "three"}


def discovered(*names: str) -> list[Discovered]:
    return [Discovered(capability=Capability(name=name, title=name, description="Does.")) for name in names]


def analysed() -> tuple[Analysis, list[Trajectory]]:
    rng = random.Random(3)
    them = trajectories("-" * 30 + "+" * 30, trials=3)
    letters = "".join("L" if rng.random() < (0.7 if i < 30 else 0.1) else "P" for i in range(60))
    runs = [run_labels(run, care=letters, luck="".join(rng.choices("NPL", k=60))) for run in range(4)]
    found = conclude(discovered("care", "luck"), runs, them, Thresholds.for_runs(4))
    summary = CapabilitiesArtifact(
        analyst="rote", thresholds=Thresholds.for_runs(4), trajectories=60, tasks=20, failed=30, excluded=0,
        capabilities=found,
    )  # fmt: skip
    return Analysis(summary=summary, runs=tuple(runs)), them


def test_a_candidate_carries_intervals_agreement_and_overlap() -> None:
    care, luck = analysed()[0].summary.capabilities
    assert (care.selection.kept, luck.selection.kept) == (True, False)
    assert care.delta_interval is not None
    assert care.selection.delta.mean is not None
    assert care.delta_interval.low < care.selection.delta.mean < care.delta_interval.high
    assert care.alpha == 1.0
    assert luck.alpha == pytest.approx(0.0, abs=0.15)
    assert (care.agreement, luck.agreement) == (None, None)
    assert care.overlap["luck"].both == luck.overlap["care"].both


def test_label_lines_are_the_label_rows_and_come_back_from_disk(tmp_path: Path) -> None:
    analysis, _ = analysed()
    summary, labels = analysis.write(tmp_path)
    assert labels.read_text().splitlines() == [row.model_dump_json() for row in analysis.label_rows()]
    assert CapabilitiesArtifact.model_validate_json(summary.read_text()) == analysis.summary


def test_the_evidence_file_holds_what_evidence_names_first_and_a_bounded_number_of_others(tmp_path: Path) -> None:
    analysis, them = analysed()
    few = analysis.write_evidence(tmp_path, them, most=0).read_text().splitlines()
    assert tuple(json.loads(line)["id"] for line in few) == analysis.summary.named
    more = [
        json.loads(line)["id"] for line in analysis.write_evidence(tmp_path, them, most=25).read_text().splitlines()
    ]
    assert (len(more), len(set(more))) == (25, 25)
    everything = analysis.write_evidence(tmp_path, them).read_text().splitlines()
    assert len(everything) == 60


def test_a_file_of_schema_version_one_is_still_read() -> None:
    new = analysed()[0].summary.model_dump(mode="json")
    old = new | {"version": 1, "thresholds": {"delta": 0.2, "rho": 0.1, "runs": 4, "keep_in": 4}}
    added = ("delta_interval", "coverage_interval", "alpha", "overlap", "agreement")
    old["capabilities"] = [{key: one[key] for key in one if key not in added} for one in new["capabilities"]]
    read = CapabilitiesArtifact.model_validate(old)
    assert read.capabilities[0].delta_interval is None
    assert read.kept[0].capability.name == "care"
