"""Stage 2: what the base agent lacks, by contrast of its failed and successful trajectories."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from graphs.analysis import AnalysisConfig, arun_analysis
from graphs.analysts.chat import ChatMind
from graphs.analysts.handoff import HandoffMind
from graphs.analysts.language import LanguageConfig
from graphs.analysts.mind import Mind
from graphs.analysts.models import load_chat_model
from graphs.analysts.reading import ReadingPlan, read_trajectories
from graphs.pipeline.context import Run
from graphs.pipeline.prospects import why_too_few
from graphs.pipeline.rollouts import FILE
from graphs.pipeline.rollouts import read_trajectories as rollouts_of
from graphs.pipeline.scoring import planted_lacking, score_analysis
from trace_agents.analysis.analyst import TooFewOutcomes
from trace_agents.analysis.requests import prices_of
from trace_agents.analysis.results import Analysis, Candidate, CapabilitiesArtifact
from trace_agents.analysis.statistical import StatisticalAnalyst
from trace_agents.artifacts import AnalysisScore
from trace_agents.contrast import Thresholds
from trace_agents.environment import GroundTruth
from trace_agents.errors import InfrastructureError, UsageError
from trace_agents.types import Trajectory

STAGE = "analysis"
SCORE = "analysis-score.json"
CHECKPOINT = "analysis.sqlite"
"""What a reader answered, for a run that is resumed."""
HANDOFF = "handoff"
"""The analyst that is whoever answers, and its folder in a run."""


def inputs(run: Run) -> dict:
    """What the stage depends on, besides the trajectories."""
    return {"analysis": run.config.analysis.model_dump(), "seed": run.config.run.seed}


async def analyse(run: Run) -> None:
    """Write `capabilities.json` and `labels.jsonl`, and, where deficits were planted, how well they were found."""
    if run.finished(STAGE, inputs(run), [FILE]):
        return
    with run.store.stage(STAGE, inputs(run), [FILE]):
        trajectories = rollouts_of(run)
        try:
            found = await _contrasted(run, trajectories)
        except TooFewOutcomes as error:
            raise UsageError(f"{error}; {why_too_few(run, trajectories)}") from error
        found.write(run.store.root)
        if not found.kept:
            raise UsageError(
                "the analysis kept no capability: lower [analysis] delta or rho, or sample more rollouts_per_task; "
                f"the candidates are in {str(run.store.path('capabilities.json'))!r}"
            )
        _score(
            run, trajectories, {name: labels for name, labels in found.verdicts().items() if name in kept_names(run)}
        )


async def _contrasted(run: Run, trajectories: Sequence[Trajectory]) -> Analysis:
    """The analysis by the configured analyst."""
    settings, seed = run.config.analysis, run.config.run.seed
    thresholds = Thresholds.model_validate(settings.model_dump(include=set(Thresholds.model_fields)))
    config = AnalysisConfig(thresholds=thresholds, batch=settings.batch, concurrency=settings.concurrency)
    if settings.analyst == "statistical":
        return await arun_analysis(trajectories, StatisticalAnalyst(seed=seed), config, run.progress)
    mind = _mind(run)
    plan = ReadingPlan(
        config=config,
        settings=LanguageConfig(seed=seed, context_tokens=settings.context_tokens),
        both=settings.both,
        statements=True,  # Without one, no family could be found to train a capability.
        prices=prices_of(settings.price_in, settings.price_out),
    )
    try:
        found, notes = await read_trajectories(trajectories, mind, plan, run.progress, run.store.path(CHECKPOINT))
    except (UsageError, InfrastructureError) as error:
        if isinstance(error, UsageError) and not mind.spent().answered:
            raise
        raise UsageError(f"{error}; what was answered is not asked for again") from error
    notes.write(run.store.root)
    return found


def _mind(run: Run) -> Mind:
    """Who reads for this run."""
    settings = run.config.analysis
    if settings.analyst != HANDOFF:
        return ChatMind(load_chat_model(settings.analyst), settings.analyst)
    folder = run.store.path(HANDOFF) if settings.handoff is None else Path(settings.handoff)
    return HandoffMind(folder)


def kept(run: Run) -> list[Candidate]:
    """The capabilities to train, by falling coverage, at most `max_capabilities`."""
    artifact = run.store.read_json("capabilities.json", CapabilitiesArtifact)
    return list(artifact.kept[: run.config.analysis.max_capabilities])


def kept_names(run: Run) -> set[str]:
    """Their names."""
    return {candidate.capability.name for candidate in kept(run)}


def read_score(run: Run) -> AnalysisScore | None:
    """The analysis against the planted truth; None where nothing was planted."""
    return run.store.read_json(SCORE, AnalysisScore) if run.store.has(SCORE) else None


def _score(run: Run, trajectories, verdicts) -> None:
    if not run.planted or not isinstance(run.target, GroundTruth):
        return
    tasks = {task.id: task for task in run.tasks(run.config.target.train_split)}
    usable = [trajectory for trajectory in trajectories if trajectory.success is not None]
    lacking = planted_lacking(run.target, usable, tasks, run.planted)
    run.store.write_json(SCORE, score_analysis(verdicts, lacking))
