"""What the data says about an environment's interface: tools, which of them write, identifiers, facts, intents."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from trace_agents.analysis.english import words_of
from trace_agents.analysis.instructions import Instructions, instructions_of
from trace_agents.analysis.statements import Fact
from trace_agents.analysis.values import identifier_pattern, padded, stem
from trace_agents.analysis.views import CallView, View, leaf_name
from trace_agents.types import ToolSpec

_VERBS = {
    False: """
        get find search list read look lookup check query view fetch show describe track count verify calculate compute
        think retrieve inspect browse compare estimate preview print head cat ls grep open
    """,
    True: """
        add apply approve assign book buy cancel change charge close create delete deny discharge edit exchange insert
        issue lock make modify move order pay place post prescribe put reassign refund register remove rename renew
        replace reserve reset return revoke schedule send set submit swap transfer unlock update upgrade upload write
    """,
}
"""Verbs of tool names: whether they write → the verbs."""
_WRITES = {verb: writes for writes, verbs in _VERBS.items() for verb in verbs.split()}
_MAX_VALUES = 12
"""Distinct values up to which a field is categorical."""


@dataclass(frozen=True)
class Catalog:
    """Interface facts mined from trajectories."""

    tools: tuple[str, ...]
    """Every tool, most called first; what no trajectory offers and no call got to work is none."""
    writes: frozenset[str]
    """Tools that change state."""
    identifiers: Mapping[str, str]
    """Argument name → pattern of the identifiers it takes."""
    facts: tuple[Fact, ...]
    """Claims about result fields with few values or with an order, most frequent first."""
    intents: Mapping[str, tuple[str, ...]]
    """Tool → terms of the user's words that ask for it."""
    rules: Mapping[str, tuple[Fact, ...]]
    """Writing tool → facts that the agent's instructions name in one breath with it."""


def survey(views: Sequence[View]) -> Catalog:
    """The catalog of a set of trajectories."""
    specs = {tool.name: tool for view in views for tool in view.trajectory.tools}
    called = Counter(call.tool for view in views for call in view.calls)
    tools = tuple(sorted(_real(views, specs), key=lambda name: (-called[name], name)))
    writes = frozenset(tool for tool in tools if is_write(tool, specs.get(tool), views))
    told = frozenset(tool for tool in writes if says_write(tool, specs.get(tool)))
    written = instructions_of(views)
    facts = _facts(views, told, written)
    # Rules that the agent has to keep are about what its instructions name; other fields are only there by chance.
    named = [fact for fact in facts if written.speak_of(fact)]
    rules = {tool: written.beside(tool, named) for tool in tools if tool in writes}
    if not any(rules.values()):  # "You are a helpful assistant": instructions that state no rule rule nothing out.
        named = facts
    return Catalog(
        tools=tools,
        writes=writes,
        identifiers=_identifiers(views),
        facts=tuple(named),
        intents=_intents(views, [tool for tool in tools if called[tool]]),
        rules=rules,
    )


def _real(views: Sequence[View], specs: Mapping[str, ToolSpec]) -> set[str]:
    """Tools that are offered, that worked, or are called where it is not recorded what is offered."""
    worked = {call.tool for view in views for call in view.calls if call.ok or not view.trajectory.tools}
    # A call that could not be parsed may have an empty name.
    return {*specs, *worked} - {""}


def is_write(name: str, spec: ToolSpec | None, views: Sequence[View]) -> bool:
    """Whether a tool changes state: by its annotations, its name's verb, its description's, or what it returns.

    A tool of unknown verb counts as a read where it never worked, where it takes no arguments, or where most of what it
    returns is news: not in its arguments, and not what most of its calls return.
    """
    said = says_write(name, spec)
    if said is None and spec is not None:
        said = _described_write(spec.description)
    if said is not None:
        return said
    calls = [call for view in views[:500] for call in view.by_tool.get(name, ()) if call.ok]
    if not any(call.arguments for call in calls):
        return False
    return not (_tells_fields(calls) or _tells_text([call for call in calls if not call.result]))


def _tells_fields(calls: Sequence[CallView]) -> bool:
    """Most of the fields of JSON results are news."""
    returned = Counter((leaf.path, leaf.value) for call in calls for leaf in call.result)
    news = 0
    for call in calls:
        given = {leaf.value for leaf in call.arguments}
        news += sum(
            leaf.value not in given and 2 * returned[leaf.path, leaf.value] <= len(calls) for leaf in call.result
        )
    return news > returned.total() / 2


def _tells_text(calls: Sequence[CallView]) -> bool:
    """Plain texts hold more than one word of news on average, which a confirmation's number is, and more than they
    repeat of the arguments. Numbers that nobody gave are news even where all texts are alike: a menu's prices."""
    texts = [frozenset(call.text.split()) for call in calls]
    returned = Counter(word for words in texts for word in words)
    news = repeated = 0
    for call, words in zip(calls, texts, strict=True):
        given = {word for leaf in call.arguments for word in padded(leaf.value).split()}
        repeated += len(words & given)
        news += sum(2 * returned[word] <= len(calls) or word.isdecimal() for word in words - given)
    return news > max(repeated, len(calls))


def says_write(name: str, spec: ToolSpec | None) -> bool | None:
    """Whether a tool's annotations, else its name's verb, say that it changes state; None where neither tells."""
    hints = (spec.annotations if spec else None) or {}
    if "readOnlyHint" in hints:
        return not hints["readOnlyHint"]
    if hints.get("destructiveHint"):
        return True
    return next((_WRITES[token] for token in words_of(name) if token in _WRITES), None)


def _described_write(description: str) -> bool | None:
    """Whether the verb that a description begins with changes state; None where it tells nothing."""
    first = next(iter(words_of(description)), "")
    if first in ("return", "returns"):  # Of what the call returns, or of what is brought back.
        return None if first == "return" else False
    return _WRITES.get(first, _WRITES.get(first.removesuffix("s"), _WRITES.get(first.removesuffix("es"))))


def raw_leaves(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """(argument name, text as written) of the string leaves of a call's arguments."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from raw_leaves(item, str(key))
    elif isinstance(value, list):
        for item in value:
            yield from raw_leaves(item, name)
    elif isinstance(value, str):
        yield name, value


def _identifiers(views: Sequence[View]) -> dict[str, str]:
    values: dict[str, Counter[str]] = defaultdict(Counter)
    for view in views:
        worked = {call.at for call in view.calls if call.ok}
        for at, message in enumerate(view.trajectory.messages):
            for call in message.tool_calls if at in worked else ():
                for name, text in raw_leaves(call.arguments):
                    values[name][text] += 1
    patterns = {name: identifier_pattern(set(found)) for name, found in values.items()}
    return {name: pattern for name, pattern in patterns.items() if pattern is not None}


def _facts(views: Sequence[View], writes: frozenset[str], written: Instructions) -> list[Fact]:
    """Claims about what reads return: equalities where values are few, thresholds where they are numbers or dates.

    Fields outside lists come first, categorical before ordered, frequent before rare. Fields inside lists are
    only compared for equality (some element has the value).
    """
    seen: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for view in views:
        once = {(call.tool, leaf.path, leaf.value) for call in view.calls for leaf in call.result}
        for tool, path, value in once:
            seen[tool, path][value] += 1
    least = max(5, len(views) // 100)
    ranked: list[tuple[bool, bool, int, str, list[Fact]]] = []
    for (tool, path), values in seen.items():
        total, inside = sum(values.values()), "[]" in path or "*" in path
        if tool in writes or total < least or leaf_name(path).endswith("id"):
            continue
        ranked.append((inside, False, -total, path, _equalities(tool, path, values, least)))
        if not inside:
            ranked.append((inside, True, -total, path, _thresholds(tool, path, values, written)))
    return [fact for *_, facts in sorted(ranked, key=lambda entry: entry[:4]) for fact in facts]


def _equalities(tool: str, path: str, values: Counter[str], least: int) -> list[Fact]:
    """Each frequent value, and each excluded one where there are three or more to tell apart."""
    if not 1 < len(values) <= _MAX_VALUES:
        return []
    common = [value for value, count in values.items() if count >= least and len(value) <= 40]
    common.sort(key=lambda value: (-values[value], value))
    ops: tuple[Literal["==", "!="], ...] = ("==", "!=") if len(common) > 2 and "[]" not in path else ("==",)
    return [Fact(tool=tool, field=path, op=op, value=value) for op in ops for value in common]


def _thresholds(tool: str, path: str, values: Counter[str], written: Instructions) -> list[Fact]:
    """Cuts between a field's values: for dates those that the instructions state, where any parts them.

    Otherwise they are the quintiles, of which data as good as any may choose one by chance.
    """
    ordered = _ordered(list(values)) if len(values) > 4 else None
    if ordered is None:
        return []
    stated = written.splitting(ordered) if _are_dates(ordered) else []
    cuts = dict.fromkeys(stated or [ordered[int(share * (len(ordered) - 1))] for share in (0.2, 0.4, 0.6, 0.8)])
    ops: tuple[Literal[">=", "<="], ...] = (">=", "<=")
    return [Fact(tool=tool, field=path, op=op, value=cut) for cut in cuts for op in ops]


def _ordered(values: list[str]) -> list[str] | None:
    """Values in order where all are numbers or all are ISO dates; None otherwise."""
    try:
        return sorted(values, key=float)
    except ValueError:
        return sorted(values) if _are_dates(values) else None


def _are_dates(values: Iterable[str]) -> bool:
    return all(len(value) >= 10 and value[:4].isdigit() and value[4] == value[7] == "-" for value in values)


def task_terms(views: Sequence[View], least_tasks: int = 3) -> dict[str, frozenset[str]]:
    """Term → tasks whose user says it, for terms that belong to the task and not to one trial's course.

    A term counts where at least 60 % of the trials of the tasks that hold it hold it too, in `least_tasks` tasks
    or more and in fewer than 90 % of them all.
    """
    trials = Counter(view.task for view in views)
    said: dict[str, Counter[str]] = defaultdict(Counter)
    for view in views:
        for term in view.user_terms:
            said[term][view.task] += 1
    found = {}
    for term, tasks in said.items():
        if len(tasks) < least_tasks or len(tasks) >= 0.9 * len(trials):
            continue
        if sum(tasks.values()) >= 0.6 * sum(trials[task] for task in tasks):
            found[term] = frozenset(tasks)
    return found


def _intents(views: Sequence[View], tools: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Terms that ask for each tool: a greedy cover of the tasks that call it by terms that go with calling it.

    A request may rightly be declined, so a term need not always lead to the call: twice the base rate is enough,
    and for the words of the tool's own name any rise.
    """
    terms = task_terms(views, least_tasks=2)
    trials = Counter(view.task for view in views)
    intents = {}
    for tool in tools:
        calls = Counter(view.task for view in views if tool in view.by_tool)
        wanted = {task for task, count in calls.items() if count >= 0.25 * trials[task]}
        if 2 <= len(wanted) <= 0.7 * len(trials):
            own = set(own_terms(tool, terms))
            intents[tool] = _asking_terms(terms, wanted, len(wanted) / len(trials), own)
    return {tool: found for tool, found in intents.items() if found}


def own_terms(tool: str, terms: Iterable[str]) -> frozenset[str]:
    """Those terms that hold the tool's verb, the first word of its name: `cancel my` for `cancel_order`."""
    verb = stem(tool.lower().replace("-", "_").split("_")[0])
    return frozenset(term for term in terms if verb in {stem(word) for word in term.split()})


def _asking_terms(terms: Mapping[str, frozenset[str]], wanted: set[str], base: float, own: set[str]) -> tuple[str, ...]:
    chosen: list[str] = []
    left = set(wanted)
    usable = []
    for term, tasks in sorted(terms.items()):
        share = len(tasks & wanted) / len(tasks)
        if share >= (1.2 * base if term in own else max(2 * base, 0.5)):
            usable.append((term, tasks))
    while left and len(chosen) < 8:
        term, tasks = max(usable, key=lambda item: _worth(item, left, wanted, own), default=("", frozenset()))
        if len(tasks & left) < 2:
            break
        chosen.append(term)
        left -= tasks
    return tuple(chosen)


def _worth(
    item: tuple[str, frozenset[str]], left: set[str], wanted: set[str], own: set[str]
) -> tuple[float, bool, str]:
    """How much a term adds: tasks newly covered, less half of those it wrongly takes in; plain words first."""
    term, tasks = item
    return (len(tasks & left) - 0.5 * len(tasks - wanted) + (0.5 if term in own else 0), " " not in term, term)
