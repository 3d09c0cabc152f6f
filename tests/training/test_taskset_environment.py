"""A taskset of verifiers' is an environment: its tools, state, user and rewards are its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import verifiers.v1 as vf
from mcp.server.mcpserver import MCPServer

from mcp_servers.agents.loop import converse, scripted
from mcp_servers.agents.scripted import DO_NOTHING
from mcp_servers.conformance import Options, Status, conform
from mcp_servers.guard import GuardedEpisode
from mcp_servers.server import tool_spec
from trace_agents.environment import Environment, HasOracle, HasProvenance, KeepsRecord, Prepares, WritesResults
from trace_agents.errors import InfrastructureError, TaskUnavailable, UsageError
from trace_agents.registry import load_environment
from trace_agents.types import Action, Evaluation, Message
from training.rollouts import read_traces
from training.taskset_environment import TasksetEnvironment, open_taskset
from training.taskset_environment.servers import the_nursery

ROOMS = f"verifiers:{Path(__file__).parents[2] / 'docs' / 'examples' / 'meeting_rooms'}"


@pytest.fixture(scope="module")
def rooms() -> TasksetEnvironment:
    return open_taskset(ROOMS)


@pytest.fixture(scope="module")
def odd() -> TasksetEnvironment:
    return open_taskset("verifiers:outside_odd")


@pytest.fixture(scope="module")
def quiz() -> TasksetEnvironment:
    return open_taskset("verifiers:outside_quiz")


async def played(environment: TasksetEnvironment, task_id: str, actions: Sequence[Action]) -> Evaluation:
    """The verdict on one episode under `actions`."""
    episode = GuardedEpisode.of(await environment.start(environment.task(task_id)))
    try:
        play = await converse(episode, lambda tools: scripted(actions), 20)
        return await episode.evaluate(play.messages)
    finally:
        await episode.close()


def test_a_taskset_is_found_by_its_scheme() -> None:
    environment = load_environment(ROOMS)
    kinds = (Environment, HasOracle, HasProvenance, KeepsRecord, Prepares, WritesResults)
    assert [kind.__name__ for kind in kinds if not isinstance(environment, kind)] == ["KeepsRecord"]
    assert environment.name == ROOMS
    assert environment.splits == {"all": 5}
    assert [task.id for task in environment.tasks("all")] == ["book", "taken", "crowd", "move", "full"]
    assert environment.task("move").prompt == "Ada here: we are 8 now, same hour."


def test_a_taskset_without_gold_actions_is_no_oracle(odd: TasksetEnvironment) -> None:
    assert not isinstance(odd, HasOracle)


async def test_the_tools_are_the_toolsets_own(rooms: TasksetEnvironment) -> None:
    from meeting_rooms.servers.tool import RoomsToolset
    from meeting_rooms.taskset import SYSTEM

    server = MCPServer("reference")
    RoomsToolset(vf.ToolsetConfig()).register(server)
    stated = [tool_spec(tool) for tool in await server.list_tools()]
    episode = await rooms.start(rooms.task("book"))
    await episode.close()
    assert list(episode.tools) == [one.model_copy(update={"name": f"rooms_{one.name}"}) for one in stated]
    assert episode.policy == SYSTEM


async def test_gold_actions_score_one_and_an_idle_agent_less(rooms: TasksetEnvironment) -> None:
    assert isinstance(rooms, HasOracle)
    for task in rooms.tasks("all"):
        gold = await played(rooms, task.id, rooms.oracle(task))
        assert (gold.reward, gold.success, gold.breakdown) == (1.0, True, {"diary": 1.0, "told": 1.0})
        assert (await played(rooms, task.id, DO_NOTHING)).success is False


async def test_errors_of_a_tool_are_read_by_the_agent(rooms: TasksetEnvironment) -> None:
    episode = await rooms.start(rooms.task("taken"))
    taken = await episode.call("rooms_book", {"room": "Ash", "hour": 10, "who": "Ada"})
    late = await episode.call("rooms_book", {"room": "Ash", "hour": "late", "who": "Ada"})
    free = await episode.call("rooms_free", {"hour": 10, "people": 5})
    unknown = await episode.call("book", {})
    await episode.close()
    assert (taken.is_error, "Ash is taken at 10" in taken.content) == (True, True)
    assert (late.is_error, "valid integer" in late.content) == (True, True)
    assert (free.content, free.structured) == ("Birch\nCedar\nElm", {"result": ["Birch", "Cedar", "Elm"]})
    assert (unknown.is_error, "'rooms_book'" in unknown.content) == (True, True)


async def test_episodes_share_neither_their_state_nor_what_a_server_keeps_in_its_module(
    rooms: TasksetEnvironment, odd: TasksetEnvironment
) -> None:
    tasks = [rooms.task("book"), rooms.task("book"), odd.task("train-plain"), odd.task("train-plain")]
    one, two, first, second = await asyncio.gather(
        *((rooms if task.environment == rooms.name else odd).start(task) for task in tasks)
    )
    booking = {"room": "Ash", "hour": 9, "who": "Ada"}
    assert not (await one.call("rooms_book", booking)).is_error
    assert not (await two.call("rooms_book", booking)).is_error
    assert (await first.call("odd_see", {"word": "a"})).content == "plain\na"
    assert (await second.call("odd_see", {"word": "b"})).content == "plain\nb"
    for episode in (one, two, first, second):
        await episode.close()


async def test_a_closed_episode_leaves_no_server(odd: TasksetEnvironment) -> None:
    episode = await odd.start(odd.task("train-plain"))
    pid = int((await episode.call("odd_process", {})).content)
    await episode.close()
    await episode.close()
    async with asyncio.timeout(60):
        while the_nursery().alive(pid):
            await asyncio.sleep(0)


async def test_the_verdict_stands_and_ends_the_tools(rooms: TasksetEnvironment) -> None:
    episode = await rooms.start(rooms.task("full"))
    verdict = await episode.evaluate([])
    assert await episode.evaluate([Message(role="user", content="Hm.")]) == verdict
    with pytest.raises(UsageError, match="has been judged"):
        await episode.call("rooms_find", {"who": "Ada"})
    assert (await episode.user_turn("Anything else?")).done
    await episode.close()


async def test_an_episode_that_is_closed_unjudged_after_its_end_leaves_no_connection(rooms: TasksetEnvironment) -> None:
    episode = await rooms.start(rooms.task("full"))
    tools = episode._conversation.call.__self__  # type: ignore[union-attr]
    assert (await episode.user_turn("Well.")).done
    await episode.close()
    assert tools._http.is_closed


async def test_a_scripted_user_speaks_in_turn_and_is_scored_by_what_was_said(quiz: TasksetEnvironment) -> None:
    assert quiz.splits == {}
    task = quiz.generate(2)
    assert (task.id, task.seed, task.split, task.prompt) == ("seed-2", 2, None, "")
    assert quiz.task("seed-2") == task
    episode = await quiz.start(task)
    assert (episode.task.prompt, [tool.name for tool in episode.tools]) == ("q2-0", ["note", "process"])
    messages = [Message(role="user", content="q2-0")]
    for number, wanted in enumerate(["q2-1", "q2-2", None]):
        assert (await episode.call("note", {"word": f"q2-{number}"})).content.endswith(f"q2-{number}")
        heard = (await episode.user_turn("yes")).content
        assert heard == wanted
        messages += [Message(role="assistant", content="yes")]
        messages += [Message(role="user", content=heard)] if heard else []
    verdict = await episode.evaluate(messages)
    record = await episode.record(messages)
    await episode.close()
    assert (verdict.reward, verdict.success) == (1.0, True)
    assert verdict.breakdown == {"yes": 1.0, "noted": 1.0, "finalized": 1.0}
    assert record["metrics"]["turns"] == 3.0


async def test_a_shared_server_is_one_and_keeps_rollouts_apart(quiz: TasksetEnvironment) -> None:
    one, two = await asyncio.gather(*(quiz.start(quiz.generate(0)) for _ in range(2)))
    assert (await one.call("note", {"word": "a"})).content == "a"
    assert (await two.call("note", {"word": "b"})).content == "b"
    assert (await one.call("note", {"word": "c"})).content == "a c"
    assert (await one.call("process", {})).content == (await two.call("process", {})).content
    for episode in (one, two):
        await episode.close()


async def test_a_shared_server_that_would_run_elsewhere_is_refused() -> None:
    elsewhere = open_taskset("verifiers:outside_quiz?tools.runtime.type=docker")
    with pytest.raises(UsageError, match="runs in 'docker': start it yourself and set its url"):
        await elsewhere.start(elsewhere.generate(0))


async def test_an_agent_that_stops_early_is_judged_as_far_as_it_came(quiz: TasksetEnvironment) -> None:
    episode = await quiz.start(quiz.generate(1))
    verdict = await episode.evaluate([Message(role="user", content="q1-0"), Message(role="assistant", content="yes")])
    await episode.close()
    assert (verdict.reward, verdict.success) == (0.0, False)


async def test_turns_after_the_taskset_would_have_stopped_are_not_judged(quiz: TasksetEnvironment) -> None:
    episode = await quiz.start(quiz.generate(0))
    messages = [Message(role="user", content="q0-0"), *[Message(role="assistant", content="yes")] * 9]
    await episode.evaluate(messages)
    record = await episode.record(messages)
    await episode.close()
    assert (record["metrics"]["turns"], record["stop_condition"]) == (6.0, "enough")


def test_the_splits_are_the_tasksets_own_or_dealt(odd: TasksetEnvironment) -> None:
    assert odd.splits == {"train": 7, "test": 1}
    assert [task.id for task in odd.tasks("test")] == ["test-plain"]
    assert open_taskset("verifiers:outside_odd?split=test").splits == {"test": 1}
    dealt = open_taskset(f"{ROOMS}?deal=3,1,1")
    assert dealt.splits == {"train": 3, "validation": 1, "test": 1}
    ids = [task.id for split in dealt.splits for task in dealt.tasks(split)]
    assert sorted(ids) == ["book", "crowd", "full", "move", "taken"]
    assert all(dealt.task(task.id) == task for task in dealt.tasks("validation"))


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("verifiers:", "names no taskset"),
        ("verifiers:no-such-taskset", "'no-such-taskset' not found"),
        ("verifiers:json", "defines no `__all__`|exports no Taskset"),
        ("verifiers:tests", "holds no taskset"),
        ("verifiers:outside_pair", "played by 2 agents.*env=single-agent"),
        ("verifiers:outside_odd?nothing=1", "nothing: Extra inputs are not permitted"),
        ("verifiers:outside_odd?split=dev", "split: Input should be 'train' or 'test'"),
        ("verifiers:outside_odd?success=2", "success: Input should be less than or equal to 1"),
        ("verifiers:outside_odd?deal=1,1", "deal: .*three shares"),
        ("verifiers:outside_odd?deal=1,1,1", "has splits of its own"),
        ("verifiers:outside_quiz?deal=1,1,1", "has no end"),
        ("verifiers:outside_odd?task=1&task.judge=2", "sets 'task' twice"),
    ],
)
def test_what_cannot_be_opened_says_why(spec: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    with pytest.raises(UsageError, match=said):
        open_taskset(spec)


def test_tasks_that_cannot_be_loaded_say_why() -> None:
    with pytest.raises(UsageError, match="cannot load its tasks: ModuleNotFoundError: No module named 'no_such_data'"):
        open_taskset("verifiers:outside_odd?module=no_such_data").tasks("train")


def test_unknown_tasks_and_splits_name_what_there_is(rooms: TasksetEnvironment, quiz: TasksetEnvironment) -> None:
    with pytest.raises(UsageError, match="'book', 'crowd'"):
        rooms.task("sing")
    with pytest.raises(UsageError, match="'all'"):
        rooms.tasks("train")
    with pytest.raises(UsageError, match="fixed tasks only"):
        rooms.generate(1)
    for wrong in ("seed-x", "seed-01", "1"):
        with pytest.raises(UsageError, match="'seed-0', 'seed-1'"):
            quiz.task(wrong)


async def test_an_environment_of_one_agent_plays_what_two_would() -> None:
    pair = open_taskset("verifiers:outside_pair?env=single-agent")
    episode = await pair.start(pair.tasks("all")[0])
    assert (episode.task.prompt, episode.tools, (await episode.user_turn("Hello.")).done) == ("Hello.", (), True)
    assert (await episode.evaluate([])).reward == 0.0
    await episode.close()


@pytest.mark.parametrize(
    ("task_id", "kind", "said"),
    [
        ("tokens", UsageError, "reads 'token_ids'"),
        ("negative", UsageError, r"rewarded with -0.5 \(odd -0.5 × 1\).*task.rewards.NAME.weight"),
        ("raises", InfrastructureError, "ZeroDivisionError: no guests"),
    ],
)
async def test_rewards_that_have_no_place_here_say_so(
    odd: TasksetEnvironment, task_id: str, kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        await played(odd, f"train-{task_id}", ["Well."])


async def test_a_weight_brings_a_reward_into_its_place() -> None:
    weighted = open_taskset("verifiers:outside_odd?task.rewards.odd.weight=-1&success=0.5&split=train")
    verdict = await played(weighted, "negative", ["Well."])
    assert (verdict.reward, verdict.success, verdict.breakdown) == (0.5, True, {"words": 1.0})


async def test_what_is_not_here_is_unavailable(odd: TasksetEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    with pytest.raises(TaskUnavailable, match="a picture in its prompt"):
        await odd.start(odd.task("train-picture"))
    with pytest.raises(TaskUnavailable, match=r"'image' cannot be played here: .*requires image 'python:3'"):
        await odd.start(odd.task("train-image"))
    where = "task.judge.base_url=https://judge.test/v1&task.judge.api_key_var=JUDGE_KEY&task.judge.model=wise"
    judged = open_taskset(f"verifiers:outside_odd?{where}")
    with pytest.raises(TaskUnavailable, match=r"judged by 'wise' at 'https://judge.test/v1': set JUDGE_KEY"):
        await judged.start(judged.task("train-plain"))


async def test_failures_of_the_tasksets_code_and_servers_are_infrastructure(odd: TasksetEnvironment) -> None:
    with pytest.raises(InfrastructureError, match="LookupError: the table is not laid"):
        await odd.start(odd.task("train-setup"))
    broken = open_taskset("verifiers:outside_odd?task.tools.starts=false")
    with pytest.raises(InfrastructureError, match=r"did not answer.*RuntimeError: the shelf is empty"):
        await broken.start(broken.task("train-plain"))
    episode = await odd.start(odd.task("train-plain"))
    with pytest.raises(InfrastructureError, match="tool 'odd_die' could not be called"):
        await episode.call("odd_die", {})
    with pytest.raises(InfrastructureError, match="tool 'odd_see' could not be called"):
        await episode.call("odd_see", {"word": "a"})
    assert (await episode.evaluate([])).reward == 0.5
    await episode.close()


async def test_a_nursery_that_was_killed_is_started_again(odd: TasksetEnvironment) -> None:
    await (await odd.start(odd.task("train-plain"))).close()
    process = the_nursery()._process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    episode = await odd.start(odd.task("train-plain"))
    assert (await episode.call("odd_see", {"word": "a"})).content == "plain\na"
    await episode.close()


async def test_results_are_written_as_verifiers_writes_them(rooms: TasksetEnvironment, tmp_path: Path) -> None:
    from trace_agents.endpoint import Sampling
    from trace_agents.environment import ResultsRequest
    from trace_agents.types import Trajectory

    task = rooms.task("move")
    episode = await rooms.start(task)
    play = await converse(episode, lambda tools: scripted(rooms.oracle(task)), 9)  # type: ignore[attr-defined]
    await episode.evaluate(play.messages)
    record = await episode.record(play.messages)
    await episode.close()
    request: dict[str, Any] = {"agent": "oracle", "model": "oracle", "sampling": Sampling(), "max_turns": 9, "seed": 0}
    trajectory = Trajectory(id="one", task_id=task.id, messages=tuple(play.messages))
    written = rooms.results(
        ResultsRequest(**request, trials=1, tasks=(task,), trajectories=(trajectory,), records={"one": record})
    )
    (tmp_path / "traces.jsonl").write_text(written["traces.jsonl"])
    (trace,) = read_traces(tmp_path / "traces.jsonl")
    assert (trace.reward, trace.ok, trace.agent.config.model, trace.task.data.id) == (1.0, True, "oracle", "move")
    assert [json.loads(call.arguments) for call in trace.assistant_messages[0].tool_calls or ()] == [
        {"room": "Ash", "hour": 11}
    ]


@pytest.mark.slow
async def test_the_example_keeps_the_contract() -> None:
    # Without other processes, each of which would import verifiers for ten seconds: `trace-agents conform` starts them.
    report = await conform(ROOMS, Options(tasks=2, episodes=4, quick=True))
    assert [(one.check, one.found) for one in report.findings if one.status is Status.FAILED] == []
    left_out = ["generation", "processes", "door-stdio", "door-http"]
    assert [one.check for one in report.findings if one.status is Status.SKIPPED] == left_out
    assert len(report.findings) == 24
