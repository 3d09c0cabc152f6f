"""The notes on a reading analysis that is done."""

from __future__ import annotations

from collections.abc import Collection

from graphs.analysts.handoff import HandoffMind
from graphs.analysts.language import LanguageAnalyst
from trace_agents.analysis.agreement import agreement, alone
from trace_agents.analysis.notes import FILE, AnalystNotes
from trace_agents.analysis.requests import Prices
from trace_agents.analysis.results import Analysis


def notes_on(
    analysis: Analysis,
    analyst: LanguageAnalyst,
    prices: Prices | None = None,
    statistics: Analysis | None = None,
    failed: Collection[str] = (),
) -> AnalystNotes:
    """The notes on an analysis that is done.

    Args:
        analysis: what came out.
        analyst: who read.
        prices: of its tokens.
        statistics: the statistical analysis of the same trajectories.
        failed: ids of the failed trajectories.
    """
    usage = analyst.spent()
    mind = analyst.mind
    return AnalystNotes(
        analyst=analyst.name,
        prompts=str(analyst.settings["prompts"]),
        context_tokens=analyst.config.context_tokens,
        usage=usage,
        prices=prices,
        cost=None if prices is None else prices.cost(usage),
        answered_by=mind.folder.answered_by() if isinstance(mind, HandoffMind) else {},
        statistics=None if statistics is None else agreement(analysis, statistics, set(failed)),
        statistics_alone=None if statistics is None else alone(analysis, statistics, set(failed)),
    )


__all__ = ["FILE", "AnalystNotes", "notes_on"]
