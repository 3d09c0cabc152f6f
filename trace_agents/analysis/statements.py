"""The statement grammar: checkable claims about one trajectory, as data.

A statement is NA where its condition does not hold or there is nothing to judge, PRESENT where the trajectory
exercises it, LACKING where it does not, with the message index that decides. Nothing here names a benchmark:
tools, fields, values and words are mined (`mining.py`).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, TypeAdapter

from trace_agents.analysis.values import mentions, named_identifiers
from trace_agents.analysis.views import CallView, View, field_values, linked, read
from trace_agents.types import Label, Record, Trajectory


class Finding(NamedTuple):
    """A statement's verdict on one trajectory."""

    label: Label
    at: int | None
    """Index of the deciding message; None for NA."""


NOT_APPLICABLE = Finding(Label.NA, None)


def _verdict(present: bool, at: int) -> Finding:
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


class Use(Statement):
    """Calls one of the tools, successfully."""

    kind: Literal["use"] = "use"
    tools: tuple[str, ...]

    def judge(self, view: View) -> Finding:
        """LACKING at the agent's last message where no call worked."""
        done = [call.at for tool in self.tools for call in view.by_tool.get(tool, ()) if call.ok]
        return _verdict(bool(done), min(done, default=view.last))


class Refrain(Statement):
    """Does not do `tool` to what is known to satisfy all `facts` (a guard before a write)."""

    kind: Literal["refrain"] = "refrain"
    tool: str
    facts: tuple[Fact, ...] = ()
    """Facts of one result, seen before the call; none: never calls the tool."""

    def judge(self, view: View) -> Finding:
        """LACKING at the first forbidden call that worked; NA where the facts were never seen."""
        calls = [call for call in view.by_tool.get(self.tool, ()) if call.ok]
        if not self.facts:
            return _verdict(not calls, calls[0].at if calls else view.last)
        sources = [call for call in view.by_tool.get(self.facts[0].tool, ()) if call.ok]
        for call in calls:
            before = [source for source in sources if source.at < call.at and linked(call, source)]
            if before and self._all_hold(before[-1], call):
                return _verdict(False, call.at)
        seen = [source for source in sources if self._all_hold(source, None)]
        return _verdict(True, seen[0].result_at) if seen else NOT_APPLICABLE

    def _all_hold(self, source: CallView, about: CallView | None) -> bool:
        return all(fact.holds(source, about) for fact in self.facts)


class Before(Statement):
    """Calls `first` before `then`; linked: about the same thing."""

    kind: Literal["before"] = "before"
    first: str
    then: str
    linked: bool = False

    def judge(self, view: View) -> Finding:
        """LACKING at the first call of `then` without an earlier `first`; NA where `then` is never called."""
        later = view.by_tool.get(self.then, ())
        for call in later:
            earlier = [one for one in view.by_tool.get(self.first, ()) if one.at < call.at and one.ok]
            if not any(not self.linked or linked(call, one) for one in earlier):
                return _verdict(False, call.at)
        return _verdict(True, later[0].at) if later else NOT_APPLICABLE


class Confirm(Statement):
    """Tells the user what `tool` is about to do, and hears back, before calling it."""

    kind: Literal["confirm"] = "confirm"
    tool: str

    def judge(self, view: View) -> Finding:
        """LACKING at the first call whose values no earlier, answered agent message names."""
        calls = view.by_tool.get(self.tool, ())
        for call in calls:
            answered = max((at for at, _ in view.user if at < call.at), default=-1)
            said = [text for at, text in view.agent_padded if at < answered]
            values = [leaf.value for leaf in call.arguments if len(leaf.value) > 2]
            if not any(mentions(text, value) for text in said for value in values):
                return _verdict(False, call.at)
        return _verdict(True, calls[0].at) if calls else NOT_APPLICABLE


class Source(Statement):
    """Argument `argument` of `tool` is the value of `field` in the latest linked result of `origin`."""

    kind: Literal["source"] = "source"
    tool: str
    argument: str
    origin: str
    field: str

    def judge(self, view: View) -> Finding:
        """LACKING at the first call with another value; NA where the field was not known before."""
        known = None
        for call in view.by_tool.get(self.tool, ()):
            given = call.values.get(self.argument)
            earlier = [
                one for one in view.by_tool.get(self.origin, ()) if one.at < call.at and self.field in one.fields
            ]
            about = [one for one in earlier if linked(call, one)]
            if not given or not about:
                continue
            if not set(given) <= set(field_values(about[-1], self.field, call)):
                return _verdict(False, call.at)
            known = call.at if known is None else known
        return NOT_APPLICABLE if known is None else _verdict(True, known)


class Grounded(Statement):
    """Every value of the argument was said by the user or returned by a tool before (not invented)."""

    kind: Literal["grounded"] = "grounded"
    tool: str
    argument: str

    def judge(self, view: View) -> Finding:
        """LACKING at the first call with a value from nowhere."""
        first = None
        for call in view.by_tool.get(self.tool, ()):
            if given := call.values.get(self.argument):
                known = view.known(call.at) + view.system_padded
                if not all(mentions(known, value) for value in given):
                    return _verdict(False, call.at)
                first = call.at if first is None else first
        return NOT_APPLICABLE if first is None else _verdict(True, first)


class Match(Statement):
    """The argument picks, among the records that `origin` listed, one that best fits the user's words."""

    kind: Literal["match"] = "match"
    tool: str
    argument: str
    origin: str
    key: str
    """Path of the field whose value the argument takes."""
    name: str
    """Path of the field that the user's words fit."""

    def judge(self, view: View) -> Finding:
        """LACKING at the first call that picks a record which another one beats; NA without two records to pick from."""
        first = None
        for call in view.by_tool.get(self.tool, ()):
            fits = self._fits(view, call)
            picked = {value: fits[value] for value in call.values.get(self.argument, ()) if value in fits}
            if len(fits) < 2 or not picked or max(fits.values()) == 0:
                continue
            if min(picked.values()) < sorted(fits.values())[-len(picked)]:
                return _verdict(False, call.at)
            first = call.at if first is None else first
        return NOT_APPLICABLE if first is None else _verdict(True, first)

    def _fits(self, view: View, call: CallView) -> dict[str, float]:
        """Key value of each listed record → share of its name's words that the user said."""
        sources = [one for one in view.by_tool.get(self.origin, ()) if one.at < call.at and self.key in one.fields]
        sources = [one for one in sources if set(call.values.get(self.argument, ())) & set(one.fields[self.key])]
        if not sources:
            return {}
        keys = {leaf.record: leaf.value for leaf in sources[-1].result if leaf.path == self.key}
        fits: dict[str, float] = {}
        for leaf in sources[-1].result:
            if leaf.path == self.name and leaf.record in keys:
                said = leaf.value.split()
                fits[keys[leaf.record]] = sum(mentions(view.user_padded, word) for word in said) / len(said)
        return fits


class Cover(Statement):
    """Every identifier of a family that the user named is used in some call (completeness)."""

    kind: Literal["cover"] = "cover"
    family: str
    """Argument name that the identifiers are given under, such as `order_id`."""
    pattern: str
    """Regular expression of the family."""
    least: int = 1
    """NA where the user named fewer."""

    def judge(self, view: View) -> Finding:
        """LACKING at the agent's last message where a named identifier was never used."""
        named = named_identifiers(self.pattern, view.user_text)
        if len(named) < self.least:
            return NOT_APPLICABLE
        used = {leaf.value for call in view.calls for leaf in call.arguments}
        return _verdict(used.issuperset(named), view.last)


class Sweep(Statement):
    """Looks up every record of a listing, and not only some."""

    kind: Literal["sweep"] = "sweep"
    tool: str
    argument: str
    origin: str
    """Tool whose result lists the records."""
    field: str
    """Path of their identifiers in it."""

    def judge(self, view: View) -> Finding:
        """LACKING at the agent's last message where some were looked up, not all; NA without two listed."""
        listed = {value for call in view.by_tool.get(self.origin, ()) for value in call.fields.get(self.field, ())}
        given = {value for call in view.by_tool.get(self.tool, ()) for value in call.values.get(self.argument, ())}
        if len(listed) < 2 or not listed & given:
            return NOT_APPLICABLE
        return _verdict(listed <= given, view.last)


class Obtain(Statement):
    """Gets an identifier that the user does not give from a tool that lists it, instead of insisting on it."""

    kind: Literal["obtain"] = "obtain"
    family: str
    pattern: str
    origin: str
    """Tool whose result holds identifiers of the family."""
    field: str

    def judge(self, view: View) -> Finding:
        """NA where the user named one first; LACKING at the agent's last message where none was ever found."""
        named = next((at for at, text in view.user if named_identifiers(self.pattern, text)), None)
        found = next(
            (call.result_at for call in view.by_tool.get(self.origin, ()) if call.fields.get(self.field)), None
        )
        if named is not None and (found is None or named < found):
            return NOT_APPLICABLE
        return _verdict(found is not None, view.last if found is None else found)


class Fulfil(Statement):
    """Calls the tool for each thing the user asked for, where the words ask for several."""

    kind: Literal["fulfil"] = "fulfil"
    requests: tuple[tuple[str, tuple[str, ...]], ...]
    """(tool, terms that ask for it)."""
    least: int = 2
    """NA where the words ask for fewer tools."""

    def judge(self, view: View) -> Finding:
        """LACKING at the agent's last message where a tool that was asked for was never called."""
        asked = [tool for tool, said in self.requests if not view.user_terms.isdisjoint(said)]
        if len(asked) < self.least:
            return NOT_APPLICABLE
        return _verdict(all(tool in view.by_tool for tool in asked), view.last)


class Recover(Statement):
    """After an error of a tool, gets the same tool to work."""

    kind: Literal["recover"] = "recover"
    tool: str
    error: str
    """Error signature."""
    remedy: str | None = None
    """Tool that must have worked between the error and the success; None: any way will do."""

    def judge(self, view: View) -> Finding:
        """LACKING at the agent's last message where no later call worked; NA without such an error."""
        calls = view.by_tool.get(self.tool, ())
        failed = next((call for call in calls if call.error == self.error), None)
        if failed is None:
            return NOT_APPLICABLE
        for later in calls:
            if later.at > failed.at and later.ok and linked(later, failed):
                helped = [
                    one for one in view.by_tool.get(self.remedy or "", ()) if failed.at < one.at < later.at and one.ok
                ]
                if self.remedy is None or helped:
                    return _verdict(True, later.at)
        return _verdict(False, view.last)


class Avoid(Statement):
    """Calls a tool without running into an error."""

    kind: Literal["avoid"] = "avoid"
    tool: str
    error: str

    def judge(self, view: View) -> Finding:
        """LACKING at the first call with this error."""
        calls = view.by_tool.get(self.tool, ())
        failed = next((call.at for call in calls if call.error == self.error), None)
        return NOT_APPLICABLE if not calls else _verdict(failed is None, calls[0].at if failed is None else failed)


class Report(Statement):
    """Tells the user the value of a result field."""

    kind: Literal["report"] = "report"
    tool: str
    field: str

    def judge(self, view: View) -> Finding:
        """LACKING at the agent's last message where no later words mention a value; NA where no call returned one."""
        sources = [call for call in view.by_tool.get(self.tool, ()) if 0 < len(call.fields.get(self.field, ())) <= 3]
        if not sources:
            return NOT_APPLICABLE
        for call in sources:
            values = call.fields[self.field]
            for at, text in view.agent_padded:
                if at > call.at and all(mentions(text, value) for value in values):
                    return _verdict(True, at)
        return _verdict(False, view.last)


class NoRepeat(Statement):
    """Does not make the same call again right after it gave the same answer."""

    kind: Literal["no-repeat"] = "no-repeat"

    def judge(self, view: View) -> Finding:
        """LACKING at the first repetition with the same result and no other call between."""
        for one, two in zip(view.calls, view.calls[1:], strict=False):
            if (one.tool, one.arguments, one.content) == (two.tool, two.arguments, two.content):
                return _verdict(False, two.at)
        return _verdict(True, view.last) if view.calls else NOT_APPLICABLE


class Conclude(Statement):
    """Brings the conversation to an end with words to the user, within the limits."""

    kind: Literal["conclude"] = "conclude"

    def judge(self, view: View) -> Finding:
        """LACKING where the agent's last message says nothing, or a limit of turns or tokens ended the episode."""
        limited = view.trajectory.stop in ("max_turns", "max_tokens")
        spoke = bool(view.agent) and view.agent[-1][0] == view.last
        return _verdict(spoke and not limited, view.last)


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
