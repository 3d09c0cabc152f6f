"""Tasks that upstream lets a model judge, from v1.0.0 on: never played without one, and judged in upstream's words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from speaking_endpoint import listening, says
from tau2_benchmark import data_folder, installed, needs_data, unplayed

from mcp_servers.benchmark.users import Endpoint
from mcp_servers.replay import replay
from mcp_servers.tau2 import Tau2Environment
from mcp_servers.tau2.tasks import needs_judge
from trace_agents.errors import InfrastructureError, TaskUnavailable


@needs_data
async def test_a_task_that_a_model_judges_is_not_played_without_one(tmp_path: Path) -> None:
    mock = unplayed("mock", data_folder(tmp_path))
    task = mock.task("create_task_1")
    criteria = {"reward_basis": ["DB", "NL_ASSERTION"], "nl_assertions": ["The agent is polite."]}
    raw = task.data["task"] | {"evaluation_criteria": criteria}
    with pytest.raises(
        TaskUnavailable, match=r"is judged by a model, and there is none: set TRACE_AGENTS_JUDGE_URL and"
    ):
        await mock.start(task.model_copy(update={"data": {"task": raw}}))
    assert not needs_judge(raw | {"evaluation_criteria": criteria | {"nl_assertions": None}})
    assert not needs_judge(raw | {"evaluation_criteria": criteria | {"reward_basis": ["DB"]}})
    assert not needs_judge(raw | {"evaluation_criteria": None})


def retail(judge: Endpoint) -> Tau2Environment:
    settings = installed()
    if settings.release == "v0.2.0":
        pytest.skip("needs upstream's code from v1.0.0 on: v0.2.0 leaves nothing to a model")
    return Tau2Environment("retail", settings.model_copy(update={"judge": judge}))


@pytest.mark.parametrize("met", [True, False])
async def test_the_judges_answer_to_upstreams_prompt_decides(met: bool) -> None:
    with listening() as endpoint:
        environment = retail(Endpoint(**endpoint.choice().model_dump(exclude={"kind"})))
        task = next(task for task in environment.tasks("base") if needs_judge(task.data["task"]))
        stated = task.data["task"]["evaluation_criteria"]["nl_assertions"]
        results = [{"expectedOutcome": each, "reasoning": "seen", "metExpectation": met} for each in stated]
        endpoint.lines = [says(json.dumps({"results": results}))]
        verdict = await replay(environment, task, environment.oracle(task))
        assert (verdict.success, verdict.breakdown) == (met, {"db": 1.0, "nl_assertion": float(met)})
        [asked] = endpoint.asked
        assert (asked["model"], asked["temperature"]) == ("speaker", 0.0)
        assert "evaluate whether the agent satisfies each of the expected outcomes" in asked["messages"][0]["content"]
        assert str(stated) in asked["messages"][1]["content"]
        assert environment.provenance["judge"] == "model speaker"


async def test_a_judge_that_talks_nonsense_or_is_gone_is_a_failure_of_infrastructure() -> None:
    with listening() as endpoint:
        environment = retail(Endpoint(**endpoint.choice().model_dump(exclude={"kind"})))
        task = next(task for task in environment.tasks("base") if needs_judge(task.data["task"]))
        endpoint.lines = [says("All is well.")]
        with pytest.raises(InfrastructureError, match="failed during 'evaluate'"):
            await replay(environment, task, environment.oracle(task))
    with pytest.raises(InfrastructureError, match="the judge's endpoint"):
        await replay(environment, task, environment.oracle(task))
