"""Candidate statements that compare or add up what results list, proposed from the data alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import product

from trace_agents.analysis.amounts import (
    CLOSE,
    Extreme,
    Tally,
    Total,
    added,
    amounts,
    compared,
    numeric_fields,
)
from trace_agents.analysis.asking import asks_for_total, superlatives
from trace_agents.analysis.grammar import Statement
from trace_agents.analysis.views import CallView, View
from trace_agents.types import Label

_LEAST = 5
"""Trajectories in which the stuff of a statement must occur."""
_LEAST_TASKS = 2
"""Tasks whose user must say a superlative."""
_MOST_TERMS = 8
"""Superlatives tried, most frequent first."""
_RIGHT = 0.05
"""Least share of the trajectories with a total to be made which make it."""

_Pick = tuple[str, str, str, str, str]
"""(tool, argument, origin, key, field)."""


def extremes(views: Sequence[View]) -> Iterator[Statement]:
    """For each argument that is the key of a listed record: the superlatives that may ask for the least, or the most.

    Which end of which field a superlative means is left to the contrast: an agent that lacks the capability picks
    others as often. Synonyms are proposed one by one, since two of different meaning can be right together by chance.
    """
    said = {id(view): superlatives(view.user_padded) for view in views}
    tasks: dict[str, set[str]] = defaultdict(set)
    for view in views:
        for term in said[id(view)]:
            tasks[term].add(view.task)
    ranked = sorted(tasks, key=lambda term: (-len(tasks[term]), term))[:_MOST_TERMS]
    known = {term for term in ranked if len(tasks[term]) >= _LEAST_TASKS}
    picked: Counter[tuple[_Pick, bool, str]] = Counter()
    for view in views:
        terms = said[id(view)] & known
        for pick in _picks(view) if terms else ():
            for most, term in product((False, True), sorted(terms)):
                picked[pick, most, term] += _extreme(pick, most, term).judge(view).label is Label.PRESENT
    for (pick, most, term), count in sorted(picked.items()):
        if count >= _LEAST:
            yield _extreme(pick, most, term)


def _picks(view: View) -> set[_Pick]:
    """Arguments whose value is the key of one of several listed records, with each field to compare them by."""
    found: set[_Pick] = set()
    for call in view.calls:
        for origin, earlier in view.by_tool.items():
            for path, values in call.values.items():
                listing = next((one for one in reversed(earlier) if one.at < call.at and _holds(one, values)), None)
                if listing is None:
                    continue
                for key in _keys(listing, values):
                    found |= {
                        (call.tool, path, origin, key, field)
                        for field, places in compared(listing, key).items()
                        if len(set(places.values())) > 1
                    }
    return found


def _holds(listing: CallView, values: tuple[str, ...]) -> bool:
    return not listing.returned.isdisjoint(values)


def _keys(listing: CallView, values: tuple[str, ...]) -> list[str]:
    """Paths at which the listing's records hold one of the values, each record another one."""
    paths = {leaf.path for leaf in listing.result if leaf.record and leaf.value in values}
    return [path for path in sorted(paths) if 1 < len(listing.fields[path]) == len(set(listing.fields[path]))]


def _extreme(pick: _Pick, most: bool, term: str) -> Extreme:
    tool, argument, origin, key, field = pick
    return Extreme(tool=tool, argument=argument, origin=origin, key=key, field=field, most=most, asked=(term,))


def totals(views: Sequence[View]) -> Iterator[Statement]:
    """Arguments that often are the sum of a looked-up field, and fields whose sum is told where a total is asked."""
    equal: Counter[tuple[str, str, str, str]] = Counter()
    judged: Counter[tuple[str, str, str, str]] = Counter()
    told: Counter[tuple[str, str]] = Counter()
    for view in views:
        seen: dict[tuple[str, str, str, str], bool] = {}
        for call in view.calls:
            for key, agrees in _sums(view, call):
                seen[key] = seen.get(key, False) or agrees
        judged.update(seen.keys())
        equal.update(key for key, agrees in seen.items() if agrees)
        if asks_for_total(view.user_padded):
            told.update(_told(view))
    for sums, count in sorted(equal.items()):
        if count >= max(_LEAST, _RIGHT * judged[sums]):
            yield Total(tool=sums[0], argument=sums[1], origin=sums[2], field=sums[3])
    for (tool, field), count in sorted(told.items()):
        if count >= _LEAST:
            yield Tally(tool=tool, field=field)


def _sums(view: View, call: CallView) -> Iterator[tuple[tuple[str, str, str, str], bool]]:
    """Each amount that a call gives against the sum of each field of each other tool's results."""
    for path, values in call.values.items():
        given = amounts(values)
        for origin, earlier in view.by_tool.items() if given else ():
            fields = {field for one in earlier if one.at < call.at for field in numeric_fields(one)}
            for field in fields if origin != call.tool else ():
                parts = added(earlier, call, field, path)
                if len(parts) > 1:
                    yield (call.tool, path, origin, field), sum(parts) != 0 and abs(sum(given) - sum(parts)) < CLOSE


def _told(view: View) -> set[tuple[str, str]]:
    """(tool, field) of the sums that the agent tells."""
    found = set()
    for tool, calls in view.by_tool.items():
        for field in {field for one in calls for field in numeric_fields(one)}:
            if Tally(tool=tool, field=field).judge(view).label is Label.PRESENT:
                found.add((tool, field))
    return found
