"""The analysis graph (§3.3, Figure 2): load → compact → discover → merge → label → aggregate → select.

Discovery is fanned out over batches and merged, labelling over runs × batches. The graph owns the order, the fan-out,
the waiting and the checkpoints; the analyst owns every judgement. Trajectories travel in the run's context, not in its
state, so that a checkpoint holds indices and labels only.
"""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypedDict, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command, Interrupt, Send
from pydantic import Field

from graphs.analysts.handoff import AnswersWanted
from graphs.checkpoints import sqlite_checkpoints
from trace_agents.analysis.analyst import Analyst, BatchedAnalyst, Discovered, RunLabels
from trace_agents.analysis.results import Analysis, Candidate, CapabilitiesArtifact, conclude, covered, joined_runs
from trace_agents.analysis.statistical import StatisticalAnalyst
from trace_agents.contrast import Thresholds
from trace_agents.errors import UsageError
from trace_agents.files import digest
from trace_agents.progress import Progress, SilentProgress, Stage
from trace_agents.types import Capability, Record, Trajectory


class AnalysisConfig(Record):
    """How to run the analysis."""

    thresholds: Thresholds = Thresholds()
    """N runs, and what a capability must reach to be kept."""
    batch: int | None = Field(default=None, ge=1)
    """Trajectories a labelling task takes at most; None: a whole run at once, or what fits the analyst's context."""
    concurrency: int = Field(default=4, ge=1)
    """Labelling tasks under way at once."""


@dataclass
class AnalysisContext:
    """What a run of the graph works on; not part of its state."""

    trajectories: Sequence[Trajectory]
    progress: Progress = field(default_factory=SilentProgress)
    labelling: Stage | None = None
    """The labelling stage under way, advanced as tasks end."""
    ends: ExitStack = field(default_factory=ExitStack)
    """Ends it."""
    gate: asyncio.Semaphore | None = None
    """Bounds the tasks under way. LangGraph's own bound leaves coroutines behind where one of them fails."""

    def labels(self) -> Stage:
        """The labelling stage. It begins when it is first asked for, so that its clock does not count discovery."""
        if self.labelling is None:
            self.labelling = self.ends.enter_context(self.progress.stage("label"))
        return self.labelling

    @property
    def usable(self) -> list[Trajectory]:
        """Trajectories with a verdict: those that infrastructure failed are left out (§3.1 has no label for them)."""
        return [trajectory for trajectory in self.trajectories if trajectory.success is not None]


class AnalysisState(TypedDict, total=False):
    """State of the graph; plain JSON values, so that any checkpointer can keep it."""

    counts: dict[str, int]
    """`trajectories`, `tasks`, `failed`, `excluded`."""
    shares: list[list[int]] | None
    """Indices of the usable trajectories of each discovery batch; None: one batch of all."""
    found: Annotated[list[dict[str, Any]], operator.add]
    """`batch` and its `candidates` (`Discovered` entries), for each discovery batch."""
    dictionary: list[dict[str, Any]]
    """`Discovered` entries."""
    labelled: Annotated[list[dict[str, Any]], operator.add]
    """`RunLabels`, one for each labelling task, in the order they ended."""
    runs: list[dict[str, Any]]
    """`RunLabels`, one for each run."""
    candidates: list[dict[str, Any]]
    """`Candidate` entries."""


class DiscoverTask(TypedDict):
    """What one discovery task gets."""

    batch: int
    share: list[int] | None


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
    graph.add_node("compact", nodes.compact)
    graph.add_node("discover", cast(Any, nodes.discover))  # Gets a `DiscoverTask`, not the state.
    graph.add_node("merge", nodes.merge)
    graph.add_node("label", cast(Any, nodes.label))  # Gets a `LabelTask`, not the state.
    graph.add_node("aggregate", nodes.aggregate)
    graph.add_node("select", nodes.select)
    graph.add_edge(START, "load")
    graph.add_edge("load", "compact")
    graph.add_conditional_edges("compact", nodes.share_out, ["discover"])
    graph.add_edge("discover", "merge")
    graph.add_conditional_edges("merge", nodes.fan_out, ["label"])
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

    async def compact(self, state: AnalysisState, runtime: Runtime[AnalysisContext]) -> AnalysisState:
        """See what fits one request, for an analyst with a bounded context."""
        if not isinstance(self._analyst, BatchedAnalyst):
            return {"shares": None}
        return {"shares": [list(share) for share in self._analyst.discovery_batches(runtime.context.usable)]}

    def share_out(self, state: AnalysisState) -> list[Send]:
        """Discovery phase, map: a task for each batch."""
        shares: list[list[int] | None] = [None] if state["shares"] is None else [*state["shares"]]
        return [Send("discover", DiscoverTask(batch=batch, share=share)) for batch, share in enumerate(shares)]

    async def discover(self, task: DiscoverTask, runtime: Runtime[AnalysisContext]) -> AnalysisState:
        """Candidates of one batch."""
        usable = runtime.context.usable
        share = usable if task["share"] is None else [usable[index] for index in task["share"]]
        name = "discover" if not task["batch"] else f"discover {task['batch'] + 1}"
        with runtime.context.progress.stage(name) as stage:
            async with runtime.context.gate or nullcontext():
                found = await self._analyst.discover(share)
            stage.note(f"{len(found)} candidates")
        candidates = [entry.model_dump(mode="json") for entry in found]
        return {"found": [{"batch": task["batch"], "candidates": candidates}]}

    async def merge(self, state: AnalysisState) -> AnalysisState:
        """Discovery phase, reduce, once: the canonical dictionary."""
        parts = [
            [Discovered.model_validate(entry) for entry in part["candidates"]]
            for part in sorted(state["found"], key=lambda part: part["batch"])
        ]
        merged = await self._analyst.merge(parts) if isinstance(self._analyst, BatchedAnalyst) else parts[0]
        return {"dictionary": [entry.model_dump(mode="json") for entry in merged]}

    def fan_out(self, state: AnalysisState, runtime: Runtime[AnalysisContext]) -> list[Send]:
        """Labelling phase: a task for each run × batch."""
        dictionary = [Discovered.model_validate(entry).capability for entry in state["dictionary"]]
        tasks = []
        for run in range(self._config.thresholds.runs):
            start = 0
            for size in self._sizes(self._analyst.draw(runtime.context.usable, run), dictionary):
                task = LabelTask(run=run, start=start, stop=start + size, dictionary=state["dictionary"])
                tasks.append(Send("label", task))
                start += size
        runtime.context.labels().total(len(tasks))
        return tasks

    def _sizes(self, drawn: Sequence[Trajectory], dictionary: Sequence[Capability]) -> Sequence[int]:
        if isinstance(self._analyst, BatchedAnalyst):
            return self._analyst.label_batches(drawn, dictionary, self._config.batch)
        size = self._config.batch or max(len(drawn), 1)
        return [size] * max(1, -(-len(drawn) // size))

    async def label(self, task: LabelTask, runtime: Runtime[AnalysisContext]) -> AnalysisState:
        """Label one batch of one run with the fixed dictionary."""
        drawn = self._analyst.draw(runtime.context.usable, task["run"])[task["start"] : task["stop"]]
        dictionary = [Discovered.model_validate(entry).capability for entry in task["dictionary"]]
        async with runtime.context.gate or nullcontext():
            labels = await self._analyst.label(drawn, dictionary, task["run"])
        runtime.context.labels().advance()
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
        UsageError: too few trajectories of an outcome, ids that are not unique, or an analyst that cannot go on.
        AnswersWanted: the analyst hands its requests off, and some are open; call again when they are answered.
    """
    analyst, config = analyst or StatisticalAnalyst(), config or AnalysisConfig()
    gate = asyncio.Semaphore(config.concurrency)
    context = AnalysisContext(trajectories, progress or SilentProgress(), gate=gate)
    batched = isinstance(analyst, BatchedAnalyst)
    thread = _thread(trajectories, analyst, config) if batched or checkpoint is not None else None
    if isinstance(analyst, BatchedAnalyst):
        analyst.begin(context.usable, str(thread), checkpoint)
    if checkpoint is None:
        state = await _run(build_analysis_graph(analyst, config), analyst, context, {})
    else:
        async with sqlite_checkpoints(checkpoint) as saver:
            graph = build_analysis_graph(analyst, config, saver)
            state = await _run(graph, analyst, context, {"configurable": {"thread_id": thread}})
    return _analysis(state, analyst, config, context.usable)


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
    graph: AnalysisGraph, analyst: Analyst, context: AnalysisContext, options: RunnableConfig
) -> AnalysisState:
    start: AnalysisState | Command[Any] | None = {}
    kept = "configurable" in options
    if kept and (held := await graph.aget_state(options)).created_at is not None:
        if "candidates" in held.values:
            return cast(AnalysisState, held.values)
        start = None
    with context.ends:
        while True:
            state = await graph.ainvoke(start, options, context=context, durability="sync" if kept else None)
            waiting: Sequence[Interrupt] = state.get("__interrupt__", ())
            if not waiting:
                return cast(AnalysisState, state)
            start = Command(resume=await _collected(analyst, waiting))


async def _collected(analyst: Analyst, waiting: Sequence[Interrupt]) -> dict[str, Any]:
    """Answers that have come, by interrupt; an interrupt's value is its request's id."""
    courier = analyst.courier if isinstance(analyst, BatchedAnalyst) else None
    answers = await courier.collect([one.value for one in waiting]) if courier is not None else {}
    if not answers:
        raise AnswersWanted([one.value for one in waiting])
    return {one.id: answers[one.value] for one in waiting if one.value in answers}


def _thread(trajectories: Sequence[Trajectory], analyst: Analyst, config: AnalysisConfig) -> str:
    """Names the analysis: other trajectories or another configuration are another one."""
    content = [trajectory.model_dump(mode="json") for trajectory in trajectories]
    settings = analyst.settings if isinstance(analyst, BatchedAnalyst) else None
    return digest([analyst.name, settings, config.model_dump(mode="json", exclude={"concurrency"}), content])


def _analysis(
    state: AnalysisState, analyst: Analyst, config: AnalysisConfig, trajectories: Sequence[Trajectory]
) -> Analysis:
    counts = state["counts"]
    candidates = tuple(Candidate.model_validate(entry) for entry in state["candidates"])
    runs = tuple(RunLabels.model_validate(run) for run in state["runs"])
    return Analysis(
        summary=CapabilitiesArtifact(
            analyst=analyst.name,
            thresholds=config.thresholds,
            capabilities=candidates,
            covered=covered(candidates, runs, trajectories),
            trajectories=counts["trajectories"],
            tasks=counts["tasks"],
            failed=counts["failed"],
            excluded=counts["excluded"],
        ),
        runs=runs,
    )
