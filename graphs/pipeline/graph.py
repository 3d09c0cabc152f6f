"""The whole loop as a graph: rollouts → analysis → synthesis → training → composition → evaluation.

The run's folder is the checkpoint: each node asks the store whether its stage is done on the same inputs, so a
killed run goes on where it stopped, in this process or another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime

from graphs.pipeline.analysis import analyse
from graphs.pipeline.composition import compose
from graphs.pipeline.context import Run
from graphs.pipeline.evaluation import evaluate
from graphs.pipeline.prospects import notes
from graphs.pipeline.rollouts import roll_out
from graphs.pipeline.synthesis import build_environments
from graphs.pipeline.training import train_adapters
from trace_agents.config import RunConfig
from trace_agents.progress import Progress, SilentProgress
from trace_agents.runstore import RunStore
from training.quiet import quiet_libraries

STAGES: dict[str, Callable[[Run], Awaitable[None]]] = {
    "rollouts": roll_out,
    "analysis": analyse,
    "synthesis": build_environments,
    "training": train_adapters,
    "composition": compose,
    "evaluation": evaluate,
}


class PipelineState(TypedDict, total=False):
    """State of the graph."""

    done: list[str]
    """Stages behind, in order."""


def build_pipeline() -> CompiledStateGraph[PipelineState, Run, PipelineState, PipelineState]:
    """The compiled graph. Invoke it with `context=Run(...)`."""
    graph: StateGraph[PipelineState, Run, PipelineState, PipelineState]
    graph = StateGraph(PipelineState, context_schema=Run)
    before = START
    for name, stage in STAGES.items():
        graph.add_node(name, _node(name, stage))
        graph.add_edge(before, name)
        before = name
    graph.add_edge(before, END)
    return graph.compile(name="pipeline")


def run_pipeline(config: RunConfig, store: RunStore, progress: Progress | None = None) -> None:
    """Run, or go on with, the loop in the folder of `store`.

    Raises:
        UsageError: bad input; what was written stays, and the run can be resumed.
        AnswersWanted: the analyst is a hand-off, and requests are open; call again once they are answered.
    """
    quiet_libraries()
    run = Run(config, store, progress or SilentProgress())
    for note in notes(run):
        run.progress.note(note)
    with run.memory:
        asyncio.run(_run(run))


async def _run(run: Run) -> None:
    try:
        await build_pipeline().ainvoke(PipelineState(done=[]), context=run)
    finally:
        await run.close()


def _node(name: str, stage: Callable[[Run], Awaitable[None]]):
    async def node(state: PipelineState, runtime: Runtime[Run]) -> PipelineState:
        await stage(runtime.context)
        return {"done": [*state.get("done", []), name]}

    return node
