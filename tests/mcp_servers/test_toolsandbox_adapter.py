"""What of ToolSandbox's adapter needs none of upstream: settings, splits, facts, results, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mcp_servers.benchmark.installation import Installation
from mcp_servers.benchmark.users import UserChoice, UserKind
from mcp_servers.toolsandbox import ToolSandbox
from mcp_servers.toolsandbox.facts import FactBook, read_facts
from mcp_servers.toolsandbox.provenance import check_code, check_tools, release
from mcp_servers.toolsandbox.results import upstream_results
from mcp_servers.toolsandbox.settings import NOW, Settings, read_settings
from mcp_servers.toolsandbox.splits import split_of, splits_of
from trace_agents.cli import main
from trace_agents.endpoint import Sampling
from trace_agents.environment import ResultsRequest
from trace_agents.errors import UsageError
from trace_agents.importers import load_trajectories
from trace_agents.types import Message, TaskInstance, Trajectory

FACT = {"url": "https://a.example/find", "params": {"q": "x", "n": 2}, "response": {"found": [1]}}


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """Variables of an installation, in `tmp_path`, that has no upstream."""
    made = Installation(python=tmp_path / "python", source=".", revision="r", accept=("a",))
    (tmp_path / "toolsandbox").mkdir()
    (tmp_path / "toolsandbox" / "install.json").write_text(made.model_dump_json())
    return {"TRACE_AGENTS_BENCHMARKS": str(tmp_path)}


def written(folder: Path, name: str, value: object) -> str:
    (folder / name).write_text(json.dumps(value))
    return str(folder / name)


def task(name: str, *categories: str, needs: bool = False) -> TaskInstance:
    data = {"categories": list(categories), "needs_rapid_api": needs}
    return TaskInstance(id=name, environment="toolsandbox", split=split_of(categories), prompt="", data=data)


def test_variables_go_before_what_was_installed(home: dict[str, str], tmp_path: Path) -> None:
    plain = read_settings(home)
    assert (plain.accept, plain.now, plain.facts, plain.key, plain.lines) == (("a",), NOW, None, "", {})
    assert plain.kept == tmp_path / "toolsandbox" / "scenarios"
    named = {
        "TRACE_AGENTS_TOOLSANDBOX_ACCEPT": "b,c",
        "TRACE_AGENTS_TOOLSANDBOX_NOW": "2026-01-01T00:00:00Z",
        "TRACE_AGENTS_TOOLSANDBOX_FACTS": written(tmp_path, "facts.json", {"version": 1, "facts": [FACT]}),
        "TRACE_AGENTS_USER": "scripted",
        "TRACE_AGENTS_USER_LINES": written(tmp_path, "lines.json", {"one": ["Yes.", "No."]}),
    }
    other = read_settings(home | named)
    assert (other.accept, other.now) == (("a", "b", "c"), "2026-01-01T00:00:00+00:00")
    assert (other.user.kind, other.lines) == (UserKind.SCRIPTED, {"one": ("Yes.", "No.")})
    assert other.facts is not None
    assert [fact.model_dump() for fact in other.facts] == [FACT]
    secret = read_settings(home | {"RAPID_API_KEY": "secret"})
    assert (secret.facts, secret.key) == ((), "secret")
    assert "secret" not in repr(secret)


@pytest.mark.parametrize(
    ("named", "wanted"),
    [
        ({"TRACE_AGENTS_TOOLSANDBOX_NOW": "soon"}, "'soon' is no time with a zone: write it like '2024-"),
        ({"TRACE_AGENTS_TOOLSANDBOX_NOW": "2026-01-01"}, "'2026-01-01' is no time with a zone"),
        (
            {"TRACE_AGENTS_TOOLSANDBOX_FACTS": "/none.json"},
            "'/none.json' cannot be read .*: name a file",
        ),
        ({"TRACE_AGENTS_USER_LINES": "/none.json"}, "'/none.json' cannot be read .*: give a file"),
        ({"TRACE_AGENTS_USER": "human"}, "unknown simulated user in TRACE_AGENTS_USER 'human'"),
    ],
)
def test_variables_that_cannot_be_used_are_refused(home: dict[str, str], named: dict[str, str], wanted: str) -> None:
    with pytest.raises(UsageError, match=wanted):
        read_settings(home | named)


def test_a_damaged_file_of_facts_is_refused_with_its_shape(tmp_path: Path) -> None:
    (tmp_path / "facts.json").write_text('{"facts": [{"url": 1}]}')
    with pytest.raises(UsageError, match=r"is damaged \(3 faults\): its shape is"):
        read_facts(tmp_path / "facts.json", may_be_new=True)


def test_what_is_learned_is_written_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "facts.json"
    book = FactBook(read_facts(path, may_be_new=True), path)
    assert book.known == []
    book.learn([FACT])
    assert book.known == [FACT]
    assert [fact.model_dump() for fact in read_facts(path, may_be_new=False)] == [FACT]
    assert FactBook(None, None).known is None


def test_splits_count_scenarios_as_upstreams_summary_does() -> None:
    tasks = [
        task("plain", "STATE_DEPENDENCY", "NO_DISTRACTION_TOOLS"),
        task("asks", "SINGLE_TOOL_CALL", "NO_DISTRACTION_TOOLS", needs=True),
        task("plain_3", "STATE_DEPENDENCY", "THREE_DISTRACTION_TOOLS"),
        task("plain_3_name", "STATE_DEPENDENCY", "THREE_DISTRACTION_TOOLS", "TOOL_NAME_SCRAMBLED"),
    ]
    assert splits_of(tasks) == {
        "base": ["plain", "asks"],
        "offline": ["plain"],
        "all": ["plain", "asks", "plain_3", "plain_3_name"],
        "state-dependency": ["plain"],
        "single-tool-call": ["asks"],
        "three-distraction-tools": ["plain_3"],
        "tool-name-scrambled": ["plain_3_name"],
    }


def test_other_code_and_tools_are_refused_with_both_hashes_and_accepted_by_their_own() -> None:
    known = release()
    assert check_code(known["code"], ()) == known["commit"]
    assert check_tools(known["tools"], ()) == known["tools"]
    for check, mark in ((check_code, "code"), (check_tools, "tools")):
        with pytest.raises(
            UsageError, match=f"SHA-256 other, not {known[mark]}.*TRACE_AGENTS_TOOLSANDBOX_ACCEPT=other"
        ):
            check("other", ())
        assert "other (altered, accepted)" in check("other", ("other",))


async def test_a_python_that_is_gone_and_a_user_without_a_model_are_refused(tmp_path: Path) -> None:
    silent = Settings(python=tmp_path / "python", kept=tmp_path, user=UserChoice(kind=UserKind.NONE))
    with pytest.raises(UsageError, match="the Python of benchmark 'toolsandbox', cannot be run"):
        await ToolSandbox(silent).start(task("plain"))
    spoken = Settings(python=tmp_path / "python", kept=tmp_path)
    with pytest.raises(UsageError, match=r"model has no url .* set TRACE_AGENTS_USER_URL"):
        await ToolSandbox(spoken).start(task("plain"))
    with pytest.raises(UsageError, match="is of environment 'helpdesk', not of 'toolsandbox'"):
        await ToolSandbox(silent).start(TaskInstance(id="a", environment="helpdesk", prompt=""))


def source(folder: Path, *, licensed: bool) -> str:
    """A source tree that is not upstream's."""
    folder.mkdir()
    (folder / "pyproject.toml").write_text("[project]\nname = 'tool_sandbox'\n")
    if licensed:
        (folder / "LICENSE").write_text("Terms of the owner's own.")
    return str(folder)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["install", "toolsandbox"], "--from is missing: give upstream's repository of benchmark 'toolsandbox'"),
        (["show", "toolsandbox"], "benchmark 'toolsandbox' is not installed in"),
        (["check", "toolsandbox"], "benchmark 'toolsandbox' is not installed in"),
        (["check", "toolsandbox", "--domain", "mock"], "--domain 'mock' is for benchmark 'tau2'"),
        (["check", "tau2", "--split", "base"], "--split 'base' is for benchmark 'toolsandbox'"),
        (
            ["install", "toolsandbox", "--from", "nowhere", "--data", "x"],
            "--data 'x' is not for benchmark 'toolsandbox'",
        ),
    ],
)
def test_bad_commands_are_one_line_and_code_2(
    words: list[str], wanted: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["benchmarks", *words, "--folder", str(tmp_path / "home")]) == 2
    assert wanted in capsys.readouterr().err
    assert not list((tmp_path / "home").rglob("made-*"))


def test_nothing_is_installed_before_the_licence_is_shown_and_accepted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["benchmarks", "install", "toolsandbox", "--folder", str(tmp_path / "home"), "--from"]
    assert main([*words, source(tmp_path / "a", licensed=False)]) == 2
    assert "has no 'LICENSE'" in capsys.readouterr().err
    assert main([*words, source(tmp_path / "b", licensed=True)]) == 2
    shown = capsys.readouterr().err
    assert shown.index("Terms of the owner's own.") < shown.index("upstream's licence was not accepted: nothing is")
    assert not (tmp_path / "home").exists()


def test_results_in_upstreams_format_are_read_back_as_they_were(tmp_path: Path) -> None:
    messages = (
        Message(role="user", content="Switch it off."),
        Message(role="assistant", content="I have switched it off."),
    )
    played = [
        Trajectory(
            id=f"{name}#0", task_id=name, environment="toolsandbox", messages=messages, reward=reward, success=won
        )
        for name, reward, won in (("one", 1.0, True), ("two", 0.5, False))
    ]
    unplayed = Trajectory(id="three#0", task_id="three", messages=(), error="no key")
    records = {
        each.id: {
            "result": {
                "name": each.task_id,
                "categories": ["STATE_DEPENDENCY"],
                "similarity": each.reward,
                "milestone_similarity": each.reward,
                "turn_count": 3,
            },
            "conversation": [message.openai() for message in messages],
            "context": {"_dbs": {"SANDBOX": [{"conversation_active": False}]}},
        }
        for each in played
    }
    request = ResultsRequest(
        agent="a",
        model="a",
        sampling=Sampling(),
        max_turns=9,
        seed=0,
        trials=1,
        tasks=(task("one"), task("two"), task("three", needs=True)),
        trajectories=(*played, unplayed),
        records=records,
    )
    for path, content in upstream_results(request, "r").items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)
    summary = json.loads((tmp_path / "result_summary.json").read_text())
    whole = {"similarity": 0.75, "turn_count": 3.0}
    assert summary["category_aggregated_results"] == {"STATE_DEPENDENCY": whole, "ALL_CATEGORIES": whole}
    assert summary["git_sha"] == "r"
    found = load_trajectories(tmp_path).trajectories
    assert [(each.task_id, each.reward, each.success, each.messages) for each in found] == [
        (each.task_id, each.reward, each.success, messages) for each in played
    ]
    several = upstream_results(request.model_copy(update={"trials": 2}), "r")
    assert {path.split("/")[0] for path in several} == {"trial-0", "trial-1"}
