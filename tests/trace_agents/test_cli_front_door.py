"""The command line: one clear line for bad input, exit code 2, and help that is quick."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sample_run import CONFIG, write_sample_run

from trace_agents import __version__
from trace_agents.analysis.notes import AnalystNotes
from trace_agents.analysis.requests import Usage
from trace_agents.cli import main
from trace_agents.cli._app import COMMANDS, build
from trace_agents.cli.run import demo_config
from trace_agents.config import RunConfig
from trace_agents.registry import SPELLINGS
from trace_agents.runstore import RunStore

full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample_run(tmp_path_factory.mktemp("runs") / "sample", trajectories=8)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that the test runs in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    """Exit code and the one line on standard error."""
    code = main([str(argument) for argument in arguments])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("trace-agents: ")
    return code, lines[0].removeprefix("trace-agents: ")


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"trace-agents {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_lists_every_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert [name for name in COMMANDS if name not in out] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"trace-agents {command}" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["conform", "evaluate", "run", "serve"])
def test_help_names_every_kind_of_environment(command: str) -> None:
    told = build().get_command(None, command).params[0].help
    assert f"nvironment: {SPELLINGS}." in told


@pytest.mark.parametrize("name", ["path/benchmark.toml", "verifiers:NAME", "http://HOST:PORT", "file.py:Class"])
def test_an_unknown_environment_is_told_how_others_are_named(
    name: str, capsys: pytest.CaptureFixture[str], elsewhere: Path
) -> None:
    assert name in SPELLINGS
    code, line = said(capsys, "serve", "helpdisk")
    assert (code, repr(name) in line) == (2, True)


def test_an_unknown_agent_is_told_which_kinds_there_are(capsys: pytest.CaptureFixture[str], elsewhere: Path) -> None:
    code, line = said(capsys, "evaluate", "helpdesk", "--agent", "orakel")
    assert code == 2
    told = line.partition("use one of ")[2].split(", ")
    assert {"'oracle'", "'embedded:MODEL'", "'openai:MODEL'", "'run:RUN_DIR'", "'file.py:Class'"} < {*told}
    assert "'http://HOST:PORT/v1#MODEL'" in told


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["reprot"], "unknown command 'reprot': use one of 'analyze', 'benchmarks'"),
        (["report"], "Missing argument 'RUN_DIR': see `trace-agents report --help`"),
        (["report", "runs/none"], "run 'runs/none' does not exist: give the folder of a run"),
        (["report", "/"], "'/' is not a run: it has no 'run.json'"),
        (["run"], "no configuration given: name a TOML file"),
        (["run", "none.toml"], "configuration 'none.toml' does not exist"),
        (["run", "none.toml", "--sed", "1"], "No such option: --sed"),
        (["run", "none.toml", "--seed", "one"], "Invalid value for '--seed'"),
        (["run", "none.toml", "--resume", "x"], "--resume 'x' keeps the run's own configuration: leave out CONFIG"),
        (["run", "--resume", "runs/none"], "run 'runs/none' does not exist"),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    arguments: list[str], wanted: str, capsys: pytest.CaptureFixture[str], elsewhere: Path
) -> None:
    code, line = said(capsys, *arguments)
    assert code == 2
    assert wanted in line
    assert not list(elsewhere.iterdir())


def test_a_bad_configuration_makes_no_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[target]\nenvironment = "helpdesk"\nrollout = 3\n')
    code, line = said(capsys, "run", tmp_path / "c.toml", "--out", tmp_path / "runs")
    assert (code, "unknown key 'rollout' in [target]" in line) == (2, True)
    assert not (tmp_path / "runs").exists()


def test_a_run_id_that_is_taken_is_refused_and_kept(
    capsys: pytest.CaptureFixture[str], sample: Path, tmp_path: Path
) -> None:
    (tmp_path / "c.toml").write_text(CONFIG)
    before = (sample / "run.json").read_bytes()
    code, line = said(capsys, "run", tmp_path / "c.toml", "--out", sample.parent, "--run-id", sample.name)
    assert (code, "already exists: continue it with --resume" in line) == (2, True)
    assert (sample / "run.json").read_bytes() == before


def test_a_run_that_is_being_written_is_not_resumed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with RunStore.create(tmp_path / "busy", RunConfig.parse(CONFIG)):
        code, line = said(capsys, "run", "--resume", tmp_path / "busy")
    assert (code, f"is being written by process {os.getpid()}" in line) == (2, True)


@full
def test_a_full_disk_is_one_line_that_names_the_file(capsys: pytest.CaptureFixture[str], sample: Path) -> None:
    code, line = said(capsys, "report", sample, "--out", "/dev/full")
    assert code == 2
    assert line == "the disk is full at '/dev/full': free some space; whatever was written before is kept"


@full
def test_a_full_disk_in_a_run_says_how_to_go_on(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = write_sample_run(tmp_path / "run", trajectories=2)
    (run / "report.html").symlink_to("/dev/full")
    code, line = said(capsys, "report", run)
    assert code == 2
    assert f"free some space, then `trace-agents run --resume {run}`" in line


@full
def test_a_full_standard_output_is_reported(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as out:
        run = subprocess.run(
            [sys.executable, "-m", "trace_agents.cli", "--version"], stdout=out, stderr=subprocess.PIPE, text=True
        )
    assert run.returncode == 2
    assert "the disk is full at 'standard output'" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(CONFIG)
    (tmp_path / "locked").mkdir(mode=0o500)
    code, line = said(capsys, "run", tmp_path / "c.toml", "--out", tmp_path / "locked")
    assert (code, "permission denied" in line) == (2, True)


def test_a_reader_that_goes_away_is_no_error(sample: Path) -> None:
    command = f"{sys.executable} -m trace_agents.cli report {sample} | head -n 1"
    run = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert run.stderr == ""


def test_the_report_command_prints_the_tables_and_writes_the_page(
    capsys: pytest.CaptureFixture[str], sample: Path, tmp_path: Path
) -> None:
    assert main(["report", str(sample), "--out", str(tmp_path / "page.html")]) == 0
    out = capsys.readouterr().out
    for wanted in (
        "sum of deltas *",
        "points against base",
        "precision 1.00, recall 0.80",
        "1.77 GiB",
        "(none needed)",
    ):
        assert wanted in out
    assert (tmp_path / "page.html").stat().st_size > 20_000


def test_the_report_of_a_run_says_what_its_reader_took(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = write_sample_run(tmp_path / "r", trajectories=1)
    usage = Usage(answered=9, input_tokens=9000, output_tokens=90)
    AnalystNotes(analyst="a:model", prompts="p", context_tokens=1000, usage=usage, cost=0.03).write(run)
    took = "9 requests answered by a:model; 9,000 tokens read, 90 written; cost 0.03"
    assert main(["report", str(run)]) == 0
    assert took in " ".join(capsys.readouterr().out.split())
    page = (run / "report.html").read_text(encoding="utf-8")
    assert page.count(took) == 2  # With the capabilities, and with the cost of the stages.


def test_the_environments_command_lists_the_embedded_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["environments"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("helpdesk"))
    assert "train 60" in line


def test_the_demo_finds_its_configuration() -> None:
    assert RunConfig.load(demo_config()).target.environment == "helpdesk"


def test_a_defect_keeps_its_traceback(tmp_path: Path) -> None:
    broken = tmp_path / "runs"
    write_sample_run(broken / "r", trajectories=1)
    (broken / "r" / "stages.json").unlink()
    (broken / "r" / "stages.json").mkdir()
    with pytest.raises(IsADirectoryError):
        main(["report", str(broken / "r")])
