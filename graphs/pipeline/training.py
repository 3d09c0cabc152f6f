"""Stage 4: one adapter per certified environment by GRPO (§3.4), and GRPO on the target itself for comparison."""

from __future__ import annotations

import math
from pathlib import Path

from graphs.pipeline.context import Run
from graphs.pipeline.synthesis import FOLDER, manifests
from trace_agents.artifacts import MetricRow
from trace_agents.endpoint import Sampling
from trace_agents.errors import UsageError
from training.grpo import GRPOConfig, TrainResult
from training.jobs import Seeds, Splits, TrainingJob, run_jobs
from training.rollouts import RolloutConfig

STAGE = "training"
METRICS = "metrics.jsonl"
BASELINE = "grpo-on-target"


def inputs(run: Run) -> dict:
    """What the stage depends on, besides the environments."""
    config = run.config
    return {"training": config.training.model_dump(), "baseline": config.baseline.model_dump(), "seed": config.run.seed}


async def train_adapters(run: Run) -> None:
    """Write `adapters/<slug>/` and `metrics.jsonl`; an adapter no better than the base on held-out seeds is out."""
    if run.finished(STAGE, inputs(run), [FOLDER]):
        return
    with run.store.stage(STAGE, inputs(run), [FOLDER]) as facts:
        jobs = [_adapter_job(run, name, index) for index, name in enumerate(manifests(run))]
        results = await _train(run, "training", jobs, run.config.training.workers)
        facts["rollouts"] = {name: result.rollouts + result.validation_rollouts for name, result in results.items()}
        facts["stops"] = {name: str(result.stop) for name, result in results.items()}
        facts["validation"] = {name: [result.initial.success, result.best.success] for name, result in results.items()}
        facts["adapters"] = [name for name, result in results.items() if result.best.rank > result.initial.rank]
        if not facts["adapters"]:
            raise UsageError(
                f"no adapter improved on held-out seeds ({facts['validation']}): raise [training] iterations or lr"
            )
        if run.config.baseline.enabled:
            spent = sum(facts["rollouts"].values()) + sum(_spent(run, stage) for stage in ("rollouts", "synthesis"))
            found = await _train(run, "baseline", [_baseline_job(run, spent)], 1)
            facts["rollouts"] |= {name: result.rollouts for name, result in found.items()}


def adapter_folders(run: Run) -> dict[str, Path]:
    """Capability → PEFT folder of its adapter, those that improved on held-out seeds."""
    return {name: run.store.path("adapters") / name for name in run.store.stages[STAGE].facts["adapters"]}


def baseline_folder(run: Run) -> Path | None:
    """PEFT folder of GRPO on the target; None where the run has no baseline."""
    folder = run.store.path("baseline") / BASELINE
    return folder if run.config.baseline.enabled and folder.is_dir() else None


async def _train(run: Run, title: str, jobs: list[TrainingJob], workers: int) -> dict[str, TrainResult]:
    names = {job.name for job in jobs}
    most = sum(job.config.iterations for job in jobs)
    with run.progress.stage(title, most) as stage:

        def on_row(row: MetricRow) -> None:
            stage.note(f"{row.adapter}: reward {row.reward_mean:.2f}, {row.success_rate:.0%} solved")
            stage.advance()

        results = await run_jobs(jobs, workers, on_row)
        stage.total(sum(result.iterations for result in results.values()))
    run.store.keep_rows(METRICS, lambda row: row["adapter"] not in names)
    run.store.append_jsonl(METRICS, [row for result in results.values() for row in result.rows])
    return results


def _adapter_job(run: Run, name: str, index: int) -> TrainingJob:
    seeds = manifests(run)[name].seeds
    tasks = Seeds(
        environment=f"{(run.store.path(FOLDER) / name / 'environment.py').resolve()}:environment",
        train_from=seeds.training.first + 1_000_000 * run.config.run.seed,
        validate_from=seeds.validation.first,
        held_out=run.config.training.validation_seeds,
    )
    config = _config(run, run.config.run.seed * 1000 + index)
    return TrainingJob(
        name=name,
        base=run.base.resolve(),
        tasks=tasks,
        config=config,
        folder=run.store.folder("adapters").resolve(),
        endpoint=run.config.agent.endpoint,
    )


def _baseline_job(run: Run, rollouts: int) -> TrainingJob:
    """As many rollouts as everything that led to the adapters took, and no early stop."""
    target, training = run.config.target, run.config.training
    iterations = max(1, math.ceil(rollouts / (training.groups * training.group_size)))
    config = _config(run, run.config.run.seed * 1000 + 999)
    every = max(1, iterations // 12)
    spend = {"iterations": iterations, "patience": iterations, "stop_when_solved": False, "validate_every": every}
    config = config.model_copy(update=spend)
    tasks = Splits(
        environment=target.environment,
        train=target.train_split,
        validation=target.validation_split,
        held_out=training.validation_seeds,
    )
    return TrainingJob(
        name=BASELINE,
        base=run.base.resolve(),
        tasks=tasks,
        config=config,
        folder=run.store.folder("baseline").resolve(),
        endpoint=run.config.agent.endpoint,
        threads=training.workers,
    )


def _config(run: Run, seed: int) -> GRPOConfig:
    training, target = run.config.training, run.config.target
    sampling = Sampling(temperature=training.temperature, max_tokens=target.max_tokens)
    return GRPOConfig(
        seed=seed,
        groups=training.groups,
        group_size=training.group_size,
        iterations=training.iterations,
        rollout=RolloutConfig(model="", sampling=sampling, max_turns=target.max_turns),
        clip=training.clip,
        epochs=training.epochs,
        minibatches=training.minibatches,
        lr=training.lr,
        rank=training.rank,
        alpha=training.alpha,
        validate_every=training.validate_every,
        patience=training.patience,
        device=training.device,
        dtype=training.dtype,
        batch_tokens=training.batch_tokens,
        gradient_checkpointing=training.gradient_checkpointing,
    )


def _spent(run: Run, stage: str) -> int:
    return int(run.store.stages[stage].facts.get("rollouts", 0))
