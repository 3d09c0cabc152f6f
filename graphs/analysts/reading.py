"""An analysis by reading: a mind, the statistics beside it where they are asked for, and the notes on both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from graphs.analysis import AnalysisConfig, arun_analysis
from graphs.analysts.chat import ChatMind
from graphs.analysts.handoff import AnswersWanted, HandoffMind
from graphs.analysts.language import LanguageAnalyst, LanguageConfig, evidence_from
from graphs.analysts.mind import Mind
from graphs.analysts.notes import AnalystNotes, notes_on
from trace_agents.analysis.agreement import with_agreement
from trace_agents.analysis.requests import Prices
from trace_agents.analysis.results import Analysis
from trace_agents.analysis.statistical import StatisticalAnalyst
from trace_agents.progress import Progress
from trace_agents.types import Record, Trajectory

CHAT_BATCH = 10
"""Trajectories that a chat model labels in one request, unless told otherwise: more make it careless."""


class ReadingPlan(Record):
    """How the trajectories are read."""

    config: AnalysisConfig = AnalysisConfig()
    """Runs, bars and batches."""
    settings: LanguageConfig = LanguageConfig()
    """How the mind is asked."""
    both: bool = False
    """Show the reader the strongest statistics, and compare with them."""
    statements: bool = False
    """Compare with the statistics, so that capabilities get the checkable statements of those with their labels; the
    reader is shown nothing of it."""
    prices: Prices | None = None
    """Of the tokens; None counts no cost."""


async def read_trajectories(
    trajectories: Sequence[Trajectory], mind: Mind, plan: ReadingPlan, progress: Progress, checkpoint: Path
) -> tuple[Analysis, AnalystNotes]:
    """Analyse with `mind`; its answers are kept at `checkpoint` as they come.

    Raises:
        UsageError: the mind cannot go on, or the trajectories cannot be told apart.
        InfrastructureError: the mind does not answer.
        AnswersWanted: a hand-off has open requests; its `folder` holds them.
    """
    statistics, settings, config = None, plan.settings, plan.config
    if plan.both or plan.statements:
        statistics = await arun_analysis(trajectories, StatisticalAnalyst(seed=settings.seed), config)
    if plan.both and statistics is not None:
        settings = settings.model_copy(update={"evidence": evidence_from(statistics)})
    if config.batch is None and isinstance(mind, ChatMind):
        config = config.model_copy(update={"batch": CHAT_BATCH})
    analyst = LanguageAnalyst(mind, settings)
    try:
        analysis = await arun_analysis(trajectories, analyst, config, progress, checkpoint)
    except AnswersWanted as wanted:
        folder = mind.folder.path if isinstance(mind, HandoffMind) else None
        raise AnswersWanted(wanted.requests, folder) from None
    failed = {one.id for one in trajectories if one.success is False}
    notes = notes_on(analysis, analyst, plan.prices, statistics, failed)
    return (analysis if notes.statistics is None else with_agreement(analysis, notes.statistics, statistics)), notes
