"""Which of two statements that explain the same is the better capability: plainer, and a cause before a symptom."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from trace_agents.analysis.statements import AnyOf, Fact, Refrain, Statement

_CAUSE_TEXT = "obtain sweep recover source match cover report before grounded extreme total tally"
_CAUSES = frozenset(_CAUSE_TEXT.split())
_PLAIN = {
    "obtain": 0.0,
    "recover": 0.0,
    "source": 0.0,
    "refrain": 0.5,
    "report": 0.5,
    "cover": 0.5,
    "match": 0.5,
    "extreme": 0.5,
    "total": 0.5,
    "tally": 0.5,
    "fulfil": 1.0,
}
"""Kind → nats of its plainest statement."""
_OTHER = 2.0


def complexity(statement: Statement, rules: Mapping[str, Collection[Fact]] | None = None) -> float:
    """Nats that a statement's length costs: of two that explain the same, the plainer one is chosen.

    Args:
        rules: tool → facts that the instructions name with it (`Catalog.rules`). A guard of such facts is written down
            and need not be guessed, so they cost nothing.
    """
    if isinstance(statement, AnyOf):
        return 1.0 + 2.0 * len(statement.parts)
    extras = 2.0 * len(statement.when) + (0.5 if getattr(statement, "remedy", None) else 0.0)
    if isinstance(statement, Refrain):
        extras += 2.0 * guessed(statement, rules)
    return extras + _PLAIN.get(statement.kind, _OTHER)


def guessed(guard: Refrain, rules: Mapping[str, Collection[Fact]] | None) -> int:
    """Facts of a guard that were chosen from the data alone; without instructions the first is not counted."""
    written = sum(fact in (rules or {}).get(guard.tool, ()) for fact in guard.facts)
    return max(len(guard.facts) - max(written, 1), 0)


def is_cause(statement: Statement) -> bool:
    """Whether a statement says how a deed goes wrong, and not only that it was not done, or done wrong.

    What an episode was for is left undone whichever capability is lacking, so such symptoms are chosen only for
    the failures that no cause explains.
    """
    if isinstance(statement, AnyOf):
        return all(is_cause(part) for part in statement.parts)
    if isinstance(statement, Refrain):
        return bool(statement.facts)
    return statement.kind in _CAUSES
