"""`trace-agents analyze` from the command line to its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from clinic import Clinic

from trace_agents.analysis.results import CapabilitiesArtifact, LabelRow
from trace_agents.cli import main
from trace_agents.contrast import Thresholds
from trace_agents.types import Label

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "tau-bench" / "gpt-4o-airline.json"


@pytest.fixture(scope="module")
def clinic_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clinic") / "clinic.jsonl"
    rows = [
        {
            "id": one.id,
            "task_id": one.task_id,
            "trial": one.trial,
            "success": one.success,
            "messages": [message.openai() | {"is_error": message.is_error} for message in one.messages],
        }
        for one in Clinic(seed=1).trajectories(tasks=22)
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def test_it_writes_its_files_and_prints_the_tables(
    clinic_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["analyze", str(clinic_file), "--out", str(tmp_path / "out"), "--runs", "5"]) == 0
    printed = capsys.readouterr().out
    summary = CapabilitiesArtifact.model_validate_json((tmp_path / "out" / "capabilities.json").read_text())
    assert summary.version == 3
    assert summary.kept
    assert (summary.trajectories, summary.tasks, summary.thresholds.keep_in) == (176, 22, 4)
    for candidate in summary.kept:
        assert f"{candidate.capability.name}\n" in printed
        assert f"{candidate.selection.passes}/5" in printed
        assert len(candidate.evidence) >= 5
    rows = [LabelRow.model_validate_json(line) for line in (tmp_path / "out" / "labels.jsonl").read_text().splitlines()]
    assert f"together {summary.covered} of {summary.failed}" in printed
    drawn = 0.8 * 176
    assert len(rows) == pytest.approx(5 * drawn * len(summary.capabilities), rel=0.1)
    assert {row.label for row in rows} == set(Label)
    assert all((row.step is None) == (row.label is Label.NA) for row in rows)
    written = ["capabilities.json", "evidence.jsonl", "labels.jsonl", "report.html"]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == written


def test_the_bars_of_selection_are_options_and_are_told(
    clinic_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bars = ["--runs", "4", "--keep-in", "2", "--delta", "0.3", "--rho", "0.05", "--support", "5"]
    assert main(["analyze", str(clinic_file), "--out", str(tmp_path), *bars]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "kept: Δ ≥ 0.30 and Cov ≥ 0.05 in 2 of 4 runs, each on 5 or more failures" in printed
    summary = CapabilitiesArtifact.model_validate_json((tmp_path / "capabilities.json").read_text())
    assert summary.thresholds == Thresholds(delta=0.3, rho=0.05, runs=4, keep_in=2, support=5)


def test_report_makes_the_page_of_an_analysis_again_and_prints_its_tables(
    clinic_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["analyze", str(clinic_file), "--out", str(tmp_path), "--runs", "2"]) == 0
    page = (tmp_path / "report.html").read_bytes()
    tables = capsys.readouterr().out.partition("capabilities kept")[2].partition("written:")[0]
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "again.html")]) == 0
    assert (tmp_path / "again.html").read_bytes() == page
    assert tables in capsys.readouterr().out


def test_json_prints_the_file_and_nothing_else(
    clinic_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["analyze", str(clinic_file), "--out", str(tmp_path), "--runs", "2", "--json"]) == 0
    assert capsys.readouterr().out == (tmp_path / "capabilities.json").read_text()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nowhere.json"], "missing file 'nowhere.json'"),
        (["FILE", "--format", "tau"], "unknown format 'tau'"),
        (["FILE", "--runs", "0"], "runs 0 is too few"),
        (["FILE", "--runs", "4", "--keep-in", "5"], "--keep-in 5 is more than --runs 4: ask for at most 4"),
    ],
)
def test_bad_input_gets_one_line_and_exit_code_two(
    clinic_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    given = [str(clinic_file) if one == "FILE" else one for one in arguments]
    assert main(["analyze", *given, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--out", "--handoff"])
@pytest.mark.parametrize("below", ["", "/below"])
def test_a_file_where_a_folder_is_wanted_is_refused_before_any_work(
    clinic_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, below: str
) -> None:
    assert main(["analyze", str(clinic_file), "--out", str(tmp_path / "out"), option, f"{clinic_file}{below}"]) == 2
    assert capsys.readouterr().err == (
        f"trace-agents: {option} '{clinic_file}{below}' cannot be a folder, for '{clinic_file}' is a file: "
        "give another path\n"
    )
    assert not (tmp_path / "out").exists()


def test_trajectories_that_infrastructure_failed_all_are_refused_with_the_first_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"task_id": "1", "messages": [{"role": "user", "content": "Hi"}], "error": "server gone"}
    file = tmp_path / "failed.jsonl"
    file.write_text(f"{json.dumps(row)}\n" * 30)
    assert main(["analyze", str(file), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "infrastructure failed all 30 trajectories (the first: 'server gone')" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(("threshold", "said"), [([], "failed"), (["--threshold", "0.1"], "succeeded")])
def test_graded_rewards_of_which_none_or_all_succeed_name_the_threshold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], threshold: list[str], said: str
) -> None:
    rows = [
        {"task_id": "1", "messages": [{"role": "user", "content": "Hi"}], "reward": 0.2 + at / 50} for at in range(30)
    ]
    rows.append({"task_id": "1", "messages": [{"role": "user", "content": "Hi"}], "error": "server gone"})
    file = tmp_path / "graded.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert main(["analyze", str(file), "--out", str(tmp_path / "out"), *threshold]) == 2
    error = capsys.readouterr().err
    assert f"all 30 trajectories {said}, though their rewards go from 0.2 to 0.78" in error
    assert "--threshold" in error
    assert error.count("\n") == 1


@pytest.mark.skipif(not REAL.exists(), reason="the real trajectories are not beside this checkout")
def test_real_trajectories_give_capabilities_with_evidence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", str(REAL), "--format", "tau-bench", "--out", str(tmp_path), "--runs", "10"]) == 0
    summary = CapabilitiesArtifact.model_validate_json((tmp_path / "capabilities.json").read_text())
    assert summary.kept
    assert all(len(candidate.evidence) >= 5 for candidate in summary.kept)
    assert "200 trajectories of 50 tasks (tau-bench), 116 failed" in capsys.readouterr().out
