"""Statements about what a result lists, compared or added up: the cheapest of several, the total of all."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from trace_agents.analysis.asking import asked_rank, asks_for_total
from trace_agents.analysis.grammar import NOT_APPLICABLE, Finding, Statement, verdict
from trace_agents.analysis.values import mentions, normal
from trace_agents.analysis.views import CallView, View, linked

_NUMBER = re.compile(r"[^\w.,+-]{0,2}([+-]?\d+(?:\.\d+)?)[^\w.]{0,2}")
_MOMENT = re.compile(r"(?:\d{4}-\d\d-\d\d(?:[t ]\d\d:\d\d.*)?|\d\d:\d\d(?::\d\d)?)")
CLOSE = 0.005
"""Amounts that differ by less are one."""


class Extreme(Statement):
    """The argument picks, among the records that `origin` listed, the one whose `field` is the least, or the most.

    Where the user's words rank it ("the second cheapest"), it is the one of that rank.
    """

    kind: Literal["extreme"] = "extreme"
    tool: str
    argument: str
    origin: str
    key: str
    """Path of the field whose value the argument takes."""
    field: str
    """Path of the field that is compared: numbers, or dates and times."""
    most: bool
    """The largest or latest is asked for, not the smallest or earliest."""
    asked: tuple[str, ...]
    """Superlatives of the user's words that ask for it."""

    def judge(self, view: View) -> Finding:
        """Decided by the first call, after the words that ask for it, which picks one of several such records; NA where
        none is asked for, or no call picks one."""
        if asked_rank(view.user_padded, self.asked) is None:
            return NOT_APPLICABLE
        ranks = ((at, asked_rank(text, self.asked)) for at, text in view.each_padded)
        since, rank = next(((at, rank) for at, rank in ranks if rank is not None), (0, 1))
        for call in view.by_tool.get(self.tool, ()):
            for value in call.values.get(self.argument, ()) if call.at > since else ():
                found = listed(view.by_tool.get(self.origin, ()), call, self.key, self.field, value)
                if len(set(found.values())) >= max(2, rank):
                    return verdict(found[value] == nth(found.values(), rank, self.most), call.at)
        return NOT_APPLICABLE


class Total(Statement):
    """The argument is the sum of what the looked-up records say, of those that the call is about."""

    kind: Literal["total"] = "total"
    tool: str
    argument: str
    """Path of an amount; several (a split payment) are added up."""
    origin: str
    field: str

    def judge(self, view: View) -> Finding:
        """LACKING at the first call with another amount; NA without two values to add up."""
        first = None
        for call in view.by_tool.get(self.tool, ()):
            given = amounts(call.values.get(self.argument, ()))
            parts = added(view.by_tool.get(self.origin, ()), call, self.field, self.argument) if given else []
            if len(parts) < 2:
                continue
            if abs(sum(given) - sum(parts)) >= CLOSE:
                return verdict(False, call.at)
            first = call.at if first is None else first
        return NOT_APPLICABLE if first is None else verdict(True, first)


class Tally(Statement):
    """Tells the user the sum of what the looked-up records say, where a total is asked for."""

    kind: Literal["tally"] = "tally"
    tool: str
    field: str

    def judge(self, view: View) -> Finding:
        """LACKING at the agent's last message where it was never told; NA where no total was asked for, or none was
        looked up."""
        if not asks_for_total(view.user_padded):
            return NOT_APPLICABLE
        calls = view.by_tool.get(self.tool, ())
        parts = added(calls, None, self.field)
        if len(parts) < 2:
            return NOT_APPLICABLE
        total = normal(round(sum(parts), 2))
        told = next((at for at, text in view.agent_padded if at > calls[0].at and mentions(text, total)), None)
        return verdict(told is not None, view.last if told is None else told)


class Moment(NamedTuple):
    """A date or time; ISO forms sort as text."""

    text: str


Ordered = float | Moment


def ordered(value: str) -> Ordered | None:
    """A value in normal form as what can be compared; None for what is neither a number nor a date or time."""
    if number := _NUMBER.fullmatch(value):
        return float(number[1])
    return Moment(value) if _MOMENT.fullmatch(value) else None


def amounts(values: Iterable[str]) -> list[float]:
    """The values as numbers; empty where one is none."""
    found = [ordered(value) for value in values]
    return [one for one in found if isinstance(one, float)] if all(isinstance(one, float) for one in found) else []


def listed(origins: Iterable[CallView], call: CallView, key: str, field: str, value: str) -> dict[str, Ordered]:
    """Key → compared value of the records in the latest listing before `call` that holds `value` as a key.

    Empty where there is no such listing, or what it compares is not all of one kind.
    """
    before = [one for one in origins if one.at < call.at and value in one.fields.get(key, ())]
    found = compared(before[-1], key).get(field, {}) if before else {}
    return found if value in found and len({type(one) for one in found.values()}) == 1 else {}


def compared(listing: CallView, key: str) -> dict[str, dict[str, Ordered]]:
    """Field → key → value, of the numbers, dates and times of a listing's records."""
    keys = {leaf.record: leaf.value for leaf in listing.result if leaf.path == key and leaf.record}
    found: dict[str, dict[str, Ordered]] = {}
    for leaf in listing.result:
        if leaf.path != key and leaf.record in keys and (place := ordered(leaf.value)) is not None:
            found.setdefault(leaf.path, {}).setdefault(keys[leaf.record], place)
    return found


def nth(values: Iterable[Ordered], rank: int, most: bool) -> Ordered:
    """The value of that rank among the distinct ones, 1 being the least, or the most."""
    return sorted(set(values), reverse=most)[rank - 1]


def added(origins: Iterable[CallView], call: CallView | None, field: str, argument: str = "") -> list[float]:
    """The values that a total over `field` adds up: of each thing looked up before `call`, as it was seen last.

    They are narrowed to the records that `call` names, where it names some; the amount itself, its `argument`, names
    none.
    """
    latest: dict[object, CallView] = {}
    for one in origins:
        if one.ok and field in one.fields and (call is None or (one.at < call.at and linked(call, one))):
            latest[one.arguments] = one
    naming = frozenset() if call is None else call.telling - frozenset(call.values.get(argument, ()))
    return amounts(value for one in latest.values() for value in _narrowed(one, field, naming))


def _narrowed(call: CallView, field: str, naming: frozenset[str]) -> Iterable[str]:
    """Values of a result field, of the records that hold one of the naming values where some do."""
    records = {leaf.record for leaf in call.result if leaf.record and leaf.value in naming} if naming else set()
    found = [leaf.value for leaf in call.result if leaf.path == field and leaf.record in records]
    return found or call.fields[field]


def numeric_fields(call: CallView) -> Iterator[str]:
    """Paths of a result that hold amounts."""
    for path, values in call.fields.items():
        if amounts(values[:3]):
            yield path
