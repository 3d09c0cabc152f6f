"""What upstream's own runner writes about a scenario, made by upstream's functions."""

from __future__ import annotations

from typing import Any

from tool_sandbox.common.evaluation import EvaluationResult
from tool_sandbox.common.execution_context import ExecutionContext
from tool_sandbox.common.message_conversion import serialize_to_conversation
from tool_sandbox.common.scenario import Scenario


def results(judged: EvaluationResult) -> dict[str, Any]:
    """The verdict in upstream's words."""
    return {
        "milestone_similarity": judged.milestone_similarity,
        "minefield_similarity": judged.minefield_similarity,
        "similarity": judged.similarity,
        "turn_count": judged.turn_count,
        "milestone_mapping": _plain(judged.milestone_mapping),
        "minefield_mapping": _plain(judged.minefield_mapping),
    }


def recorded(scenario: Scenario, context: ExecutionContext, judged: EvaluationResult) -> dict[str, Any]:
    """`result`, `conversation` and `context`: a row of upstream's summary, and its two files in JSON.

    The conversation is None where upstream cannot write it: it reads the arguments of each call back from the Python
    that it made of them, which for NaN, say, and for very deep values it cannot.
    """
    milestones, minefields = scenario.evaluation.milestone_matcher, scenario.evaluation.minefield_matcher
    try:
        conversation = serialize_to_conversation(context, judged, milestones.milestones, minefields.milestones)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        conversation = None
    return {
        "result": {"categories": [str(each) for each in scenario.categories], **results(judged)},
        "conversation": conversation,
        "context": context.to_dict(serialize_console=False),
    }


def _plain(mapping: Any) -> dict[str, list[Any]]:
    return {str(node): list(matched) for node, matched in mapping.items()}
