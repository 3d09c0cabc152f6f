"""Any agent is measured in any environment: resumable, beside its floors, its failures apart."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from graphs.evaluation.evaluate import Beside, evaluate
from graphs.evaluation.folder import ResultFolder, read_result
from graphs.evaluation.playing import Ended, Pace, play_all
from graphs.evaluation.question import FLOORS, GENERATED, Asked, EvaluationResult
from mcp_servers.helpdesk import Helpdesk
from synth_envs.manifest import SeedRanges
from trace_agents.agent import Play, PlaySettings
from trace_agents.cli import main
from trace_agents.errors import InfrastructureError, TaskUnavailable, UsageError
from trace_agents.importers import load_trajectories
from trace_agents.types import Evaluation, Message, StopReason, ToolCall, Trajectory

ASKED = Asked(environment="helpdesk", agent="random", tasks=tuple(f"test-{n:03d}" for n in range(12)), trials=2)


class Fixed:
    """Says one sentence; `faults` decide by task what goes wrong, attempt by attempt."""

    name = "fixed"

    def __init__(self, faults: dict[str, list[BaseException]] | None = None) -> None:
        self.faults = faults or {}
        self.plays: list[str] = []

    async def play(self, episode, settings: PlaySettings) -> Play:
        self.plays.append(episode.task.id)
        if faults := self.faults.get(episode.task.id):
            raise faults.pop(0)
        said = Message(role="assistant", content="No.")
        return Play(messages=(Message(role="user", content=episode.task.prompt), said), stop=StopReason.AGENT)


def played(agent: Any, environment: Any = None, pace: Pace | None = None, tasks: int = 3) -> list[Trajectory]:
    found: list[Ended] = []
    environment = environment or Helpdesk()
    pairs = [(task, 0) for task in environment.tasks("train")[:tasks]]
    asyncio.run(play_all(agent, environment, pairs, pace or Pace(), found.append))
    return sorted((ended.trajectory for ended in found), key=lambda one: one.task_id)


def test_a_result_stands_beside_its_ceiling_and_its_floors(tmp_path: Path) -> None:
    result = evaluate(ASKED, tmp_path / "out", Pace(), Beside(FLOORS))
    assert [score.agent for score in result.beside] == ["oracle", "do-nothing", "decline"]
    assert [score.pass_rate.value for score in result.beside] == [1.0, 0.0, 0.0]
    assert (result.score.episodes, result.score.tasks, len(result.score.pass_hat)) == (24, 12, 2)
    assert result.score.breakdown.keys() == {"database", "facts"}
    again, trajectories = read_result(tmp_path / "out")
    assert again == result
    assert len(trajectories) == 24
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count('class="fill"') == 4  # A bar for each agent.
    assert "Between ceiling and floors" in page
    assert "test-003" in page


@pytest.mark.parametrize(
    ("beside", "heading"),
    [((), "Result"), (("oracle",), "Below its ceiling"), (("decline",), "Above its floors")],
)
def test_the_page_speaks_of_those_only_that_stand_beside_the_agent(beside, heading, tmp_path: Path) -> None:
    evaluate(ASKED.model_copy(update={"tasks": ASKED.tasks[:2]}), tmp_path, Pace(), Beside(beside))
    page = (tmp_path / "report.html").read_text()
    assert f"<h2>{heading}</h2>" in page
    assert ("played each task once" in page) == bool(beside)
    assert "evidence first" not in page


def test_the_same_question_on_the_same_folder_plays_nothing_again(tmp_path: Path) -> None:
    first = evaluate(ASKED, tmp_path, Pace(), Beside(FLOORS))
    lines = (tmp_path / "trajectories.jsonl").read_text()
    assert evaluate(ASKED, tmp_path, Pace(), Beside(FLOORS)) == first
    assert (tmp_path / "trajectories.jsonl").read_text() == lines


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"trials": 3}, "its trials is 2, not 3"), ({"agent": "decline"}, "its agent is 'random', not 'decline'")],
)
def test_the_folder_of_another_question_is_refused(tmp_path: Path, changed: dict[str, Any], named: str) -> None:
    evaluate(ASKED, tmp_path, Pace())
    with pytest.raises(UsageError, match=f"answers another question: {named}"):
        evaluate(ASKED.model_copy(update=changed), tmp_path, Pace())


def test_a_folder_of_something_else_is_refused_and_one_in_use_too(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="no evaluation's folder"):
        evaluate(ASKED, tmp_path, Pace())
    question = evaluate(ASKED, tmp_path / "out", Pace()).question
    with (
        ResultFolder.opened(tmp_path / "out", question),
        pytest.raises(UsageError, match="is being written by process"),
    ):
        evaluate(ASKED, tmp_path / "out", Pace())


DYING = """
import os, signal
from pathlib import Path
from mcp_servers.agents.scripted import DoNothing

ARMED = Path(__file__).with_name("armed")


class Dying(DoNothing):
    name = "dying"
    plays = 0

    async def play(self, episode, settings):
        Dying.plays += 1
        if Dying.plays == 9 and ARMED.exists():
            ARMED.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return await super().play(episode, settings)
"""


def test_a_killed_evaluation_goes_on_to_the_same_result(tmp_path: Path) -> None:
    (tmp_path / "dying.py").write_text(DYING)
    (tmp_path / "armed").touch()

    def run(out: str) -> int:
        words = ["evaluate", "helpdesk", "--agent", f"{tmp_path / 'dying.py'}:Dying", "--concurrency", "2"]
        words += [word for n in range(10) for word in ("--tasks", f"test-{n:03d}")]
        command = [sys.executable, "-m", "trace_agents.cli", *words, "--trials", "2", "--out", str(tmp_path / out)]
        return subprocess.run(command, capture_output=True, check=False).returncode

    assert run("killed") == -9
    half = (tmp_path / "killed" / "trajectories.jsonl").read_bytes()
    assert 0 < half.count(b"\n") < 20
    with (tmp_path / "killed" / "trajectories.jsonl").open("ab") as stream:
        stream.write(b'{"id": "torn')
    assert run("killed") == 0
    assert run("whole") == 0
    assert (tmp_path / "killed" / "trajectories.jsonl").read_bytes().startswith(half)
    results = [read_result(tmp_path / name) for name in ("killed", "whole")]
    assert results[0][0] == results[1][0]
    assert len(results[0][1]) == len({(one.task_id, one.trial) for one in results[0][1]}) == 20


def test_what_a_kill_leaves_of_the_first_file_is_no_other_folder(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    (tmp_path / ".question.json.x1y2.part").write_text('{"asked"')
    assert evaluate(ASKED.model_copy(update={"trials": 1}), tmp_path, Pace()).score.episodes == 12
    assert [path.name for path in tmp_path.glob(".*")] == [".lock"]


def test_infrastructure_failures_are_retried_and_then_recorded_apart(tmp_path: Path) -> None:
    agent = Fixed(
        {"train-000": [InfrastructureError("gone")], "train-001": [InfrastructureError(f"gone {n}") for n in range(3)]}
    )
    first, second, third = played(agent)
    assert (first.success, first.info["failed_attempts"]) == (False, 1)
    assert (second.success, second.reward, second.stop, second.error) == (None, None, StopReason.ERROR, "gone 2")
    assert (third.success, third.info["failed_attempts"]) == (False, 0)
    assert agent.plays.count("train-001") == 3


class Failing:
    """Fails on one task until told otherwise."""

    broken = True
    name = "failing"

    def __init__(self, request) -> None:
        self.inner = Fixed()

    async def play(self, episode, settings):
        if self.broken and episode.task.id == "train-001":
            raise InfrastructureError("the server is away")
        return await self.inner.play(episode, settings)


def test_a_failure_of_infrastructure_is_played_again_by_the_same_command(tmp_path, monkeypatch) -> None:
    asked = Asked(environment="helpdesk", agent="test_evaluation:Failing", tasks=("train-000", "train-001"))
    result = evaluate(asked, tmp_path, Pace(retries=0))
    assert (result.score.episodes, result.score.infrastructure_failures) == (1, 1)
    assert "the server is away" in result.notes[0]
    monkeypatch.setattr(sys.modules["test_evaluation"].Failing, "broken", False)
    result = evaluate(asked, tmp_path, Pace(retries=0))
    assert (result.score.episodes, result.score.infrastructure_failures, result.notes) == (2, 0, ())


class Mendable(Helpdesk):
    """Says what it is made from; where `broken`, its `tasks` cannot be started."""

    broken: tuple[str, ...] = ()

    @property
    def provenance(self):
        return {"code": "broken" if self.broken else "mended"}

    async def start(self, task):
        if task.id in self.broken:
            raise InfrastructureError("the desk is on fire")
        return await super().start(task)


def test_a_mended_environment_begins_anew_where_nothing_of_before_has_a_verdict(tmp_path, monkeypatch) -> None:
    asked = Asked(environment="test_evaluation:Mendable", agent="decline", tasks=("train-000", "train-001"))
    monkeypatch.setattr(Mendable, "broken", asked.tasks)
    result = evaluate(asked, tmp_path, Pace(retries=0), Beside(FLOORS))
    assert result.notes[0].endswith("the last: the desk is on fire; the same command plays them again")
    monkeypatch.setattr(Mendable, "broken", ())
    result = evaluate(asked, tmp_path, Pace(retries=0), Beside(FLOORS))
    assert (result.question.provenance, result.notes) == ({"code": "mended"}, ())
    assert [score.episodes for score in (result.score, *result.beside)] == [2, 2, 2]
    assert read_result(tmp_path)[0] == result
    assert [(one.task_id, one.success) for one in read_result(tmp_path)[1]] == [(name, False) for name in asked.tasks]


@pytest.mark.parametrize("agent", ["decline", "test_evaluation:Away"])
def test_verdicts_of_the_environment_before_it_was_mended_are_kept_apart(agent, tmp_path, monkeypatch) -> None:
    asked = Asked(environment="test_evaluation:Mendable", agent=agent, tasks=("train-000", "train-001"))
    monkeypatch.setattr(Mendable, "broken", ("train-001",))
    result = evaluate(asked, tmp_path, Pace(retries=0), Beside(("do-nothing",)))
    assert "plays them again; where the environment itself is to be mended, choose another --out" in result.notes[0]
    monkeypatch.setattr(Mendable, "broken", ())
    with pytest.raises(UsageError, match="as it was before code changed: choose another --out, or remove that folder"):
        evaluate(asked, tmp_path, Pace(retries=0), Beside(("do-nothing",)))
    assert len((tmp_path / "trajectories.jsonl").read_text().splitlines()) == 2


def test_an_agent_that_raises_is_named_with_the_place() -> None:
    with pytest.raises(UsageError, match=r"agent 'fixed' raised on task 'train-002': KeyError.*test_evaluation.py"):
        played(Fixed({"train-002": [KeyError("boom")]}))


@pytest.mark.parametrize(
    ("play", "told"),
    [
        (Play.model_construct(messages=["x"], stop="soon", info=None), "returned a play that is no JSON"),  # type: ignore[arg-type]
        (Play(messages=(), stop=StopReason.ERROR), "returned stop 'error'"),
    ],
)
def test_a_play_that_is_none_is_refused(play: Play, told: str) -> None:
    class Odd(Fixed):
        async def play(self, episode, settings):
            return play

    with pytest.raises(UsageError, match=f"agent 'fixed' on task 'train-000' {told}"):
        played(Odd(), tasks=1)


def test_an_agent_that_returns_something_else_is_told() -> None:
    class Odd(Fixed):
        async def play(self, episode, settings):
            return []

    with pytest.raises(UsageError, match="agent 'fixed' returned a list"):
        played(Odd())


class Odder(BaseException):
    pass


@pytest.mark.parametrize(
    "error",
    [
        SystemExit(0),
        asyncio.CancelledError(),
        ExceptionGroup("two", [KeyError("boom")]),
        BaseExceptionGroup("tasks", [SystemExit(0)]),
        Odder("base"),
    ],
)
def test_an_agent_that_exits_or_cancels_itself_ends_the_evaluation_with_the_place(error: BaseException) -> None:
    with pytest.raises(UsageError, match=r"agent 'fixed' raised on task 'train-001': .*test_evaluation.py"):
        played(Fixed({"train-001": [error]}))


def test_an_agent_whose_parallel_calls_meet_infrastructure_alone_is_not_to_blame() -> None:
    away = ExceptionGroup("calls", [InfrastructureError("the model is away"), ExceptionGroup("in", [TimeoutError()])])
    first, second = played(Fixed({"train-000": [away]}), pace=Pace(retries=0), tasks=2)
    assert (first.success, second.success) == (None, False)
    assert first.error == "fixed: InfrastructureError: the model is away"


@pytest.mark.parametrize(
    ("info", "content", "told"),
    [
        ({"route": object()}, "No.", "a play that is no JSON"),
        ({}, "\ud800", "a play that is no JSON"),
        ({"not_run": True}, "No.", "info with 'not_run'"),
        ({"tokens": 5}, "No.", "info with tokens 5"),
        ({"tokens": {"read": None}}, "No.", "info with tokens {'read': None}"),
        ({"tokens": {"read": -1}}, "No.", "info with tokens {'read': -1}"),
    ],
)
def test_a_play_that_could_not_be_written_or_counted_is_refused(info: dict[str, Any], content: str, told: str) -> None:
    class Odd(Fixed):
        async def play(self, episode, settings):
            return Play(messages=(Message(role="assistant", content=content),), stop=StopReason.AGENT, info=info)

    with pytest.raises(UsageError, match=f"agent 'fixed' on task 'train-000' returned {told}"):
        played(Odd(), tasks=1)


def test_a_row_that_is_no_trajectory_is_named_by_its_line(tmp_path: Path) -> None:
    evaluate(ASKED, tmp_path, Pace())
    path = tmp_path / "trajectories.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], '{"id": "x"}', *lines[2:]]) + "\n")
    with pytest.raises(UsageError, match=r"trajectories.jsonl' line 2 is no trajectory \(task_id: Field required"):
        evaluate(ASKED, tmp_path, Pace())


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file" / "out", tmp_path / ("x" * 300)):
        with pytest.raises(UsageError, match="choose another --out"):
            evaluate(ASKED, folder, Pace())


def test_an_agent_that_never_answers_runs_into_the_time_out() -> None:
    class Stuck(Fixed):
        async def play(self, episode, settings):
            await asyncio.Event().wait()

    (one,) = played(Stuck(), pace=Pace(timeout_s=0.01, retries=1), tasks=1)
    assert (one.success, one.error, one.info["failed_attempts"]) == (None, "the episode took over 0.01 s", 2)


@pytest.mark.parametrize("tool", ["get_order", "no_such_tool"])
def test_the_time_out_reaches_an_agent_that_waits_for_nothing_but_its_tools(tool: str) -> None:
    class Endless(Fixed):
        async def play(self, episode, settings):
            while True:
                await episode.call(tool, {})

    (one,) = played(Endless(), pace=Pace(timeout_s=0.05, retries=0), tasks=1)
    assert (one.success, one.error) == (None, "the episode took over 0.05 s")


class Shared(Helpdesk):
    """Helpdesk on a server that plays two episodes at once; who starts a third waits."""

    most_episodes = 2

    def __init__(self) -> None:
        super().__init__()
        self.seats = asyncio.Semaphore(2)
        self.live = self.most_live = self.waits = 0

    async def start(self, task):
        self.waits += self.seats.locked()
        await self.seats.acquire()
        self.live += 1
        self.most_live = max(self.live, self.most_live)
        episode = await super().start(task)

        async def close():
            self.live -= 1
            self.seats.release()

        episode.close = close
        return episode


class Slow(Fixed):
    """Gives every other episode its turn."""

    async def play(self, episode, settings: PlaySettings) -> Play:
        for _ in range(20):
            await episode.call("get_order", {"order_id": "x"})
        return await super().play(episode, settings)


def test_no_more_episodes_are_played_at_once_than_the_environment_can() -> None:
    shared = Shared()
    found = played(Slow(), shared, Pace(concurrency=8), tasks=12)
    assert [one.success for one in found] == [False] * 12
    assert (shared.live, shared.most_live, shared.waits) == (0, 2, 0)


class Spoiled(Helpdesk):
    """Helpdesk whose task train-001 raises `error` in `method` (the episode's, or `start`)."""

    def __init__(self, method: str, error: BaseException) -> None:
        super().__init__()
        self.method, self.error = method, error

    async def start(self, task):
        async def spoiled(*args):
            raise self.error

        if task.id == "train-001" and self.method == "start":
            await spoiled()
        episode = await super().start(task)
        if task.id == "train-001":
            setattr(episode, self.method, spoiled)
        return episode


class Busy(Fixed):
    """Calls a tool and says a word before it ends."""

    async def play(self, episode, settings: PlaySettings) -> Play:
        await episode.call("get_order", {"order_id": "x"})
        await episode.user_turn("Hello?")
        return await super().play(episode, settings)


@pytest.mark.parametrize("method", ["start", "call", "user_turn", "evaluate", "close"])
@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError(), ZeroDivisionError("none")])
def test_whatever_an_environment_raises_only_its_episode_is_lost(method: str, error: BaseException) -> None:
    first, second, third = played(Busy(), Spoiled(method, error), Pace(retries=0, concurrency=1))
    assert (first.success, second.success, third.success) == (False, None, False)
    assert type(error).__name__ in str(second.error)


def test_an_evaluator_that_refuses_loses_its_episode_alone() -> None:
    refusal = UsageError("the ledger has no such page: mend it")
    first, second, third = played(Fixed(), Spoiled("evaluate", refusal), Pace(retries=0))
    assert (first.success, second.success, third.success) == (False, None, False)
    assert second.error == "evaluating task 'train-001' failed: the ledger has no such page: mend it"


@pytest.mark.parametrize(
    ("verdict", "told"),
    [
        (None, "returned a NoneType: episodes return an Evaluation"),
        (Evaluation(reward=1.5, success=True), "gave reward 1.5"),
        (Evaluation(reward=1.0, success=True, breakdown={"facts": float("nan")}), "gave facts nan"),
    ],
)
def test_a_verdict_that_is_none_is_a_failure_of_infrastructure(verdict: Evaluation | None, told: str) -> None:
    class Odd(Helpdesk):
        async def start(self, task):
            episode = await super().start(task)

            async def evaluate(messages):
                return verdict

            episode.evaluate = evaluate
            return episode

    (one,) = played(Fixed(), Odd(), Pace(retries=0), tasks=1)
    assert (one.success, one.reward) == (None, None)
    assert told in str(one.error)


def test_an_agent_that_closes_its_episode_is_told() -> None:
    class Closing(Fixed):
        async def play(self, episode, settings):
            await episode.close()
            return await super().play(episode, settings)

    with pytest.raises(UsageError, match="agent 'fixed' closed the episode of task 'train-000'"):
        played(Closing(), tasks=1)


def test_an_evaluator_that_raises_is_a_failure_of_infrastructure_and_its_episode_is_closed() -> None:
    closed = []

    class Broken(Helpdesk):
        async def start(self, task):
            episode = await super().start(task)

            async def evaluate(messages):
                raise ZeroDivisionError("no verdict")

            async def close():
                closed.append(task.id)

            episode.evaluate, episode.close = evaluate, close
            return episode

    (one,) = played(Fixed(), Broken(), Pace(retries=0), tasks=1)
    assert one.success is None
    assert "no verdict" in str(one.error)
    assert closed == ["train-000"]


def test_a_task_that_cannot_be_played_here_is_not_run_and_no_failure(tmp_path: Path) -> None:
    asked = Asked(environment="test_evaluation:Keyless", agent="do-nothing", tasks=("train-000", "train-001"))
    result = evaluate(asked, tmp_path, Pace())
    assert (result.score.episodes, result.score.not_run, result.score.infrastructure_failures) == (1, 1, 0)
    assert result.notes == ("1 of 2 tasks were not run: task 'train-000' needs a key",)


class Keyless(Helpdesk):
    async def start(self, task):
        if task.id == "train-000":
            raise TaskUnavailable("task 'train-000' needs a key")
        return await super().start(task)


def test_the_analysis_reads_a_results_folder_and_leaves_the_floors_out(tmp_path: Path) -> None:
    evaluate(ASKED, tmp_path, Pace(), Beside(FLOORS))
    report = load_trajectories(tmp_path)
    assert (report.format, len(report.trajectories)) == ("messages", 24)
    found = {one.id: one for one in report.trajectories}
    for one in read_result(tmp_path)[1]:
        kept = found[one.id]
        assert (kept.messages, kept.tools, kept.success, kept.reward) == (
            one.messages,
            one.tools,
            one.success,
            one.reward,
        )


def test_the_command_prints_figures_and_compares_two_results(tmp_path: Path, capsys) -> None:
    words = ["evaluate", "helpdesk", "--tasks", "test-000", "--tasks", "test-001"]
    assert main([*words, "--agent", "oracle", "--out", str(tmp_path / "a")]) == 0
    shown = capsys.readouterr().out
    assert "oracle" in shown
    assert "do-nothing" in shown
    assert "100.0" in shown
    assert main([*words, "--agent", "decline", "--out", str(tmp_path / "b"), "--json", "--no-floors"]) == 0
    result = EvaluationResult.model_validate_json(capsys.readouterr().out)
    assert (result.score.pass_rate.value, result.beside) == (0.0, ())
    assert main(["evaluate", "--compare", str(tmp_path / "a"), str(tmp_path / "b"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["value"], found["gained"], found["lost"], found["trials"]) == (1.0, 2, 0, 2)


def test_of_many_trials_the_table_shows_the_powers_of_two_and_the_last(tmp_path: Path, capsys) -> None:
    words = ["evaluate", "helpdesk", "--agent", "oracle", "--tasks", "test-000", "--trials", "9", "--no-floors"]
    assert main([*words, "--out", str(tmp_path / "a")]) == 0
    shown = capsys.readouterr().out
    assert [k for k in range(1, 12) if f"k = {k} " in shown] == [1, 2, 4, 8, 9]


def test_two_tasks_have_no_interval_and_the_table_says_why(tmp_path: Path, capsys) -> None:
    asked = ASKED.model_copy(update={"tasks": ASKED.tasks[:2], "agent": "oracle"})
    evaluate(asked, tmp_path / "a", Pace())
    evaluate(asked.model_copy(update={"agent": "decline"}), tmp_path / "b", Pace())
    assert main(["evaluate", "--compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "+100.0 2 / 0" in shown
    assert "no interval: not estimable from 2 tasks, compare 10 or more" in shown


class Away(Fixed):
    """Its model is never there."""

    def __init__(self, request) -> None:
        super().__init__()

    async def play(self, episode, settings):
        raise InfrastructureError("the model is away")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["helpdesk", "--agent", "test_evaluation:Away"], "the model is away; the same command plays them again"),
        (["test_evaluation:Keyless", "--agent", "do-nothing"], "1 of 1 tasks were not run: task 'train-000' needs"),
    ],
)
def test_without_a_verdict_nothing_is_estimated_and_the_code_is_2(words, told, tmp_path: Path, capsys) -> None:
    words = ["evaluate", *words, "--tasks", "train-000", "--retries", "0", "--no-floors", "--out", str(tmp_path / "a")]
    for form in ([], ["--json"]):
        assert main([*words, *form]) == 2
        shown = capsys.readouterr()
        assert "no episode has a verdict" in shown.err
        assert told in shown.err
    figures = json.loads(shown.out)["score"]
    assert [figures[name]["value"] for name in ("pass_rate", "reward")] == [None, None]
    assert "nothing measured" in (tmp_path / "a" / "report.html").read_text()


def test_an_environment_that_only_generates_is_played_on_seeds_that_nothing_was_trained_on(tmp_path: Path) -> None:
    used = SeedRanges()
    assert not {*GENERATED} & {*used.validation.seeds, *used.routing.seeds, used.training.first}
    result = evaluate(Asked(environment="synth/unlock", agent="oracle"), tmp_path, Pace())
    assert result.question.asked.tasks == tuple(f"seed-{seed}" for seed in GENERATED)
    assert (result.score.pass_rate.value, result.score.episodes) == (1.0, 100)
    assert result.notes == ("the tasks are those of seeds 500 to 599; --tasks names others",)


class Splits(Helpdesk):
    """Two splits without a 'test'; in 'twice' two tasks have one id."""

    @property
    def splits(self):
        return {"easy": 2, "twice": 2, "none": 0}

    def tasks(self, split):
        if split not in self.splits:
            return super().tasks(split)
        found = list(super().tasks("train"))[: self.splits[split]]
        return [found[0], found[0]] if split == "twice" else found


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["helpdesk"], "--agent is missing"),
        (["test_evaluation:Splits", "--agent", "oracle"], "give --split 'easy', 'twice', 'none'"),
        (["test_evaluation:Splits", "--agent", "oracle", "--split", "twice"], "task id 'train-000' of environment"),
        (["test_evaluation:Splits", "--agent", "oracle", "--split", "none"], "has no tasks"),
        (["helpdesk", "--agent", "nobody"], "unknown agent 'nobody'"),
        (["nowhere", "--agent", "oracle"], "unknown environment 'nowhere'"),
        (["helpdesk", "--agent", "oracle", "--split", "dev"], "unknown split 'dev'"),
        (["helpdesk", "--agent", "oracle", "--tasks", "test-999"], "unknown task 'test-999'"),
        (["helpdesk", "--agent", "oracle", "--trials", "0"], "--trials"),
        (["helpdesk", "--agent", "oracle", "--temperature", "inf"], "--temperature is inf"),
        (["helpdesk", "--agent", "test_evaluation:Unmade"], "could not be made: RuntimeError: no card"),
        (["helpdesk", "--agent", "test_evaluation:Leaving"], "ended the process with code 0: let it raise or return"),
        (["helpdesk", "--agent", "test_evaluation:LeavingLater"], "ended the process with code 5"),
        (["helpdesk", "--agent", "\udcff:x"], "is no valid text"),
        (["helpdesk", "--agent", "test_evaluation:Numbered"], "not an agent: it needs a name, as text"),
        (["--compare", "here", "there"], "holds no finished evaluation"),
    ],
)
def test_bad_input_is_one_line_and_code_2(words: list[str], told: str, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", *words]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


class Unwritten(Helpdesk):
    """Its own result format fails, and so do the gold actions of one task."""

    def results(self, request):
        raise KeyError("no writer")

    def oracle(self, task):
        if task.id == "train-001":
            raise KeyError("no gold")
        return super().oracle(task)


def test_results_that_the_benchmark_cannot_write_cost_no_figure(tmp_path: Path) -> None:
    asked = Asked(environment="test_evaluation:Unwritten", agent="decline", tasks=("train-000",))
    result = evaluate(asked, tmp_path, Pace(), Beside(FLOORS))
    assert result.score.episodes == 1
    assert result.notes == (
        "there are no results in the benchmark's own format: writing them failed: KeyError: 'no writer'",
    )


class Climbing(Helpdesk):
    """Names a result file that is none of its results."""

    place = ""

    def results(self, request):
        return {"fine.json": "{}", self.place: "taken over"}


@pytest.mark.parametrize("place", ["../evaluation.json", "a/../../question.json", "/elsewhere/x.json", ".", ""])
def test_result_files_stay_below_their_folder(place: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(Climbing, "place", place)
    asked = Asked(environment="test_evaluation:Climbing", agent="decline", tasks=("train-000",))
    [note] = evaluate(asked, tmp_path / "out", Pace()).notes
    assert note.endswith(f"the environment named the file {place!r}, which is not below its results")
    assert not (tmp_path / "out" / "results").exists()
    assert "taken over" not in (tmp_path / "out" / "evaluation.json").read_text()


def test_gold_actions_that_fail_are_named_on_one_line(tmp_path: Path, capsys) -> None:
    words = ["evaluate", "test_evaluation:Unwritten", "--agent", "decline", "--tasks", "train-001"]
    assert main([*words, "--out", str(tmp_path / "a")]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert "finding the gold actions of task 'train-001' failed: KeyError: 'no gold'" in told


class Misspelt(Helpdesk):
    """A gold action of one task, the second of two, names a tool that there is not."""

    def oracle(self, task):
        gold = super().oracle(task)
        return [gold[0], ToolCall(name="refnd", arguments={"order": 7})] if task.id == "train-001" else gold


@pytest.mark.parametrize("agent", ["oracle", "decline"])
def test_the_gold_action_that_was_answered_with_an_error_is_a_note(agent: str, tmp_path: Path) -> None:
    asked = Asked(environment="test_evaluation:Misspelt", agent=agent, tasks=("train-000", "train-001"))
    [note] = evaluate(asked, tmp_path, Pace(), Beside(FLOORS)).notes
    assert note.startswith("the oracle failed 1 of 2 tasks with errors, first 'train-001': gold action 2 of 2, refnd")
    assert """refnd({"order": 7}), answered: unknown tool 'refnd'""" in note
    assert evaluate(asked.model_copy(update={"agent": "do-nothing"}), tmp_path / "a", Pace(), Beside()).notes == ()


class Unmade:
    def __init__(self, request) -> None:
        raise RuntimeError("no card")


class Leaving:
    def __init__(self, request) -> None:
        raise SystemExit(0)


class LeavingLater(Fixed):
    def __init__(self, request) -> None:
        super().__init__()

    async def play(self, episode, settings):
        async def leave():
            raise SystemExit(5)

        await asyncio.gather(leave())


class Numbered(Fixed):
    name = 7  # type: ignore[assignment]


class Talking(Fixed):
    def __init__(self, request) -> None:
        super().__init__()

    async def play(self, episode, settings):
        print("thinking aloud")
        return await super().play(episode, settings)


def test_what_an_agent_prints_stays_out_of_the_figures_in_json(tmp_path: Path, capsys) -> None:
    words = ["evaluate", "helpdesk", "--tasks", "test-000", "--agent", "test_evaluation:Talking", "--no-floors"]
    assert main([*words, "--out", str(tmp_path / "a"), "--json"]) == 0
    shown = capsys.readouterr()
    assert EvaluationResult.model_validate_json(shown.out).score.episodes == 1
    assert "thinking aloud" in shown.err


def test_rates_of_different_tasks_are_told_apart(tmp_path: Path, capsys) -> None:
    evaluate(ASKED, tmp_path / "a", Pace())
    evaluate(ASKED.model_copy(update={"tasks": ASKED.tasks[:2]}), tmp_path / "b", Pace())
    assert main(["evaluate", "--compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert "each over its own tasks" in " ".join(capsys.readouterr().out.split())
