"""The statement grammar: checkable claims about one trajectory, as data.

A statement is NA where its condition does not hold or there is nothing to judge, PRESENT where the trajectory
exercises it, LACKING where it does not, with the message index that decides. Nothing here names a benchmark:
tools, fields, values and words are mined (`mining.py`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from trace_agents.analysis.acts import Avoid, Before, Confirm, NoRepeat, Recover, Refrain, Use
from trace_agents.analysis.amounts import Extreme, Tally, Total
from trace_agents.analysis.arguments import Grounded, Match, Source
from trace_agents.analysis.completeness import Conclude, Cover, Fulfil, Obtain, Report, Sweep
from trace_agents.analysis.grammar import NOT_APPLICABLE, Condition, Fact, Finding, Said, Seen, Statement
from trace_agents.analysis.views import View
from trace_agents.types import Label


class AnyOf(Statement):
    """Several statements of one kind that are one capability: LACKING where any part is, NA where all are."""

    kind: Literal["any-of"] = "any-of"
    parts: tuple[AnyStatement, ...]

    def judge(self, view: View) -> Finding:
        """The earliest LACKING part decides, else the earliest PRESENT one."""
        found = [finding for part in self.parts if (finding := part.evaluate(view)).label is not Label.NA]
        lacking = [finding for finding in found if finding.label is Label.LACKING]
        return min(lacking or found, key=lambda finding: finding.at or 0, default=NOT_APPLICABLE)


AnyStatement = Annotated[
    Use
    | Refrain
    | Before
    | Confirm
    | Source
    | Grounded
    | Match
    | Cover
    | Sweep
    | Obtain
    | Fulfil
    | Recover
    | Avoid
    | Report
    | Extreme
    | Total
    | Tally
    | NoRepeat
    | Conclude
    | AnyOf,
    Field(discriminator="kind"),
]
AnyOf.model_rebuild()
_ADAPTER: TypeAdapter[Any] = TypeAdapter(AnyStatement)


def statement_from(data: dict[str, Any]) -> Statement:
    """The statement that `data` (a `model_dump`) describes.

    Raises:
        pydantic.ValidationError: not a statement of this grammar.
    """
    found: Statement = _ADAPTER.validate_python(data)
    return found


__all__ = [
    "NOT_APPLICABLE",
    "AnyOf",
    "AnyStatement",
    "Avoid",
    "Before",
    "Conclude",
    "Condition",
    "Confirm",
    "Cover",
    "Extreme",
    "Fact",
    "Finding",
    "Fulfil",
    "Grounded",
    "Match",
    "NoRepeat",
    "Obtain",
    "Recover",
    "Refrain",
    "Report",
    "Said",
    "Seen",
    "Source",
    "Statement",
    "Sweep",
    "Tally",
    "Total",
    "Use",
    "statement_from",
]
