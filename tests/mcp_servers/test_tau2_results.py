"""An evaluation of τ²-bench in upstream's own format: our importer and upstream's loader read it back."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from environment_serving import serving
from tau2_benchmark import installed

from mcp_servers.benchmark.users import UserChoice, UserKind
from mcp_servers.tau2.environment import BASE, WORKER, Tau2Environment
from mcp_servers.tau2.results import FILE, kept, results
from trace_agents.agent import Agent, AgentRequest, PlaySettings, load_agent
from trace_agents.cli import main
from trace_agents.endpoint import Sampling
from trace_agents.environment import ResultsRequest, WritesResults
from trace_agents.importers import load_trajectories
from trace_agents.types import Message, StopReason, TaskInstance, ToolCall, Trajectory

TASK = TaskInstance(id="7", environment="tau2/telecom", prompt="Hi.", data={"task": {"id": "7"}})
CALL = ToolCall(id="call_1", name="look", arguments={"line": "L1"})
ITEMS = [
    {"role": "assistant", "content": "Hi! How can I help you today?", "tool_calls": None},
    {"role": "user", "content": "Hi.", "tool_calls": None},
    {"role": "assistant", "content": None, "tool_calls": [{**CALL.model_dump(), "requestor": "assistant"}]},
    {"id": "call_1", "role": "tool", "content": "no line", "requestor": "assistant", "error": True},
    {"role": "assistant", "content": "Restart it.", "tool_calls": None},
    {
        "role": "user",
        "content": None,
        "tool_calls": [{"id": "call_5", "name": "restart", "arguments": {}, "requestor": "user"}],
    },
    {"id": "call_5", "role": "tool", "content": "done", "requestor": "user", "error": False},
    {"role": "user", "content": "###STOP###", "tool_calls": None},
]
SEEN = (
    Message(role="user", content="Hi."),
    Message(role="assistant", tool_calls=(CALL,)),
    Message(role="tool", content="no line", tool_call_id="call_1", name="look", is_error=True),
    Message(role="assistant", content="Restart it."),
)
VERDICT = {"reward": 1.0, "reward_breakdown": {"DB": 1.0}, "wanted": None}


def trajectory(trial: int, success: bool | None) -> Trajectory:
    return Trajectory(
        id=f"tau2/telecom/7/{trial}", task_id="7", trial=trial, messages=SEEN, success=success,
        reward=None if success is None else float(success), stop=StopReason.USER,
    )  # fmt: skip


def request(*played: Trajectory, **records) -> ResultsRequest:
    return ResultsRequest(
        agent="some-model", model="http://here/v1#some-model", sampling=Sampling(max_tokens=99), max_turns=50, seed=3,
        trials=2, tasks=(TASK,), trajectories=played, records=records,
    )  # fmt: skip


def test_our_importer_reads_back_what_was_played(tmp_path: Path) -> None:
    record = kept(ITEMS, "user_stop", VERDICT, (0.0, 2.5))
    asked = request(trajectory(0, True), trajectory(1, None), **{"tau2/telecom/7/0": record})
    files = results(asked, "telecom", "Be kind.", UserChoice(kind=UserKind.SCRIPTED), {"revision": "v0.2.0"})
    (tmp_path / FILE).write_text(files[FILE])
    report = load_trajectories(tmp_path / FILE)
    (one,) = report.trajectories  # What infrastructure failed is not in upstream's file.
    assert report.format == "tau2"
    assert (one.id, one.task_id, one.trial, one.agent) == ("tau2/telecom/7/0", "7", 0, "some-model")
    assert (one.reward, one.success, one.stop, one.info) == (1.0, True, StopReason.USER, {"user_tool_calls": 1})
    # Upstream's record begins with the policy and the greeting, and ends with the user's stop.
    assert [message.role for message in one.messages[:2]] == ["system", "assistant"]
    assert one.messages[2:-1] == SEEN


async def played(environment: Tau2Environment, agent: Agent, task: TaskInstance) -> tuple[Trajectory, dict]:
    episode = await environment.start(task)
    play = await agent.play(episode, PlaySettings())
    verdict = await episode.evaluate(play.messages)
    record = dict(await episode.record(play.messages))
    await episode.close()
    one = Trajectory(
        id=f"{task.id}/0", task_id=task.id, messages=play.messages, reward=verdict.reward, success=verdict.success,
        stop=play.stop,
    )  # fmt: skip
    return one, record


LOAD = """
import sys, standins
standins.install()
from tau2.data_model.simulation import Results
for run in Results.model_validate_json(open(sys.argv[1]).read()).simulations:
    print(run.task_id, run.reward_info.reward, run.termination_reason.value, len(run.messages))
"""


async def test_upstream_reads_the_simulations_with_the_users_own_calls(tmp_path: Path) -> None:
    settings = installed()
    environment = Tau2Environment("telecom", settings)
    assert isinstance(environment, WritesResults)
    agent = load_agent(AgentRequest("oracle", environment, Sampling()))
    found = [await played(environment, agent, task) for task in environment.tasks(BASE)[:3]]
    asked = request(*(one for one, _ in found), **{one.id: record for one, record in found})
    asked = asked.model_copy(update={"tasks": tuple(environment.tasks(BASE)[:3])})
    (tmp_path / FILE).write_text(environment.results(asked)[FILE])
    command = [str(settings.python), "-c", LOAD, str(tmp_path / FILE)]
    read = subprocess.run(command, capture_output=True, text=True, check=True, cwd=WORKER).stdout.split("\n")
    lengths = [len(record["messages"]) for _, record in found]
    assert read[:3] == [
        f"{one.task_id} 1.0 user_stop {length}" for (one, _), length in zip(found, lengths, strict=True)
    ]
    users = [
        item for _, record in found for item in record["messages"] if item["role"] == "user" and item["tool_calls"]
    ]
    assert users
    assert json.loads((tmp_path / FILE).read_text())["info"]["git_commit"] == environment.provenance["revision"]


TIMES = re.compile(r'("(?:timestamp|start_time|end_time|duration)": )("[^"]*"|[\d.]+)')


@pytest.mark.parametrize("domain", ["mock", "telecom"])
def test_a_served_domain_leaves_upstreams_file_as_one_here_does(
    domain: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = Tau2Environment(domain, installed())
    monkeypatch.setenv("TRACE_AGENTS_USER", "scripted")
    tasks = [word for task in environment.tasks(BASE)[:2] for word in ("--tasks", task.id)]
    with serving(environment) as served:
        for place, named in (("there", served.url), ("here", f"tau2/{domain}")):
            words = ["evaluate", named, "--agent", "oracle", *tasks, "--trials", "2", "--no-floors"]
            assert main([*words, "--out", str(tmp_path / place)]) == 0
    there, here = ((tmp_path / place / "results" / FILE).read_text() for place in ("there", "here"))
    assert TIMES.sub(r"\1", there) == TIMES.sub(r"\1", here)
    found = json.loads(there)
    assert [run["reward_info"]["reward"] for run in found["simulations"]] == [1.0] * 4
    assert len({run["start_time"] for run in found["simulations"]}) > 1
    messages = [one for run in found["simulations"] for one in run["messages"]]
    callers = {call["requestor"] for one in messages for call in one.get("tool_calls") or ()}
    assert ("user" in callers) == (domain == "telecom")
