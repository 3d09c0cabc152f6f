"""The base of the statement grammar: findings, facts about results, conditions, and what a statement is."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from trace_agents.analysis.views import CallView, View, field_values, read
from trace_agents.types import Label, Record, Trajectory


class Finding(NamedTuple):
    """A statement's verdict on one trajectory."""

    label: Label
    at: int | None
    """Index of the deciding message; None for NA."""


NOT_APPLICABLE = Finding(Label.NA, None)


def verdict(present: bool, at: int) -> Finding:
    """PRESENT or LACKING, decided at message `at`."""
    return Finding(Label.PRESENT if present else Label.LACKING, at)


class Fact(Record):
    """A claim about a field of a tool's result, such as `get_order.status == shipped`."""

    tool: str
    field: str
    """Path in the result: `a.b`, `[]` for list elements, `*` for keyed records."""
    op: Literal["==", "!=", ">=", "<="] = "=="
    value: str
    """Normal form; `>=` and `<=` compare as numbers where both are, else as text (ISO dates sort as text)."""

    def holds(self, call: CallView, about: CallView | None = None) -> bool:
        """Whether a value of the field, narrowed to what `about` is about, satisfies the claim."""
        return any(self._compare(value) for value in field_values(call, self.field, about))

    def _compare(self, value: str) -> bool:
        if self.op in ("==", "!="):
            return (value == self.value) is (self.op == "==")
        try:
            left, right = float(value), float(self.value)
        except ValueError:
            return value >= self.value if self.op == ">=" else value <= self.value
        return left >= right if self.op == ">=" else left <= right


class Said(Record):
    """Condition: the user's words hold one of these stems or word pairs."""

    kind: Literal["said"] = "said"
    terms: tuple[str, ...]

    def holds(self, view: View) -> bool:
        """Whether any term was said."""
        return not view.user_terms.isdisjoint(self.terms)


class Seen(Record):
    """Condition: some tool result of the trajectory satisfies a fact."""

    kind: Literal["seen"] = "seen"
    fact: Fact

    def holds(self, view: View) -> bool:
        """Whether the fact was seen."""
        return any(self.fact.holds(call) for call in view.by_tool.get(self.fact.tool, ()))


Condition = Annotated[Said | Seen, Field(discriminator="kind")]


class Statement(Record):
    """Base of the grammar."""

    kind: str
    """Names the class, in data too."""
    when: tuple[Condition, ...] = ()
    """All must hold, else NA."""

    def evaluate(self, trajectory: Trajectory | View) -> Finding:
        """The verdict on a trajectory."""
        view = trajectory if isinstance(trajectory, View) else read(trajectory)
        if not all(condition.holds(view) for condition in self.when):
            return NOT_APPLICABLE
        return self.judge(view)

    @abstractmethod
    def judge(self, view: View) -> Finding:
        """The verdict, `when` aside."""
