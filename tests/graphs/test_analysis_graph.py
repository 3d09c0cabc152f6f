"""The analysis graph: its shape, its fan-out, its counts, and going on after a kill."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from graphs.analysis import AnalysisConfig, arun_analysis, build_analysis_graph
from trace_agents.analysis.analyst import Analyst, Discovered, RunLabels
from trace_agents.analysis.statistical import StatisticalAnalyst
from trace_agents.contrast import Thresholds
from trace_agents.errors import InfrastructureError, UsageError
from trace_agents.progress import SilentProgress, Stage
from trace_agents.types import Capability, Message, Trajectory

DRAWING = """---
config:
  flowchart:
    curve: linear
---
graph TD;
	__start__([<p>__start__</p>]):::first
	load(load)
	compact(compact)
	discover(discover)
	merge(merge)
	label(label)
	aggregate(aggregate)
	select(select)
	__end__([<p>__end__</p>]):::last
	__start__ --> load;
	aggregate --> select;
	compact -.-> discover;
	discover --> merge;
	label --> aggregate;
	load --> compact;
	merge -.-> label;
	select --> __end__;
	classDef default fill:#f2f0ff,line-height:1.2
	classDef first fill-opacity:0
	classDef last fill:#bfb6fc
"""


class Clerk:
    """An analyst that answers by rote: a failed trajectory lacks `care` unless its trial is even, and is told so.

    It may be told to break off at its n-th labelling, as a lost endpoint would make it.
    """

    name = "clerk"

    def __init__(self, breaks_at: int | None = None) -> None:
        self.breaks_at = breaks_at
        self.discovered = 0
        self.labelled: list[tuple[int, tuple[str, ...]]] = []

    async def discover(self, trajectories: Sequence[Trajectory]) -> Sequence[Discovered]:
        self.discovered += 1
        return [Discovered(capability=Capability(name="care", title="Care", description="Takes care. Or not."))]

    def draw(self, trajectories: Sequence[Trajectory], run: int) -> Sequence[Trajectory]:
        return list(trajectories)[::-1] if run % 2 else trajectories

    async def label(self, trajectories: Sequence[Trajectory], dictionary: Sequence[Capability], run: int) -> RunLabels:
        if self.breaks_at == len(self.labelled):
            raise InfrastructureError("the endpoint is gone")
        ids = tuple(one.id for one in trajectories)
        self.labelled.append((run, ids))
        letters = "".join("P" if one.success else "L" if one.trial % 2 else "N" for one in trajectories)
        steps = tuple(None if letter == "N" else 0 for letter in letters)
        return RunLabels(run=run, trajectory_ids=ids, labels={"care": letters}, steps={"care": steps})


def trajectories(count: int = 20) -> list[Trajectory]:
    said = (Message(role="assistant", content="Done."),)
    return [
        Trajectory(id=f"t{n}", task_id=f"task-{n // 4}", trial=n % 4, messages=said, success=n % 4 == 0)
        for n in range(count)
    ]


FIVE = AnalysisConfig(thresholds=Thresholds.for_runs(5))


def test_the_graph_is_drawn_as_the_papers_phases() -> None:
    assert build_analysis_graph(StatisticalAnalyst()).get_graph().draw_mermaid() == DRAWING


def test_both_analysts_fit_the_seam() -> None:
    assert isinstance(StatisticalAnalyst(), Analyst)
    assert isinstance(Clerk(), Analyst)


async def test_discovery_runs_once_and_labelling_once_a_run() -> None:
    clerk = Clerk()
    analysis = await arun_analysis(trajectories(), clerk, FIVE)
    assert clerk.discovered == 1
    assert sorted(run for run, _ in clerk.labelled) == [0, 1, 2, 3, 4]
    (care,) = analysis.kept
    assert care.overall.lacking_failed == 10
    assert (care.overall.failed, care.overall.coverage, care.overall.delta) == (15, 10 / 15, 1.0)
    assert (care.selection.passes, care.selection.frequency) == (5, 1.0)
    assert [one.run for one in analysis.runs] == [0, 1, 2, 3, 4]
    assert analysis.verdicts()["care"]["t1"].value == "LACKING"


class Listener(SilentProgress):
    """Keeps when stages begin and end."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Stage]:
        self.heard.append(f"{name} begins")
        with super().stage(name, total) as stage:
            yield stage
        self.heard.append(f"{name} ends")


async def test_the_labelling_stage_begins_once_discovery_has_ended(tmp_path: Path) -> None:
    listener, again = Listener(), Listener()
    checkpoint = tmp_path / "c.sqlite"
    with pytest.raises(InfrastructureError):
        await arun_analysis(trajectories(), Clerk(breaks_at=2), FIVE, listener, checkpoint)
    assert listener.heard == ["discover begins", "discover ends", "label begins"]
    await arun_analysis(trajectories(), Clerk(), FIVE, again, checkpoint)
    assert again.heard == ["label begins", "label ends"]


async def test_batches_of_a_run_are_put_together_in_any_order() -> None:
    whole = await arun_analysis(trajectories(), Clerk(), FIVE)
    clerk = Clerk()
    parts = await arun_analysis(trajectories(), clerk, FIVE.model_copy(update={"batch": 7}))
    assert len(clerk.labelled) == 15
    assert {max(len(ids) for _, ids in clerk.labelled)} == {7}
    assert parts.verdicts() == whole.verdicts()
    assert parts.summary.capabilities == whole.summary.capabilities


async def test_infrastructure_failures_are_left_out_and_counted() -> None:
    lost = trajectories(3)[2].model_copy(update={"id": "lost", "success": None, "error": "time-out"})
    clerk = Clerk()
    analysis = await arun_analysis([*trajectories(), lost], clerk, FIVE)
    assert (analysis.summary.trajectories, analysis.summary.excluded) == (20, 1)
    assert all("lost" not in ids for _, ids in clerk.labelled)


async def test_repeated_ids_are_refused() -> None:
    with pytest.raises(UsageError, match="trajectory id 't0' occurs more than once"):
        await arun_analysis([*trajectories(), trajectories()[0]], Clerk(), FIVE)


async def test_an_analysis_that_broke_off_goes_on_without_asking_again(tmp_path: Path) -> None:
    checkpoint, config = tmp_path / "analysis.sqlite", FIVE.model_copy(update={"concurrency": 1})
    broken = Clerk(breaks_at=3)
    with pytest.raises(InfrastructureError, match="the endpoint is gone"):
        await arun_analysis(trajectories(), broken, config, checkpoint=checkpoint)
    resumed = Clerk()
    analysis = await arun_analysis(trajectories(), resumed, config, checkpoint=checkpoint)
    assert resumed.discovered == 0
    assert sorted(run for run, _ in broken.labelled + resumed.labelled) == [0, 1, 2, 3, 4]
    assert analysis.verdicts() == (await arun_analysis(trajectories(), Clerk(), config)).verdicts()


async def test_a_finished_analysis_is_read_back_and_other_input_is_another_one(tmp_path: Path) -> None:
    checkpoint = tmp_path / "analysis.sqlite"
    first = await arun_analysis(trajectories(), Clerk(), FIVE, checkpoint=checkpoint)
    again = Clerk()
    assert await arun_analysis(trajectories(), again, FIVE, checkpoint=checkpoint) == first
    assert (again.discovered, again.labelled) == (0, [])
    other = Clerk()
    await arun_analysis(trajectories(16), other, FIVE, checkpoint=checkpoint)
    assert other.discovered == 1


async def test_too_few_of_a_class_is_a_usage_error_of_the_statistical_analyst() -> None:
    with pytest.raises(UsageError, match="5 successful trajectories of 20 are too few"):
        await arun_analysis(trajectories(), StatisticalAnalyst(), FIVE)
