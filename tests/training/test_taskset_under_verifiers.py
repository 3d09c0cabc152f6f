"""verifiers' own runner, with its own tool servers, gives an episode's actions the same trace and the same rewards."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import verifiers.v1 as vf
from starlette.applications import Starlette
from starlette.routing import Route
from test_rollouts_under_verifiers import ChatServer
from verifiers.v1.clients import ModelContext
from verifiers.v1.configs.client import EvalClientConfig
from verifiers.v1.utils.loaders import load_environment, resolve_env_config

from mcp_servers.agents.loop import converse, scripted
from trace_agents.cli.serve import listen
from trace_agents.types import Action, ToolCall
from training.taskset_environment import TasksetEnvironment, open_taskset

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
ROOMS = EXAMPLES / "meeting_rooms"


def call(name: str, **arguments: Any) -> ToolCall:
    return ToolCall(name=name, arguments=arguments)


# Raised by verifiers' own MCP client at the time of writing, about a setting of tenacity's.
pytestmark = pytest.mark.filterwarnings("ignore:The 'initial' parameter is deprecated:DeprecationWarning")

PLAYS: dict[str, tuple[str, Sequence[Action]]] = {
    "move": (
        "move",
        [
            call("rooms_find", who="Ada"),
            call("rooms_cancel", room="Ash", hour=11),
            call("rooms_book", room="Elm", hour=11, who="Ada"),
            call("rooms_book", room="Cedar", hour=11, who="Ada"),
            "You meet in Cedar.",
        ],
    ),
    "said and not done": ("book", [call("rooms_free", hour=9, people=4), "You meet in Ash."]),
}
"""What is played -> task, actions."""


@pytest.fixture
async def model() -> AsyncIterator[ChatServer]:
    scripted_model = ChatServer(())
    app = Starlette(routes=[Route("/v1/chat/completions", scripted_model.answer, methods=["POST"])])
    listening = listen("127.0.0.1", 0)
    scripted_model.url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    running = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", ws="none"))
    task = asyncio.create_task(running.serve(sockets=[listening]))
    yield scripted_model
    running.should_exit = True
    await task


def lines(actions: Sequence[Action]) -> list[dict[str, Any]]:
    """The actions as a chat model says them."""
    said: list[dict[str, Any]] = []
    for number, action in enumerate(actions):
        if isinstance(action, str):
            said.append({"content": action})
        else:
            function = {"name": action.name, "arguments": json.dumps(action.arguments)}
            said.append({"tool_calls": [{"id": f"c-{number}", "type": "function", "function": function}]})
    return said


async def run_by_verifiers(taskset: str, place: int, actions: Sequence[Action], model: ChatServer) -> vf.Trace:
    """The trace of verifiers' own rollout of the task at `place`."""
    model.lines = lines(actions)
    seat = {"harness": {"id": "outside_harness"}, "runtime": {"type": "subprocess"}}
    environment = load_environment(resolve_env_config({"taskset": {"id": taskset}, "agent": seat}))
    (task,) = environment.taskset.include(idx=[place])
    async with environment.serving():
        (slot,) = environment.slots(task)
        client = EvalClientConfig(base_url=model.url, api_key_var="SCRIPTED_KEY")
        episode = await environment.run_slot(slot, ModelContext(model="scripted", client=client))
    assert episode.errors == []
    (trace,) = episode.traces
    assert trace.errors == []
    return trace


async def played_here(environment: TasksetEnvironment, task_id: str, actions: Sequence[Action]) -> vf.WireTrace:
    """The trace of an episode under the same actions."""
    episode = await environment.start(environment.task(task_id))
    try:
        play = await converse(episode, lambda tools: scripted(actions), 20)
        await episode.evaluate(play.messages)
        return vf.WireTrace.model_validate(await episode.record(play.messages))
    finally:
        await episode.close()


def told(trace: vf.Trace) -> list[tuple[str, Any, Any]]:
    """The conversation without the names of calls."""
    found = []
    for message in trace.messages:
        calls = [(one.name, json.loads(one.arguments)) for one in getattr(message, "tool_calls", None) or ()]
        found.append((message.role, message.content or None, calls))
    return found


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the tasksets were installed, for the processes that verifiers starts."""
    monkeypatch.syspath_prepend(str(ROOMS))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOMS), str(Path(__file__).parent)]))
    monkeypatch.setenv("SCRIPTED_KEY", "none")


@pytest.mark.slow
@pytest.mark.usefixtures("importable")
async def test_the_same_actions_give_the_same_trace_and_rewards(model: ChatServer) -> None:
    rooms = open_taskset(f"verifiers:{ROOMS}")
    ids = [task.id for task in rooms.tasks("all")]
    for task_id, actions in PLAYS.values():
        model.bodies = []
        theirs = await run_by_verifiers("meeting_rooms", ids.index(task_id), actions, model)
        ours = await played_here(rooms, task_id, actions)
        assert told(ours) == told(theirs)
        assert ours.rewards == theirs.rewards
        assert ours.metrics == theirs.metrics
        assert (ours.task.data.id, ours.task.key, ours.task.hash) == (task_id, theirs.task.key, theirs.task.hash)
        assert [tool.name for tool in ours.tools] == [tool.name for tool in theirs.tools]


@pytest.mark.slow
@pytest.mark.usefixtures("importable")
async def test_a_tasksets_user_and_shared_server_give_the_same_too(model: ChatServer) -> None:
    actions = [call("note", word="q1-0"), "yes", call("note", word="q1-1"), "no"]
    theirs = await run_by_verifiers("outside_quiz", 1, actions, model)
    ours = await played_here(open_taskset("verifiers:outside_quiz"), "seed-1", actions)
    assert told(ours) == told(theirs)
    assert (ours.reward, ours.rewards, ours.metrics) == (0.5, theirs.rewards, theirs.metrics)
    assert ours.stop_condition == theirs.stop_condition
