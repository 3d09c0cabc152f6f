"""An environment behind a URL is used like a local one."""

from __future__ import annotations

import asyncio
import json
import pickle
from pathlib import Path
from typing import Any

import httpx
import pytest
from environment_serving import Served, serving
from ledger_environment import Ledger, LedgerEpisode, RecordedLedger

from mcp_servers.gatekeeper import Gatekeeper
from mcp_servers.guard import GuardedEpisode
from mcp_servers.helpdesk import Helpdesk
from mcp_servers.http import HttpConfig
from mcp_servers.remote import RemoteEnvironment
from mcp_servers.wire import ControlError, ProblemCode
from trace_agents.cli import main
from trace_agents.endpoint import Sampling
from trace_agents.environment import Environment, Episode, KeepsRecord, ResultsRequest, WritesResults
from trace_agents.errors import InfrastructureError, TaskUnavailable, UsageError
from trace_agents.registry import load_environment
from trace_agents.types import Evaluation, Message, ToolResult, Trajectory, UserTurn

CONVERSATION = (Message(role="user", content="Please."), Message(role="assistant", content="done"))
CALLS = (
    ("balance", {"account": "ann"}),
    ("balance", {"account": "zoe"}),
    ("transfer", {"from": "ann", "to": "bob", "amount": 7, "note": None}),
    ("transfer", {"from": "ann", "amount": "7"}),
    ("audit", {}),
    ("nope", {}),
)


async def play(episode: Episode) -> tuple[list[ToolResult], UserTurn, UserTurn, Evaluation]:
    results = [await episode.call(name, arguments) for name, arguments in CALLS]
    turns = await episode.user_turn("well?"), await episode.user_turn("done")
    verdict = await episode.evaluate(CONVERSATION)
    await episode.close()
    return results, *turns, verdict


def test_a_remote_environment_states_what_the_local_one_states(ledger: Served) -> None:
    remote, local = RemoteEnvironment(ledger.url), Ledger()
    assert isinstance(remote, Environment)
    assert (remote.name, dict(remote.splits)) == (local.name, dict(local.splits))
    assert list(remote.tasks("train")) == list(local.tasks("train"))
    assert remote.task("train/2") == local.task("train/2")
    assert remote.generate(9) == local.generate(9)


class Keyless(Helpdesk):
    async def start(self, task):
        raise TaskUnavailable(f"task {task.id!r} needs a key")

    def oracle(self, task):
        raise TaskUnavailable(f"task {task.id!r} needs a key")


def test_a_task_that_cannot_be_played_there_is_told_as_here() -> None:
    with serving(Keyless()) as served:
        remote = RemoteEnvironment(served.url)
        task = remote.task("train-003")
        with pytest.raises(TaskUnavailable, match=r"^task 'train-003' needs a key$"):
            asyncio.run(remote.start(task))
        with pytest.raises(TaskUnavailable, match=r"^task 'train-003' needs a key$"):
            remote.oracle(task)


def test_a_refusal_arrives_whole_from_a_process_that_trains(ledger: Served) -> None:
    with pytest.raises(UsageError) as refused:
        RemoteEnvironment(ledger.url).tasks("tset")
    arrived = pickle.loads(pickle.dumps(refused.value))
    assert (type(arrived), str(arrived), arrived.code) == (ControlError, str(refused.value), ProblemCode.UNKNOWN_SPLIT)


def test_a_remote_episode_plays_like_a_local_one(ledger: Served) -> None:
    async def both() -> None:
        remote, local = RemoteEnvironment(ledger.url), Ledger()
        there, here = [await env.start(env.task("train/1")) for env in (remote, local)]
        assert isinstance(there, Episode)
        assert (there.task, tuple(there.tools), there.policy) == (here.task, tuple(here.tools), here.policy)
        assert await play(there) == await play(GuardedEpisode(here))

    asyncio.run(both())


def test_the_helpdesk_is_the_same_from_afar() -> None:
    local = Helpdesk()
    with serving(Helpdesk()) as served:
        remote = RemoteEnvironment(served.url)
        assert list(remote.tasks("test")) == list(local.tasks("test"))

        async def both() -> None:
            task = local.tasks("train")[0]
            there, here = await remote.start(task), await local.start(task)
            assert tuple(there.tools) == tuple(here.tools)
            for name, arguments in (
                ("find_customer", {"email": "a@b.c"}),
                ("get_order", {}),
                ("get_order", {"order_id": "W1"}),
            ):
                assert await there.call(name, arguments) == await here.call(name, arguments)
            assert await there.user_turn("Who are you?") == await here.user_turn("Who are you?")
            assert await there.evaluate(CONVERSATION) == await here.evaluate(CONVERSATION)
            await there.close()

        asyncio.run(both())


def test_an_evaluation_from_afar_leaves_the_benchmarks_own_files_as_one_here_does(tmp_path: Path) -> None:
    words = ["--split", "train", "--agent", "decline", "--trials", "3", "--no-floors"]
    with serving(RecordedLedger()) as served:
        for place, named in (("there", served.url), ("here", "ledger_environment:RecordedLedger")):
            assert main(["evaluate", named, *words, "--out", str(tmp_path / place)]) == 0
    there, here = (files_below(tmp_path / place / "results") for place in ("there", "here"))
    assert list(here) == ["books.json", "run/asked.json"]
    assert there == here
    books = json.loads(here["books.json"])
    assert (len(books), all(one["spoken"] for one in books)) == (9, True)


def files_below(folder: Path) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def request(**others: Any) -> ResultsRequest:
    given = {"agent": "some", "model": "some", "sampling": Sampling(), "max_turns": 5, "seed": 1, "trials": 1}
    return ResultsRequest(**given | {"tasks": (), "trajectories": ()} | others)


def test_only_what_keeps_records_and_writes_results_offers_to_from_afar(ledger: Served) -> None:
    async def started(remote: RemoteEnvironment) -> bool:
        episode = await remote.start(remote.task("train/0"))
        await episode.close()
        return isinstance(episode, KeepsRecord)

    with serving(RecordedLedger()) as served:
        recorded, plain = RemoteEnvironment(served.url), RemoteEnvironment(ledger.url)
        assert [isinstance(remote, WritesResults) for remote in (recorded, plain)] == [True, False]
        assert [asyncio.run(started(remote)) for remote in (recorded, plain)] == [True, False]
    with httpx.Client(base_url=ledger.url) as client:
        path = "/episodes/" + client.post("/episodes", json={"task_id": "train/0"}).json()["id"]
        record = client.post(f"{path}/record", json={"messages": []})
        results = client.post("/results", json=request().model_dump(mode="json"))
    assert (record.status_code, results.status_code) == (422, 422)
    assert "the benchmark keeps no record of the episode of task 'train/0'" in record.text
    assert "environment 'ledger' has no result format of its own" in results.text


def test_records_and_results_that_fail_there_are_told_as_here() -> None:
    async def lose(remote: RemoteEnvironment) -> None:
        episode = await remote.start(remote.task("train/0"))
        assert isinstance(episode, KeepsRecord)
        with pytest.raises(InfrastructureError, match="the record of task 'train/0' failed: OSError: the books are"):
            await episode.record([Message(role="user", content="lost")])
        await episode.close()

    with serving(RecordedLedger()) as served:
        remote = RemoteEnvironment(served.url)
        assert isinstance(remote, WritesResults)
        asyncio.run(lose(remote))
        with pytest.raises(UsageError, match=r"^agent 'nobody' is in no book: name another$"):
            remote.results(request(agent="nobody"))
        trajectory = Trajectory(id="lost", task_id="train/0", messages=())
        with pytest.raises(InfrastructureError, match="writing results failed: KeyError: 'lost'"):
            remote.results(request(trajectories=(trajectory,)))


def test_an_evaluation_may_be_larger_than_any_other_request() -> None:
    with serving(RecordedLedger()) as served:
        remote = RemoteEnvironment(served.url)
        assert isinstance(remote, WritesResults)
        said = "é" * 3_000_000
        one = Trajectory(id="one", task_id="train/0", messages=(Message(role="user", content=said),))
        found = remote.results(request(trajectories=(one,), records={"one": {"spoken": said}}))
        assert json.loads(found["books.json"]) == [{"id": "one", "reward": None, "spoken": said}]


def test_bad_requests_are_usage_errors_with_the_environments_words(ledger: Served) -> None:
    remote = RemoteEnvironment(ledger.url)
    with pytest.raises(UsageError, match="unknown split 'tset': use one of 'test', 'train'"):
        remote.tasks("tset")
    with pytest.raises(UsageError, match=r"unknown task 'zz/\?%20' of environment 'ledger'"):
        remote.task("zz/?%20")
    with pytest.raises(UsageError, match="seed -1 is negative"):
        remote.generate(-1)
    changed = remote.task("train/0").model_copy(update={"prompt": "Something else."})
    with pytest.raises(UsageError, match="task 'train/0' differs from the one that"):
        asyncio.run(remote.start(changed))


def test_failures_of_the_environment_arrive_as_infrastructure(ledger: Served) -> None:
    async def fail() -> None:
        remote = RemoteEnvironment(ledger.url)
        with pytest.raises(InfrastructureError, match="'seed/13' failed: RuntimeError: thirteen"):
            await remote.start(remote.generate(13))
        episode = await remote.start(remote.task("train/0"))
        with pytest.raises(InfrastructureError, match="the bank's back end is down"):
            await episode.call("outage", {})
        with pytest.raises(InfrastructureError, match="simulated user of task 'train/0' failed"):
            await episode.user_turn("crash")
        assert (await episode.call("balance", {"account": "ann"})).is_error is False
        await episode.close()
        await episode.close()
        with pytest.raises(UsageError, match="the episode of task 'train/0' is closed: start a new one"):
            await episode.call("balance", {"account": "ann"})

    asyncio.run(fail())
    closed: list[LedgerEpisode] = [episode for episode in ledger.environment.episodes if episode.closes]
    assert closed
    assert {episode.closes for episode in closed} == {1}


def test_one_episode_serves_calls_from_many_tasks_at_once(ledger: Served) -> None:
    async def crowd() -> list[ToolResult]:
        remote = RemoteEnvironment(ledger.url)
        episode = await remote.start(remote.task("train/0"))
        results = await asyncio.gather(*(episode.call("balance", {"account": "ann"}) for _ in range(8)))
        await asyncio.create_task(episode.close())
        return results

    assert len({result.content for result in asyncio.run(crowd())}) == 1


def test_a_server_that_goes_away_is_infrastructure_and_can_be_closed() -> None:
    async def lose() -> None:
        with serving(Ledger()) as served:
            remote = RemoteEnvironment(served.url)
            episode = await remote.start(remote.task("train/0"))
            await episode.call("balance", {"account": "ann"})
            await asyncio.to_thread(served.stop)
            for asked in (episode.call("audit", {}), episode.call("audit", {}), episode.user_turn("hello")):
                with pytest.raises(InfrastructureError):
                    await asked
            with pytest.raises(InfrastructureError, match="does not answer"):
                await remote.start(episode.task)
            await episode.close()

    asyncio.run(lose())


def test_an_episode_deleted_under_its_player_is_infrastructure(ledger: Served) -> None:
    async def lose() -> None:
        remote = RemoteEnvironment(ledger.url)
        episode = await remote.start(remote.task("train/0"))
        await episode.call("balance", {"account": "ann"})
        httpx.delete(f"{ledger.url}/episodes/{episode.id}")
        with pytest.raises(InfrastructureError, match="was deleted"):
            await episode.user_turn("hello")
        with pytest.raises(InfrastructureError, match="was deleted"):
            await episode.call("balance", {"account": "ann"})
        await episode.close()

    asyncio.run(lose())


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://", "nonsense", "http://[", "http://127.0.0.1:port"])
def test_a_url_where_no_environment_answers_is_a_usage_error(url: str) -> None:
    with pytest.raises(UsageError, match=r"environment answers|not a URL"):
        RemoteEnvironment(url)


def test_the_token_opens_a_protected_control_plane(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Ledger(), HttpConfig(gatekeeper=Gatekeeper(token="s3cret"))) as served:
        with pytest.raises(UsageError, match="the control plane needs its token"):
            RemoteEnvironment(served.url)
        assert RemoteEnvironment(served.url, token="s3cret").name == "ledger"
        monkeypatch.setenv("TRACE_AGENTS_CONTROL_TOKEN", "s3cret")
        assert RemoteEnvironment(served.url).name == "ledger"


def test_a_url_scheme_is_opened_by_whatever_package_registers_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ledger: Served
) -> None:
    package = tmp_path / "bank-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: bank\nVersion: 1\n")
    (package / "entry_points.txt").write_text("[trace_agents.environment_schemes]\nbank = bank_opener:opened\n")
    (tmp_path / "bank_opener.py").write_text(
        "from mcp_servers.remote import RemoteEnvironment\n"
        "def opened(url): return RemoteEnvironment(url.replace('bank://', 'http://'))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert load_environment(ledger.url.replace("http", "bank")).task("train/0") == Ledger().task("train/0")
    with pytest.raises(UsageError, match="unknown URL scheme 'gopher': use one of 'bank'"):
        load_environment("gopher://bank")
