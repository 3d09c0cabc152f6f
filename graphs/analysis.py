"""The analysis graph (§3.3, Figure 2): load → discover → label (N runs, fanned out) → aggregate → select.

The graph owns the order, the fan-out and the checkpoints; the analyst owns every judgement. Trajectories travel
in the run's context, not in its state, so that a checkpoint holds ids and labels only.
"""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypedDict, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langgraph.types import Send
from pydantic import Field

from graphs.checkpoints import sqlite_checkpoints
from trace_agents.analysis.analyst import Analyst, Discovered, RunLabels
from trace_agents.analysis.results import Analysis, Candidate, CapabilitiesArtifact, conclude, joined_runs
from trace_agents.analysis.statistical import StatisticalAnalyst
from trace_agents.contrast import Thresholds
from trace_agents.errors import UsageError
from trace_agents.files import digest
from trace_agents.progress import Progress, SilentProgress, Stage
from trace_agents.types import Record, Trajectory


class AnalysisConfig(Record):
    """How to run the analysis."""

    thresholds: Thresholds = Thresholds()
    """N runs, and what a capability must reach to be kept."""
    batch: int | None = Field(default=None, ge=1)
    """Trajectories a labelling task takes; None: a whole run at once."""
    concurrency: int = Field(default=4, ge=1)
    """Labelling tasks under way at once."""


@dataclass
class AnalysisContext:
    """What a run of the graph works on; not part of its state."""

    trajectories: Sequence[Trajectory]
    progress: Progress = field(default_factory=SilentProgress)
    labelling: Stage | None = None
    """The labelling stage under way, advanced as runs end."""

    @property
    def usable(self) -> list[Trajectory]:
        """Trajectories with a verdict: those that infrastructure failed are left out (§3.1 has no label for them)."""
        return [trajectory for trajectory in self.trajectories if trajectory.success is not None]


class AnalysisState(TypedDict, total=False):
    """State of the graph; plain JSON values, so that any checkpointer can keep it."""

    counts: dict[str, int]
    """`trajectories`, `tasks`, `failed`, `excluded`."""
    dictionary: list[dict[str, Any]]
    """`Discovered` entries."""
    labelled: Annotated[list[dict[str, Any]], operator.add]
    """`RunLabels`, one for each labelling task, in the order they ended."""
    runs: list[dict[str, Any]]
    """`RunLabels`, one for each run."""
    candidates: list[dict[str, Any]]
    """`Candidate` entries."""


class LabelTask(TypedDict):
    """What one labelling task gets."""

    run: int
    start: int
    """First trajectory of the run's draw."""
    stop: int
    dictionary: list[dict[str, Any]]


AnalysisGraph = CompiledStateGraph[Any, Any, Any, Any]


def build_analysis_graph(
    analyst: Analyst, config: AnalysisConfig | None = None, checkpointer: BaseCheckpointSaver[Any] | None = None
) -> AnalysisGraph:
    """The compiled graph of `analyst`. Invoke it with `context=AnalysisContext(...)`.

    With a checkpointer a killed analysis goes on where it stopped when it is invoked again with `None`.
    """
    nodes = _Nodes(analyst, config or AnalysisConfig())
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(AnalysisState, context_schema=AnalysisContext)
    graph.add_node("load", nodes.load)
    graph.add_node("discover", nodes.discover)
    graph.add_node("label", cast(Any, nodes.label))  # Gets a `LabelTask`, not the state.
    graph.add_node("aggregate", nodes.aggregate)
    graph.add_node("select", nodes.select)
    graph.add_edge(START, "load")
    graph.add_edge("load", "discover")
    graph.add_conditional_edges("discover", nodes.fan_out, ["label"])
    graph.add_edge("label", "aggregate")
    graph.add_edge("aggregate", "select")
    graph.add_edge("select", END)
    return graph.compile(checkpointer=checkpointer, name="analysis")


class _Nodes:
    """The graph's nodes."""

    def __init__(self, analyst: Analyst, config: AnalysisConfig) -> None:
        self._analyst = analyst
        self._config = config

    async def load(self, state: AnalysisState, runtime: Runtime[AnalysisContext]) -> AnalysisState:
        """Count what there is and refuse what cannot be told apart."""
        usable = runtime.context.usable
        ids = [trajectory.id for trajectory in usable]
        if len(set(ids)) != len(ids):
            twice = next(identity for identity in ids if ids.count(identity) > 1)
            raise UsageError(f"trajectory id {twice!r} occurs more than once: give each trajectory an id of its own")
        return {
            "counts": {
                "trajectories": len(usable),
                "tasks": len({trajectory.task_id for trajectory in usable}),
                "failed": sum(not trajectory.success for trajectory in usable),
                "excluded": len(runtime.context.trajectories) - len(usable),
            }
        }

    async def discover(self, state: AnalysisState, runtime: Runtime[AnalysisContext]) -> AnalysisState:
        """Discovery phase, once: the canonical dictionary."""
        with runtime.context.progress.stage("discover") as stage:
            found = await self._analyst.discover(runtime.context.usable)
            stage.note(f"{len(found)} candidates")
        return {"dictionary": [entry.model_dump(mode="json") for entry in found]}

    def fan_out(self, state: AnalysisState, runtime: Runtime[AnalysisContext]) -> list[Send]:
        """Labelling phase: a task for each run × batch."""
        tasks = []
        for run in range(self._config.thresholds.runs):
            drawn = len(self._analyst.draw(runtime.context.usable, run))
            size = self._config.batch or max(drawn, 1)
            for start in range(0, max(drawn, 1), size):
                task = LabelTask(run=run, start=start, stop=start + size, dictionary=state["dictionary"])
                tasks.append(Send("label", task))
        return tasks

    async def label(self, task: LabelTask, runtime: Runtime[AnalysisContext]) -> AnalysisState:
        """Label one batch of one run with the fixed dictionary."""
        drawn = self._analyst.draw(runtime.context.usable, task["run"])[task["start"] : task["stop"]]
        dictionary = [Discovered.model_validate(entry).capability for entry in task["dictionary"]]
        labels = await self._analyst.label(drawn, dictionary, task["run"])
        if runtime.context.labelling is not None:
            runtime.context.labelling.advance()
        return {"labelled": [labels.model_dump(mode="json")]}

    async def aggregate(self, state: AnalysisState) -> AnalysisState:
        """Put the batches of each run together."""
        parts = [RunLabels.model_validate(part) for part in state["labelled"]]
        return {"runs": [run.model_dump(mode="json") for run in joined_runs(parts)]}

    async def select(self, state: AnalysisState, runtime: Runtime[AnalysisContext]) -> AnalysisState:
        """Error rates, gap and coverage in each run; keep what passes in K of N; gather the evidence."""
        candidates = conclude(
            [Discovered.model_validate(entry) for entry in state["dictionary"]],
            [RunLabels.model_validate(run) for run in state["runs"]],
            runtime.context.usable,
            self._config.thresholds,
        )
        return {"candidates": [candidate.model_dump(mode="json") for candidate in candidates]}


async def arun_analysis(
    trajectories: Sequence[Trajectory],
    analyst: Analyst | None = None,
    config: AnalysisConfig | None = None,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
) -> Analysis:
    """Analyse trajectories.

    Args:
        trajectories: with unique ids; those without a success label are left out and counted.
        analyst: default is the statistical analyst, which needs no language model.
        config: runs and thresholds.
        progress: who hears of it; default nobody.
        checkpoint: an SQLite file that keeps what was done; an analysis of the same trajectories with the same
            configuration goes on from there. None keeps nothing.

    Raises:
        UsageError: too few trajectories of an outcome, or ids that are not unique.
    """
    analyst, config = analyst or StatisticalAnalyst(), config or AnalysisConfig()
    context = AnalysisContext(trajectories, progress or SilentProgress())
    if checkpoint is None:
        state = await _run(build_analysis_graph(analyst, config), context, config, thread=None)
    else:
        async with sqlite_checkpoints(checkpoint) as saver:
            graph = build_analysis_graph(analyst, config, saver)
            state = await _run(graph, context, config, _thread(trajectories, analyst, config))
    return _analysis(state, analyst, config)


def run_analysis(
    trajectories: Sequence[Trajectory],
    analyst: Analyst | None = None,
    config: AnalysisConfig | None = None,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
) -> Analysis:
    """`arun_analysis` where no event loop runs."""
    return asyncio.run(arun_analysis(trajectories, analyst, config, progress, checkpoint))


async def _run(
    graph: AnalysisGraph, context: AnalysisContext, config: AnalysisConfig, thread: str | None
) -> AnalysisState:
    options: RunnableConfig = {"max_concurrency": config.concurrency}
    start: AnalysisState | None = {}
    if thread is not None:
        options["configurable"] = {"thread_id": thread}
        if (held := await graph.aget_state(options)).created_at is not None:
            if not held.next:
                return cast(AnalysisState, held.values)
            start = None
    with context.progress.stage("label") as stage:
        context.labelling = stage
        return cast(AnalysisState, await graph.ainvoke(start, options, context=context))


def _thread(trajectories: Sequence[Trajectory], analyst: Analyst, config: AnalysisConfig) -> str:
    """Names the analysis: other trajectories or another configuration are another one."""
    content = [trajectory.model_dump(mode="json") for trajectory in trajectories]
    return digest([analyst.name, config.model_dump(mode="json"), content])


def _analysis(state: AnalysisState, analyst: Analyst, config: AnalysisConfig) -> Analysis:
    counts = state["counts"]
    return Analysis(
        summary=CapabilitiesArtifact(
            analyst=analyst.name,
            thresholds=config.thresholds,
            capabilities=tuple(Candidate.model_validate(entry) for entry in state["candidates"]),
            trajectories=counts["trajectories"],
            tasks=counts["tasks"],
            failed=counts["failed"],
            excluded=counts["excluded"],
        ),
        runs=tuple(RunLabels.model_validate(run) for run in state["runs"]),
    )
