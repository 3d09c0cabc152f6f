"""The whole loop on the embedded benchmark, small: every artifact is there, and a second run finds all done."""

from pathlib import Path

import pytest

from graphs.evaluation.evaluate import evaluate
from graphs.evaluation.folder import read_result
from graphs.evaluation.playing import Pace
from graphs.evaluation.question import Asked
from graphs.pipeline import build_pipeline, run_pipeline
from graphs.pipeline.scoring import score_analysis
from mcp_servers.helpdesk import Helpdesk
from trace_agents.agent import AgentRequest, load_agent
from trace_agents.artifacts import Arm, ArmKind, EvaluationArtifact
from trace_agents.config import RunConfig
from trace_agents.endpoint import Sampling
from trace_agents.errors import UsageError
from trace_agents.report import build_report
from trace_agents.runstore import RunStore
from trace_agents.types import Label

CONFIG = """
version = 1
[target]
environment = "helpdesk"
rollouts_per_task = 12
max_turns = 12
max_tokens = 96
[synthesis]
certification_groups = 6
[training]
iterations = 1
groups = 4
validation_seeds = 12
[routing]
probe_tasks = 60
rotations = 1
[evaluation]
max_tasks = 24
max_validation_tasks = 12
[baseline]
enabled = false
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_loop_writes_every_artifact_and_runs_nothing_twice(tmp_path: Path) -> None:
    config = RunConfig.parse(CONFIG)
    with RunStore.create(tmp_path / "run", config) as store:
        run_pipeline(config, store)
        before = store.stages
        found = store.read_json("evaluation.json", EvaluationArtifact)
        run_pipeline(config, store)
        assert store.stages == before
    assert [*before] == ["rollouts", "analysis", "synthesis", "training", "composition", "evaluation"]
    assert {ArmKind.BASE, ArmKind.ROUTER, ArmKind.COMPOSITION, ArmKind.ORACLE} <= {arm.kind for arm in found.arms}
    assert found.analysis is not None
    assert found.analysis.precision >= 0.8
    assert sum(arm.picked for arm in found.arms) == 1
    assert build_report(tmp_path / "run").stat().st_size > 10_000
    picked = next(arm for arm in found.arms if arm.picked)
    for spec, arm in (("#base", found.arms[0]), ("", picked)):
        assert played(f"run:{tmp_path / 'run'}{spec}", tmp_path / f"played{arm.name}") == outcomes(arm)


def played(agent: str, out: Path) -> dict[str, bool | None]:
    """What the run's agent reaches on the run's test tasks, under `evaluate`."""
    tasks = tuple(task.id for task in Helpdesk().tasks("test")[:24])
    evaluate(Asked(environment="helpdesk", agent=agent, tasks=tasks, max_turns=12, max_tokens=96), out, Pace())
    return {one.task_id: one.success for one in read_result(out)[1]}


def outcomes(arm: Arm) -> dict[str, bool | None]:
    return {one.task_id: one.success for one in arm.outcomes}


def test_a_run_that_is_not_there_or_not_finished_is_no_agent(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        load_agent(AgentRequest(f"run:{tmp_path / 'none'}", Helpdesk(), Sampling()))
    with RunStore.create(tmp_path / "begun", RunConfig.parse(CONFIG)):
        pass
    with pytest.raises(UsageError, match="has no router yet: finish it"):
        load_agent(AgentRequest(f"run:{tmp_path / 'begun'}", Helpdesk(), Sampling()))


def test_the_pipeline_runs_its_stages_in_order() -> None:
    assert "rollouts --> analysis" in build_pipeline().get_graph().draw_mermaid()


def test_kept_capabilities_match_planted_ones_by_behaviour_one_to_one() -> None:
    lacking, present = Label.LACKING, Label.PRESENT
    verdicts = {
        "a": {"1": lacking, "2": lacking, "3": present},
        "b": {"1": lacking, "2": lacking, "3": lacking},
        "c": {"4": lacking},
    }
    truth = {"first": {"1": True, "2": True, "3": False}, "second": {"4": False}}
    score = score_analysis(verdicts, truth)
    assert score.matched == {"a": "first"}
    assert (score.precision, score.recall) == (1 / 3, 1 / 2)
