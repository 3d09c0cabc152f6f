"""`trace-agents analyze` with a reader, against a real server: what it prints, keeps, and never asks twice."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from reading_model import read, rows, talks
from reading_server import ReadingServer, serving

from graphs.analysts.models import KEY_VARIABLE, load_chat_model
from trace_agents.analysis.handoff import HandoffFolder
from trace_agents.analysis.notes import AnalystNotes
from trace_agents.analysis.results import CapabilitiesArtifact
from trace_agents.cli import main
from trace_agents.errors import UsageError

PROGRAM = [sys.executable, "-c", "import sys; from trace_agents.cli import main; sys.exit(main())"]
REQUESTS = 1 + 2 * 4
"""One discovery, two runs of 40 trajectories in tens."""


@pytest.fixture
def server() -> Iterator[ReadingServer]:
    with serving(ReadingServer()) as running:
        yield running


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """`analyze` of the talks in two runs."""
    file = tmp_path / "talks.jsonl"
    file.write_text(rows(talks()), encoding="utf-8")
    return ["analyze", str(file), "--out", str(tmp_path / "out"), "--runs", "2"]


def summary(folder: Path) -> CapabilitiesArtifact:
    return CapabilitiesArtifact.model_validate_json((folder / "out" / "capabilities.json").read_text())


def test_a_served_model_reads_and_its_tokens_are_counted(
    server: ReadingServer, command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prices = ["--price-in", "3", "--price-out", "15"]
    assert main([*command, "--llm", f"{server.url}#reader", *prices]) == 0
    printed = capsys.readouterr().out
    assert f"{REQUESTS} requests answered by {server.url}#reader; 9,000 tokens read, 90 written; cost 0.03" in printed
    assert [one.capability.name for one in summary(tmp_path).kept] == ["check-owner"]
    notes = AnalystNotes.model_validate_json((tmp_path / "out" / "analyst.json").read_text())
    assert (notes.usage.answered, notes.cost) == (REQUESTS, pytest.approx(0.02835))
    assert len(server.prompts) == REQUESTS
    assert main([*command, "--llm", f"{server.url}#reader"]) == 0
    assert len(server.prompts) == REQUESTS


def test_a_killed_analysis_never_asks_again_for_what_was_answered(
    server: ReadingServer, command: list[str], tmp_path: Path
) -> None:
    server.stalls_after, server.stalled = 5, 2
    options = [*command, "--llm", f"{server.url}#reader", "--concurrency", "2"]
    with subprocess.Popen([*PROGRAM, *options], stdout=subprocess.DEVNULL) as process:
        assert server.stuck.wait(120)
        process.kill()
    answered = server.prompts[:5]
    server.stalls_after = None
    assert main(options) == 0
    assert len(server.prompts) == REQUESTS + 2
    assert not set(answered) & set(server.prompts[7:])
    assert set(Counter(server.prompts).values()) == {1, 2}
    notes = AnalystNotes.model_validate_json((tmp_path / "out" / "analyst.json").read_text())
    assert (notes.usage.answered, notes.usage.input_tokens) == (REQUESTS, REQUESTS * 1000)


def test_nonsense_for_ever_is_one_line_exit_code_two_and_keeps_what_was_answered(
    server: ReadingServer, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    server.nonsense = True
    assert main([*command, "--llm", f"{server.url}#reader", "--concurrency", "1"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    for part in ("request 'label-", "in 4 attempts", "no JSON object in I would rather not", "use a more able model"):
        assert part in error
    assert "what was answered is kept in" in error
    server.nonsense = False
    asked = len(server.prompts)
    assert main([*command, "--llm", f"{server.url}#reader"]) == 0
    assert len(server.prompts) == asked + REQUESTS - 1


def test_a_url_without_a_model_takes_the_only_one_and_sends_the_key(
    server: ReadingServer, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    assert main([*command, "--llm", server.url]) == 0
    assert server.keys == {"Bearer secret"}


def test_statistics_beside_a_reader_have_a_column_of_their_own(
    server: ReadingServer, command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--llm", f"{server.url}#reader", "--both"]) == 0
    printed = capsys.readouterr().out
    assert "κ: Cohen's, with the statistics" in " ".join(printed.split())
    assert "the statistics keep nothing that the reader does not" in printed
    found = summary(tmp_path)
    assert all(one.agreement is not None for one in found.capabilities)
    notes = AnalystNotes.model_validate_json((tmp_path / "out" / "analyst.json").read_text())
    page = (tmp_path / "out" / "report.html").read_text()
    assert notes.spent.partition(";")[0] in page
    assert f"{found.covered} of {found.failed} lack one or more" in page


def test_a_hand_off_says_what_is_open_and_how_to_go_on(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = HandoffFolder(tmp_path / "handoff")
    handing = [*command, "--handoff", str(folder.path)]
    for kind, number in (("discover", 1), ("label", 2)):
        assert main(handing) == 0
        printed = capsys.readouterr()
        waiting = folder.open()
        assert [one.kind for one in waiting] == [kind] * number
        assert f"for answers, {number}:" in printed.out
        assert all(one.id in printed.out for one in waiting)
        assert "trace-agents handoff serve" in printed.out
        assert not (tmp_path / "out" / "capabilities.json").exists()
        for one in waiting:
            file = tmp_path / "answer.json"
            file.write_text(json.dumps(read(one.prompt)))
            assert main(["handoff", "answer", str(folder.path), one.id, str(file), "--by", "Ann"]) == 0
        capsys.readouterr()
    assert main(handing) == 0
    assert "3 requests answered by handoff" in capsys.readouterr().out
    assert len(summary(tmp_path).kept) == 1


def test_a_folder_of_another_analysis_is_refused_and_nothing_is_said_to_be_kept(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = HandoffFolder(tmp_path / "handoff")
    handing = [*command, "--handoff", str(folder.path)]
    assert main(handing) == 0
    (waiting,) = folder.open()
    folder.answer(waiting.id, read(waiting.prompt))
    capsys.readouterr()
    assert main([*handing, "--seed", "1"]) == 2
    error = capsys.readouterr().err
    assert error.endswith("repeat the options of the first call, or give a new folder\n")


def test_a_context_too_small_is_refused_and_leaves_the_folder_free(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    handing = [*command, "--handoff", str(tmp_path / "handoff")]
    assert main([*handing, "--context-tokens", "2000"]) == 2
    error = capsys.readouterr().err
    assert "together more than --context-tokens 2000: give" in error
    assert "kept" not in error
    assert not (tmp_path / "handoff").exists()
    assert not (tmp_path / "out").exists()
    assert main([*handing, "--context-tokens", "9000"]) == 0
    assert "for answers, 1:" in capsys.readouterr().out


@pytest.mark.parametrize(("failed", "kind"), [(0, "0 failed"), (30, "0 successful"), (5, "5 failed")])
def test_what_cannot_be_contrasted_is_refused_before_anybody_is_asked(
    failed: int, kind: str, server: ReadingServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = [one.model_copy(update={"success": number >= failed}) for number, one in enumerate(talks()[:30])]
    (tmp_path / "talks.jsonl").write_text(rows(some), encoding="utf-8")
    command = ["analyze", str(tmp_path / "talks.jsonl"), "--out", str(tmp_path / "out")]
    for reader in (["--llm", f"{server.url}#reader"], ["--handoff", str(tmp_path / "asked")]):
        assert main([*command, *reader]) == 2
        error = capsys.readouterr().err
        assert f"{kind} trajectories of 30 are too few to contrast: give 10 or more of each outcome" in error
        assert error.count("\n") == 1
    assert not server.prompts
    assert not (tmp_path / "asked").exists()


BAD = {
    "--llm 'a:b' and --handoff 'x' are two analysts": ["--llm", "a:b", "--handoff", "x"],
    "--wait is for --handoff DIR": ["--wait"],
    "--both compares a reader with the statistics": ["--both"],
    "language model 'gpt' is of no known form: give 'openai:MODEL'": ["--llm", "gpt"],
    "language model 'nobody:gpt' cannot be used": ["--llm", "nobody:gpt"],
    "model server 'http://127.0.0.1:9/v1' does not list its models": ["--llm", "http://127.0.0.1:9/v1"],
    "language model 'cohere:x' needs the package 'langchain-cohere'": ["--llm", "cohere:x"],
}


@pytest.mark.parametrize(("reason", "options"), BAD.items(), ids=[*map(str, range(len(BAD)))])
def test_bad_options_get_one_line_and_exit_code_two(
    reason: str, options: list[str], command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, *options]) == 2
    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_a_provider_without_its_package_or_key_says_what_to_do(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match=r"pip install 'trace-agents\[llm\]'|set the environment variable"):
        load_chat_model(f"{provider}:some-model")
