"""ToolSandbox's results in upstream's format: written by upstream's functions, read by its code and by ours.

These need `trace-agents benchmarks install toolsandbox`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from toolsandbox_benchmark import episode_of, in_upstreams_python, playable

from mcp_servers.agents.loop import converse, scripted
from mcp_servers.guard import GuardedEpisode
from mcp_servers.toolsandbox import ToolSandbox
from mcp_servers.toolsandbox.environment import WORKER
from mcp_servers.toolsandbox.results import upstream_results
from trace_agents.endpoint import Sampling
from trace_agents.environment import KeepsRecord, ResultsRequest
from trace_agents.importers import load_trajectories
from trace_agents.types import ToolCall, Trajectory

SEND = "send_message_with_contact_content_cellular_off"
AUGMENTED = ("cellular_off_3_distraction_tools", f"{SEND}_3_distraction_tools_tool_name_scrambled")
SUMMARISE = """
import ast, json, pathlib, sys
from collections import defaultdict
from typing import Any
sys.path.insert(0, sys.argv[2])
import standins
standins.install()
import tool_sandbox
from tool_sandbox.analysis import analysis, data_loading
from tool_sandbox.common.execution_context import ScenarioCategories
source = (pathlib.Path(tool_sandbox.__file__).parent / "cli" / "utils.py").read_text()
taken = [each for each in ast.parse(source).body if getattr(each, "name", "") == "get_category_summary"]
exec(compile(ast.Module(taken, []), "utils.py", "exec"))
path = pathlib.Path(sys.argv[1]) / "result_summary.json"
results = data_loading.load_result_summary(path)
rows = data_loading.extract_scenario_results(results)
print(json.dumps({
    "read": {row["category"]: [row["similarity"], row["turn_count"]]
             for row in analysis.extract_aggregated_stats(results).to_dicts()},
    "made": {name: [sum(found[part]) / len(found[part]) for part in ("similarity", "turn_count")]
             for name, found in get_category_summary(results["per_scenario_results"]).items()},
    "played": analysis.extract_meta_stats(rows).to_dicts()[0]["num_scenarios"],
    "similarities": dict(zip(rows["name"], rows["similarity"])),
}))
"""
"""Upstream's own reading of its results, by its modules and the one function of its command that makes the summary."""


@pytest.fixture(scope="module")
def sandbox() -> ToolSandbox:
    return playable()


async def test_an_episodes_record_is_read_back_as_a_run_of_upstreams(sandbox: ToolSandbox, tmp_path: Path) -> None:
    task = sandbox.task(SEND)
    *calls, text = sandbox.oracle(task)
    async with episode_of(sandbox, SEND) as episode:
        assert isinstance(episode, KeepsRecord)
        for each in calls:
            assert isinstance(each, ToolCall)
            assert isinstance(each.arguments, dict)
            await episode.call(each.name, each.arguments)
        await episode.user_turn(str(text))
        record = await episode.record([])
    played = Trajectory(id="one", task_id=SEND, messages=(), reward=1.0, success=True)
    for path, content in sandbox.results(results_request(sandbox, played, record)).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)
    (found,) = load_trajectories(tmp_path).trajectories
    assert (found.task_id, found.reward, found.success, found.stop) == (SEND, 1.0, True, "user")
    called = [(call.name, call.arguments) for message in found.messages for call in message.tool_calls]
    assert called == [(each.name, each.arguments) for each in calls if isinstance(each, ToolCall)]
    assert (found.messages[1].content, found.messages[-1].content) == (task.prompt, text)


async def test_upstreams_own_code_reads_the_same_figures(sandbox: ToolSandbox, tmp_path: Path) -> None:
    tasks = [*sandbox.tasks("offline")[::20], *map(sandbox.task, AUGMENTED)]
    played, records = [], {}
    for number, task in enumerate(tasks):
        actions = sandbox.oracle(task)[number % 2 :]
        async with episode_of(sandbox, task.id) as episode:
            play = await converse(GuardedEpisode.of(episode), lambda tools, actions=actions: scripted(actions), 30)
            verdict = await episode.evaluate(play.messages)
            records[task.id] = await episode.record(play.messages)
        played.append(
            Trajectory(
                id=task.id, task_id=task.id, messages=play.messages, reward=verdict.reward, success=verdict.success
            )
        )
    request = results_request(sandbox, played[0], records[played[0].id])
    for path, content in sandbox.results(
        request.model_copy(update={"tasks": tuple(tasks), "trajectories": tuple(played), "records": records})
    ).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)
    read = json.loads(in_upstreams_python("-c", SUMMARISE, str(tmp_path), str(WORKER)))
    assert read["similarities"] == {each.task_id: each.reward for each in played}
    assert read["played"] == len(tasks)
    assert read["read"] == read["made"]
    assert read["read"]["ALL_CATEGORIES"][0] == pytest.approx(sum(each.reward or 0 for each in played) / len(played))
    assert [each.reward for each in load_trajectories(tmp_path).trajectories] == [each.reward for each in played]


async def test_a_call_that_upstream_cannot_write_down_is_an_error_and_the_episode_is_judged_and_recorded(
    sandbox: ToolSandbox,
) -> None:
    nested: dict[str, Any] = {}
    for _ in range(300):
        nested = {"a": nested}
    for value, wanted in ((float("nan"), "NameError: name 'nan' is not defined"), (nested, "SyntaxError: too many")):
        async with episode_of(sandbox, SEND) as episode:
            result = await GuardedEpisode.of(episode).call("search_contacts", {"name": value})
            assert result.is_error
            assert wanted in result.content
            verdict = await episode.evaluate([])
            record = await episode.record([])
        assert record["result"]["similarity"] == verdict.reward
        assert record["conversation"] is None
        played = Trajectory(id="one", task_id=SEND, messages=(), reward=verdict.reward, success=False)
        files = upstream_results(results_request(sandbox, played, record), "r")
        assert sorted(files) == ["result_summary.json", f"trajectories/{SEND}/execution_context.json"]


def results_request(sandbox: ToolSandbox, played: Trajectory, record: Mapping[str, Any]) -> ResultsRequest:
    return ResultsRequest(
        agent="oracle", model="oracle", sampling=Sampling(), max_turns=30, seed=0, trials=1,
        tasks=(sandbox.task(played.task_id),), trajectories=(played,), records={played.id: record},
    )  # fmt: skip
