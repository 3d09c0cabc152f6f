"""The conformance kit passes sound environments, and each of its checks fails an environment that breaks just that."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from shelf_benchmark import COMMAND, write

from mcp_servers.conformance import CHECKS, Options, Status, conform
from trace_agents.cli import main
from trace_agents.errors import UsageError

BROKEN = {
    "tasks": "RepeatedIds",
    "tasks-as-json": "TupleData",
    "refusals": "AnyId",
    "generation": "DriftingSeeds",
    "episode": "Mute",
    "schemas": "NoSchema",
    "determinism": "Dice",
    "processes": "Process",
    "isolation": "SharedPile",
    "tasks-untouched": "Scribbler",
    "door-memory": "FickleTools",
    "door-stdio": "ToolsOfProcess",
    "door-http": "ToolsOfProcess",
    "gold": "WrongGold",
    "idle": "Generous",
    "activity": "Percent",
    "garbage": "Picky",
    "unknown-tool": "Trusting",
    "missing-arguments": "Lenient",
    "odd-arguments": "Surplus",
    "parallel-calls": "Overlapping",
    "after-the-end": "HangUp",
    "closing": "ClosesOnce",
    "evaluator-failure": "Unfreed",
}
PROCESSES = ("processes", "door-stdio", "door-http")
FEW = Options(tasks=4, episodes=12)
QUICK = Options(tasks=4, episodes=12, quick=True)


def spec(name: str) -> str:
    """An environment of the file beside this one."""
    return f"{Path(__file__).with_name('broken_environments.py')}:{name}"


async def test_a_sound_environment_passes_every_check() -> None:
    report = await conform(spec("Pile"), FEW)
    assert [finding for finding in report.findings if finding.status is not Status.PASSED] == []
    assert (report.environment, report.tasks, report.conformant) == ("pile", 4, True)


async def test_splits_may_share_tasks_and_what_cannot_be_played_here_is_left_out() -> None:
    report = await conform(spec("Keyed"), QUICK)
    assert report.failed == ()
    assert report.tasks == 4
    assert set(report.unavailable) == {"test-0", "test-3", "test-4", "seed-0"}
    assert set(report.unavailable.values()) == {
        f"task {name!r} needs a key: set PILE_KEY" for name in report.unavailable
    }


async def test_an_environment_of_which_nothing_can_be_played_says_what_it_wants() -> None:
    report = await conform(spec("KeylessPile"), QUICK, only=["schemas"])
    [finding] = report.failed
    assert finding.found == "no task can be played here"
    assert "set PILE_KEY" in finding.remedy


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("RepeatedIds", "task id 'test-0' is used 2 times in split 'test'"),
        ("Homeless", "task 'test-2' says split 'other', which does not list it"),
        ("TwoOfOneName", "task id 'test-0' names two tasks, one of split 'other'"),
    ],
)
async def test_task_lists_that_contradict_themselves_are_told(name: str, wanted: str) -> None:
    [finding] = (await conform(spec(name), QUICK, only=["tasks"])).failed
    assert finding.found == wanted


async def test_one_episode_at_a_time_is_enough_for_every_check_but_isolation() -> None:
    report = await conform(spec("OneSeat"), Options(tasks=4, episodes=12, timeout_s=60.0))
    assert report.failed == ()
    [skipped] = [finding for finding in report.findings if finding.status is Status.SKIPPED]
    assert (skipped.check, skipped.found) == ("isolation", "it plays one episode at a time")


async def test_a_check_that_does_not_end_fails_and_the_others_go_on() -> None:
    options = Options(tasks=2, episodes=2, quick=True, timeout_s=0.1)
    report = await conform(spec("NeverStarts"), options, only=["tasks", "gold"])
    assert [(finding.check, finding.status) for finding in report.findings] == [
        ("tasks", Status.PASSED),
        ("gold", Status.FAILED),
    ]
    assert report.findings[1].found == "it had not ended after 0.1 s"


async def test_an_environment_that_exits_fails_its_check() -> None:
    [finding] = (await conform(spec("Exits"), QUICK, only=["tasks"])).failed
    assert "SystemExit" in finding.found


@pytest.mark.parametrize("name", ["helpdesk", "synth/unlock"])
async def test_the_shipped_environments_pass(name: str) -> None:
    assert (await conform(name, QUICK)).failed == ()


def test_there_is_a_broken_environment_for_every_check() -> None:
    assert list(BROKEN) == [check.name for check in CHECKS]


@pytest.mark.parametrize(("check", "name"), BROKEN.items())
async def test_a_check_fails_an_environment_that_breaks_it(check: str, name: str) -> None:
    report = await conform(spec(name), FEW, only=[check])
    [finding] = report.failed
    assert finding.check == check
    assert finding.found
    assert finding.remedy


@pytest.mark.parametrize(
    "name",
    ["TupleData", "AnyId", "WrongGold", "Percent", "Picky", "Trusting", "Lenient", "Surplus", "HangUp", "ClosesOnce"],
)
async def test_only_the_check_that_is_broken_fails(name: str) -> None:
    report = await conform(spec(name), QUICK)
    assert [finding.check for finding in report.failed] == [check for check, one in BROKEN.items() if one == name]


async def test_a_tool_that_tells_the_time_in_whole_seconds_is_found_every_time() -> None:
    for _ in range(3):
        [finding] = (await conform(spec("Clock"), QUICK, only=["determinism"])).failed
        assert "played twice alike: answer 0 is" in finding.found


async def test_the_gold_action_that_was_answered_with_an_error_is_named() -> None:
    [finding] = (await conform(spec("RefusedGold"), QUICK, only=["gold"])).failed
    assert re.search(r'; gold action 2 of 3, ad\(\{"number": \d+\}\), answered: .*unknown tool', finding.found)
    [finding] = (await conform(spec("WrongGold"), QUICK, only=["gold"])).failed
    assert "answered" not in finding.found


async def test_an_environment_may_say_what_its_author_can_mend() -> None:
    report = await conform(spec("Advised"), QUICK, only=["determinism", "gold"])
    assert [finding.remedy for finding in report.failed] == [
        "leave the dice at home",
        "mend the gold actions or the evaluation: playing the oracle scores 1",
    ]


@pytest.mark.parametrize(
    ("reset", "told"),
    [
        ({"keep": True, "calls": [{"name": "words"}]}, "[reset] keep = true keeps what the server has in memory"),
        ({}, "what the server keeps outside {folder} outlives the episode"),
    ],
)
async def test_the_remedies_for_a_wrapped_server_are_its_descriptions(
    reset: dict[str, Any], told: str, tmp_path: Path
) -> None:
    command = [*COMMAND[:2], "{here}/words"]
    gold = [{"name": "add", "arguments": {"word": "tree"}}, {"name": "words"}]
    task = {"id": "a", "prompt": "Add tree.", "gold": gold}
    path = write(tmp_path, [task], server={"command": command}, reset=reset, tools={"hide": ["clear", "crash"]})
    [finding] = (await conform(str(path), Options(tasks=1, quick=True), only=["determinism"])).failed
    assert finding.remedy.startswith(told)
    assert "[server] env" in finding.remedy


async def test_failures_that_differ_in_numbers_and_names_only_are_one_cause() -> None:
    report = await conform(spec("Scarce"), QUICK, only=["determinism", "gold", "idle", "garbage", "refusals"])
    [(cause, same)] = report.causes.items()
    assert cause == same[0].cause
    assert "only 9 left for task 'test-0'" in cause
    assert [finding.check for finding in same] == ["determinism", "gold", "idle", "garbage"]
    assert len({finding.found for finding in same}) == 4


async def test_what_differs_from_play_to_play_is_one_cause_of_every_comparison() -> None:
    checks = ["determinism", "isolation", "door-memory", "gold", "idle", "parallel-calls"]
    report = await conform(spec("Dice"), QUICK, only=checks)
    [(cause, same)] = report.causes.items()
    assert cause == report.failed[0].found
    assert [finding.check for finding in same] == ["determinism", "isolation", "door-memory", "parallel-calls"]
    assert same[2].found.startswith("2026-07-28: 'total' answers '0.")
    assert same[2].remedy == "answer from the episode's state alone"
    [alone] = (await conform(spec("Dice"), QUICK, only=["door-memory"])).failed
    assert alone.cause == ""


async def test_a_tool_that_breaks_on_a_long_argument_is_found() -> None:
    [finding] = (await conform(spec("Brittle"), QUICK, only=["odd-arguments"])).failed
    assert "too long" in finding.found


async def test_quick_starts_no_process_and_says_so() -> None:
    report = await conform(spec("Pile"), QUICK)
    skipped = {finding.check: finding.found for finding in report.findings if finding.status is Status.SKIPPED}
    assert set(skipped) == set(PROCESSES)
    assert all("--quick" in reason for reason in skipped.values())


async def test_an_unknown_check_is_named() -> None:
    with pytest.raises(UsageError, match="unknown check 'gould'"):
        await conform(spec("Pile"), QUICK, only=["gould"])


def test_the_command_prints_findings_and_exits_with_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conform", spec("WrongGold"), "--quick", "--tasks", "2"]) == 1
    out = capsys.readouterr().out
    assert "gold               failed" in out
    assert "remedy: mend the gold actions" in out


def test_the_command_prints_json_and_nothing_besides_and_progress_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conform", spec("Noisy"), "--quick", "--check", "gold", "--json"]) == 0
    shown = capsys.readouterr()
    assert "conformance: 1/1 done" in shown.err
    assert "starting test-0" in shown.err
    report = json.loads(shown.out)
    assert [(one["check"], one["status"]) for one in report["findings"]] == [("gold", "passed")]


def test_an_environment_whose_making_exits_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conform", spec("Unmade"), "--quick"]) == 2
    assert "ended the process with code 3: let it raise" in capsys.readouterr().err


def test_an_environment_that_cannot_be_loaded_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conform", "nowhere"]) == 2
    assert "unknown environment 'nowhere'" in capsys.readouterr().err


async def test_a_back_end_that_is_away_is_said_to_be_mended() -> None:
    [finding] = (await conform(spec("Down"), QUICK, ["idle"])).findings
    assert (finding.found, finding.remedy) == (
        "the environment failed: the pile is away",
        "mend what it names: such an episode has no reward",
    )


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals and named pipes")
def test_the_processes_it_started_end_with_it_when_it_is_asked_to_end(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "trace_agents.cli", "conform", spec("StallsServed"), "--check", "door-http"]
    process = subprocess.Popen(
        command, env={**os.environ, "STALLS": str(pipe)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    server = int(pipe.read_text())
    process.terminate()
    assert process.wait(60) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(server, 0)


async def test_checks_that_fail_of_one_cause_name_it_and_others_do_not(tmp_path: Path) -> None:
    command = """["{python}", "-c", "import sys; exit('no database at ' + sys.argv[1])", "{folder}/data"]"""
    tables = f'name = "away"\n[server]\ncommand = {command}\n[check]\n'
    (tmp_path / "benchmark.toml").write_text(f'{tables}reads = [{{ name = "x" }}]\n')
    (tmp_path / "tasks.jsonl").write_text(json.dumps({"id": "a", "prompt": "Hello.", "gold": ["Hello."]}))
    report = await conform(str(tmp_path / "benchmark.toml"), FEW)
    [(cause, same)] = report.causes.items()
    assert "its last words: no database at /episode-folder/data" in cause
    assert same == report.failed
    assert {"episode", "door-stdio", "door-http", "gold", "closing"} <= {finding.check for finding in same}
    assert all("no database at" in finding.found for finding in same)
    faults = await conform(spec("WrongGold"), QUICK)
    assert [(finding.check, finding.cause) for finding in faults.failed] == [("gold", "")]
    assert faults.causes == {}


def test_the_table_says_one_cause_once_and_the_json_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conform", spec("Down"), "--quick", "--tasks", "2"]) == 1
    shown = capsys.readouterr().out
    assert shown.count("the pile is away") == 1
    assert "idle               failed   cause 1, below" in shown
    assert "failed checks: the pile is away\nremedy: mend what it names" in shown
    assert main(["conform", spec("Down"), "--quick", "--tasks", "2", "--json"]) == 1
    failed = [one for one in json.loads(capsys.readouterr().out)["findings"] if one["status"] == "failed"]
    assert len(failed) >= 8
    assert {one["cause"] for one in failed} == {"the pile is away"}
    assert all("the pile is away" in one["found"] and one["remedy"] for one in failed)


async def test_checks_that_compared_errors_only_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    report = await conform(spec("ClosedDesk"), FEW)
    said = {finding.check: finding.found for finding in report.findings if finding.status is Status.PASSED}
    comparing = {"determinism", "processes", "isolation", "door-memory", "door-stdio", "door-http", "parallel-calls"}
    assert {check for check, found in said.items() if found} == comparing | {"evaluator-failure"}
    assert all("results that were compared are errors, such as 'the desk is closed'" in said[one] for one in comparing)
    sound = await conform(spec("Pile"), QUICK)
    assert {finding.found for finding in sound.findings if finding.status is Status.PASSED} == {""}


def test_the_table_says_what_to_do_where_only_errors_were_compared(capsys: pytest.CaptureFixture[str]) -> None:
    main(["conform", spec("ClosedDesk"), "--quick", "--tasks", "2", "--episodes", "2"])
    shown = capsys.readouterr().out
    assert shown.count("give the tasks gold actions") == 1
    assert "passed, with nothing but errors to compare:" in shown
