"""Candidate statements, proposed from the tools and the data alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations

from trace_agents.analysis.catalog import Catalog, own_terms
from trace_agents.analysis.mining_amounts import extremes, totals
from trace_agents.analysis.statements import (
    Avoid,
    Before,
    Conclude,
    Confirm,
    Cover,
    Fact,
    Fulfil,
    Grounded,
    Match,
    NoRepeat,
    Obtain,
    Recover,
    Refrain,
    Report,
    Source,
    Statement,
    Sweep,
    Use,
)
from trace_agents.analysis.values import mentions
from trace_agents.analysis.views import CallView, View, field_values, leaf_name, linked

_LEAST = 5
"""Trajectories in which the stuff of a statement must occur."""
_MOST_FACTS = 80
"""Facts tried as guards, most frequent first."""
_MOST_PAIRED = 30
"""Facts tried as guards two by two."""
_MOST_RULES = 24
"""Facts, named by the instructions in one breath with a tool, of which larger guards are put together."""
_MOST_JOINED = 3
"""Facts of the largest guards."""


def propose(views: Sequence[View], catalog: Catalog) -> list[Statement]:
    """Statements without conditions, each once, in a fixed order."""
    found: dict[Statement, None] = {}
    for source in (_uses, _guards, _orders, _arguments, _completeness, _errors, _reports):
        found.update(dict.fromkeys(source(views, catalog)))
    found.update(dict.fromkeys((*extremes(views), *totals(views), NoRepeat(), Conclude())))
    return list(found)


def _called(views: Sequence[View]) -> Counter[str]:
    """Tool → trajectories that call it."""
    return Counter(tool for view in views for tool in view.by_tool)


def _uses(views: Sequence[View], catalog: Catalog) -> Iterator[Statement]:
    called = _called(views)
    for tool in catalog.tools:
        if called[tool] >= _LEAST:
            yield Use(tools=(tool,))
    writes = tuple(sorted(tool for tool in catalog.writes if called[tool]))
    if len(writes) > 1:
        yield Use(tools=writes)


def _guards(views: Sequence[View], catalog: Catalog) -> Iterator[Statement]:
    called = _called(views)
    facts = catalog.facts[:_MOST_FACTS]
    for tool in sorted(catalog.writes):
        if called[tool] < _LEAST:
            continue
        yield Refrain(tool=tool)
        # Only words of the tool's own name: others tell who calls it, and not who wants it.
        asked = tuple(sorted(own_terms(tool, catalog.intents.get(tool, ()))))
        sets = [*((fact,) for fact in facts), *_joined(facts[:_MOST_PAIRED], 2)]
        for size in range(2, _MOST_JOINED + 1):
            sets += _joined(catalog.rules.get(tool, ())[:_MOST_RULES], size)
        for said in dict.fromkeys((asked, ())):
            yield from (Refrain(tool=tool, facts=several, asked=said) for several in dict.fromkeys(sets))


def _joined(facts: Sequence[Fact], size: int) -> Iterator[tuple[Fact, ...]]:
    """Sets of facts on different fields of one tool's result."""
    for several in combinations(facts, size):
        if len({fact.tool for fact in several}) == 1 and len({fact.field for fact in several}) == size:
            yield several


def _orders(views: Sequence[View], catalog: Catalog) -> Iterator[Statement]:
    called = _called(views)
    frequent = [tool for tool in catalog.tools if called[tool] >= _LEAST]
    for then in frequent:
        if then in catalog.writes:
            yield Confirm(tool=then)
            for first in frequent:
                if first != then:
                    yield from (Before(first=first, then=then, linked=tie) for tie in (False, True))


def _arguments(views: Sequence[View], catalog: Catalog) -> Iterator[Statement]:
    """Provenance of arguments: grounding, equality with earlier results, the record that the user means."""
    given: Counter[tuple[str, str]] = Counter()
    equal: Counter[tuple[str, str, str, str]] = Counter()
    apart: Counter[tuple[str, str, str, str]] = Counter()
    names: Counter[tuple[str, str, str, str, str]] = Counter()
    for view in views:
        same: set[tuple[str, str, str, str]] = set()
        other: set[tuple[str, str, str, str]] = set()
        picks: set[tuple[str, str, str, str, str]] = set()
        for call in view.calls:
            for path in call.values:
                given[call.tool, path] += 1
            for key, agrees in _sources(view, call):
                (same if agrees else other).add(key)
            picks |= _picks(view, call)
        equal.update(same)
        apart.update(other - same)
        names.update(picks)
    for (tool, path), count in sorted(given.items()):
        if count >= _LEAST:
            yield Grounded(tool=tool, argument=path)
    for key, count in sorted(equal.items()):
        if count >= _LEAST and count >= 0.05 * (count + apart[key]):
            yield Source(tool=key[0], argument=key[1], origin=key[2], field=key[3])
    for pick, count in sorted(names.items()):
        if count >= _LEAST:
            yield Match(tool=pick[0], argument=pick[1], origin=pick[2], key=pick[3], name=pick[4])


def _sources(view: View, call: CallView) -> Iterator[tuple[tuple[str, str, str, str], bool]]:
    """Each argument of a call against each field of the latest linked result of each other tool."""
    for origin, earlier in view.by_tool.items():
        about = [one for one in earlier if one.at < call.at and one.ok and linked(call, one)]
        if not about or origin == call.tool:
            continue
        for path, values in call.values.items():
            for field in about[-1].fields:
                known = field_values(about[-1], field, call)
                yield (call.tool, path, origin, field), set(values) <= set(known)


def _picks(view: View, call: CallView) -> set[tuple[str, str, str, str, str]]:
    """(tool, argument, origin, key, name) where an argument is the key of one of several listed records."""
    found = set()
    for origin, earlier in view.by_tool.items():
        for one in earlier:
            if one.at >= call.at or not one.ok:
                continue
            for path, values in call.values.items():
                found |= {(call.tool, path, origin, key, name) for key, name in _keyed(one, values)}
    return found


def _keyed(call: CallView, values: tuple[str, ...]) -> set[tuple[str, str]]:
    keys = {leaf.path: leaf.record for leaf in call.result if leaf.record and leaf.value in values}
    found = set()
    for key, record in keys.items():
        if len(set(call.fields[key])) < 2:
            continue
        for leaf in call.result:
            if leaf.record == record and leaf.path != key and leaf.value.replace(" ", "").isalpha():
                found.add((key, leaf.path))
    return found


def _completeness(views: Sequence[View], catalog: Catalog) -> Iterator[Statement]:
    families = []
    for family, pattern in sorted(catalog.identifiers.items()):
        named = sum(bool(_given(view, family).intersection(view.named(pattern))) for view in views)
        if named >= _LEAST and named >= 0.05 * len(views):
            families.append((family, pattern))
            yield from (Cover(family=family, pattern=pattern, least=least) for least in (1, 2))
    if len(families) > 1:
        (family, pattern), *others = families
        yield from (Cover(family=family, pattern=pattern, least=least, others=tuple(others)) for least in (1, 2))
    yield from _listings(views, catalog)
    requests = tuple((tool, catalog.intents[tool]) for tool in sorted(catalog.writes) if tool in catalog.intents)
    if requests:
        yield Fulfil(requests=requests, least=1)
    if len(requests) > 1:
        yield Fulfil(requests=requests, least=2)


def _listings(views: Sequence[View], catalog: Catalog) -> Iterator[Statement]:
    """Results that list identifiers which some later call takes: to be swept, and to obtain what the user omits."""
    uses: Counter[tuple[str, str, str, str]] = Counter()
    for view in views:
        found = set()
        for call in view.calls:
            for earlier in view.calls:
                if earlier.at < call.at and earlier.tool != call.tool:
                    found |= {
                        (call.tool, path, earlier.tool, field)
                        for path, values in call.values.items()
                        if leaf_name(path) in catalog.identifiers
                        for field, listed in earlier.fields.items()
                        if set(values) <= set(listed) and "[]" in field
                    }
        uses.update(found)
    for (tool, path, origin, field), count in sorted(uses.items()):
        if count >= _LEAST:
            yield Sweep(tool=tool, argument=path, origin=origin, field=field)
            family = leaf_name(path)
            yield Obtain(family=family, pattern=catalog.identifiers[family], origin=origin, field=field)


def _given(view: View, family: str) -> set[str]:
    return {value for call in view.calls for value in call.keys.get(family, ())}


def _errors(views: Sequence[View], catalog: Catalog) -> Iterator[Statement]:
    errors: Counter[tuple[str, str]] = Counter()
    remedies: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for view in views:
        for key in {(call.tool, call.error) for call in view.calls if call.error is not None}:
            errors[key] += 1
            first = next(call.at for call in view.by_tool[key[0]] if call.error == key[1])
            worked = max((call.at for call in view.by_tool[key[0]] if call.ok), default=-1)
            remedies[key].update({call.tool for call in view.calls if first < call.at < worked and call.tool != key[0]})
    for (tool, error), count in sorted(errors.items()):
        if count < _LEAST:
            continue
        yield Avoid(tool=tool, error=error)
        yield Recover(tool=tool, error=error)
        for remedy, times in sorted(remedies[tool, error].items()):
            if times >= _LEAST:
                yield Recover(tool=tool, error=error, remedy=remedy)


def _reports(views: Sequence[View], catalog: Catalog) -> Iterator[Statement]:
    """Fields that a tool returned, where their values are mostly news: neither asked with nor said by the user."""
    fields: Counter[tuple[str, str]] = Counter()
    news: Counter[tuple[str, str]] = Counter()
    for view in views:
        seen, new = set(), set()
        for call in view.calls:
            given = {leaf.value for leaf in call.arguments}
            for path, values in call.fields.items():
                if len(values) <= 3:
                    seen.add((call.tool, path))
                    if not all(value in given or mentions(view.user_padded, value) for value in values):
                        new.add((call.tool, path))
        fields.update(seen)
        news.update(new)
    for (tool, field), count in sorted(news.items()):
        if count >= _LEAST and count >= 0.5 * fields[tool, field]:
            yield Report(tool=tool, field=field)
