"""Stage 1: the base agent plays the target's train tasks."""

from __future__ import annotations

from graphs.pipeline.context import Run
from trace_agents.types import Trajectory
from training.rollouts import TraceWriter, read_traces, trajectory_from_trace

FILE = "trajectories.jsonl"
STAGE = "rollouts"


def inputs(run: Run) -> dict:
    """What the stage depends on."""
    return {
        "target": run.config.target.model_dump(),
        "agent": run.config.agent.model_dump(),
        "seed": run.config.run.seed,
    }


async def roll_out(run: Run) -> None:
    """Sample `rollouts_per_task` trajectories of each train task; a killed stage keeps what it had."""
    if run.finished(STAGE, inputs(run)):
        return
    settings = run.config.target
    tasks = run.tasks(settings.train_split)
    with run.store.stage(STAGE, inputs(run)) as facts:
        run.store.mend(FILE)
        had = {(trace.task_id, trace.trial) for trace in read_trajectories(run)} if run.store.has(FILE) else set()
        pairs = [(task, trial) for task in tasks for trial in range(settings.rollouts_per_task)]
        left = [(task, trial) for task, trial in pairs if (task.id, trial) not in had]
        passed = 0
        with TraceWriter(run.store.path(FILE)) as writer, run.progress.stage(STAGE, len(pairs)) as stage:
            stage.advance(len(had))

            def keep(trace) -> None:
                nonlocal passed
                writer.write(trace)
                passed += bool(trace.metrics.get("success"))
                stage.note(f"{passed} passed")
                stage.advance()

            await run.sample(
                STAGE, run.target, left, run.rollout_config(run.base_model, settings.temperature), on_trace=keep
            )
        facts["rollouts"] = len(pairs)


def read_trajectories(run: Run) -> list[Trajectory]:
    """The stage's trajectories, by task and trial."""
    traces = read_traces(run.store.path(FILE))
    return sorted(map(trajectory_from_trace, traces), key=lambda trajectory: (trajectory.task_id, trajectory.trial))
