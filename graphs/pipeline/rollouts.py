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
    """Sample `rollouts_per_task` trajectories of each train task; a killed stage keeps what it had.

    Raises:
        UsageError: most rollouts have no verdict, as infrastructure failed; resuming plays those again.
    """
    if run.finished(STAGE, inputs(run)):
        return
    settings = run.config.target
    tasks = run.tasks(settings.train_split)
    await run.check_endpoint()
    with run.store.stage(STAGE, inputs(run)) as facts:
        had = _played(run)
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

            config = run.rollout_config(run.base_model, settings.temperature)
            traces = await run.sample(STAGE, run.target, left, config, on_trace=keep)
        run.count_lost(STAGE, traces, len(pairs))
        facts["rollouts"] = len(pairs)


def _played(run: Run) -> set[tuple[str, int]]:
    """Task and trial of what is there already; what failed, or is another agent's, is taken out."""
    if not run.store.has(FILE):
        return set()
    run.store.keep_rows(FILE, lambda row: row["ok"] and row["agent"]["config"]["model"] == run.base_model)
    return {(trajectory.task_id, trajectory.trial) for trajectory in read_trajectories(run)}


def read_trajectories(run: Run) -> list[Trajectory]:
    """The stage's trajectories, by task and trial."""
    traces = read_traces(run.store.path(FILE))
    return sorted(map(trajectory_from_trace, traces), key=lambda trajectory: (trajectory.task_id, trajectory.trial))
