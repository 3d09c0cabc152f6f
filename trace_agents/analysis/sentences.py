"""What each kind of statement says in plain English: a title, what exercising it is, and what lacking it looks like."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from trace_agents.analysis.english import do, doing, listed, noun, phrase
from trace_agents.analysis.statements import Fact, Said


class Wording(NamedTuple):
    """A capability in words."""

    title: str
    """Imperative, without a full stop."""
    sentences: tuple[str, str]
    """What exercising it is, and what lacking it looks like."""


def quoted(text: str) -> str:
    """In quotation marks."""
    return f"“{text}”"


def fact_in_words(fact: Fact, of: bool = True) -> str:
    """`get_order` says that “status” is “shipped”."""
    relation = {"==": "is", "!=": "is not", ">=": "is at least", "<=": "is at most"}[fact.op]
    value = re.sub(r"(?<=\d)t(?=\d\d:)", "T", fact.value)  # Normal forms are lower case; ISO times are not.
    claim = f"{quoted(phrase(fact.field))} {relation} {quoted(value)}"
    return f"{fact.tool} says that {claim}" if of else claim


def _use(one: Any) -> Wording:
    asked = " when the user asks for it" if any(isinstance(condition, Said) for condition in one.when) else ""
    if len(one.tools) > 1:
        tools = listed(list(one.tools), "or")
        return Wording(
            "Make the change instead of only talking",
            (f"The agent gets a change done with {tools}.", "Lacking it, the conversation ends without any."),
        )
    tool = one.tools[0]
    return Wording(
        _capital(do(tool)) + asked,
        (f"The agent calls {tool}, and the call works.", f"Lacking it, the conversation ends without {doing(tool)}."),
    )


def _refrain(one: Any) -> Wording:
    if not one.facts:
        return Wording(
            f"Hold back from {doing(one.tool)}",
            (f"The agent does not call {one.tool}, and says so.", f"Lacking it, the agent goes on {doing(one.tool)}."),
        )
    fields = listed(list(dict.fromkeys(phrase(fact.field) for fact in one.facts)))
    claims = listed([fact_in_words(fact, of=index == 0) for index, fact in enumerate(one.facts)])
    return Wording(
        f"Check {fields} before {doing(one.tool)}",
        (
            f"The agent minds what it looked up before {doing(one.tool)}: where {claims}, it does not call {one.tool}.",
            "Lacking it, the agent has seen this and makes the call all the same.",
        ),
    )


def _before(one: Any) -> Wording:
    tie = " about the same thing" if one.linked else ""
    return Wording(
        f"{_capital(do(one.first))} before {doing(one.then)}",
        (f"The agent calls {one.first}{tie} before {one.then}.", f"Lacking it, {one.then} is called without that."),
    )


def _confirm(one: Any) -> Wording:
    return Wording(
        f"Confirm with the user before {doing(one.tool)}",
        (
            f"The agent tells the user what it is about to do and hears back before calling {one.tool}.",
            "Lacking it, the call comes without the user having heard any of its values.",
        ),
    )


def _source(one: Any) -> Wording:
    argument, known = phrase(one.argument), phrase(one.field)
    return Wording(
        f"Take {quoted(argument)} from the {quoted(known)} on record when {doing(one.tool)}",
        (
            f"The agent gives {one.tool} as {quoted(argument)} the value of {quoted(known)} "
            f"that {one.origin} returned.",
            "Lacking it, the call is made with another value although the right one was looked up.",
        ),
    )


def _grounded(one: Any) -> Wording:
    argument = phrase(one.argument)
    return Wording(
        f"Give only known values as {quoted(argument)} when {doing(one.tool)}",
        (
            f"Each value that {one.tool} gets as {quoted(argument)} was said by the user or returned by a tool.",
            "Lacking it, the agent makes a value up.",
        ),
    )


def _match(one: Any) -> Wording:
    thing, name = noun(one.argument.rpartition(".")[2]), phrase(one.name)
    return Wording(
        f"Pick the {thing} that the user means when {doing(one.tool)}",
        (
            f"Of several records that {one.origin} lists, the agent picks the one whose {quoted(name)} "
            "fits the user's words.",
            f"Lacking it, {one.tool} is called with one that another record fits better.",
        ),
    )


def _extreme(one: Any) -> Wording:
    thing, field = noun(one.argument.rpartition(".")[2]), phrase(one.field)
    end = "greatest" if one.most else "least"
    asked = listed(list(one.asked), "or")
    return Wording(
        f"Pick the {asked} {thing} when {doing(one.tool)}",
        (
            f"Where the user asks for the {asked}, the agent calls {one.tool} with the {thing} whose "
            f"{quoted(field)} is the {end} of those that {one.origin} lists.",
            "Lacking it, another one is taken.",
        ),
    )


def _total(one: Any) -> Wording:
    argument, field = phrase(one.argument), phrase(one.field)
    return Wording(
        f"Add up every {quoted(field)} when {doing(one.tool)}",
        (
            f"The agent gives {one.tool} as {quoted(argument)} the sum of every {quoted(field)} that {one.origin} "
            "returned for what the call is about.",
            "Lacking it, another amount is given.",
        ),
    )


def _tally(one: Any) -> Wording:
    field = phrase(one.field)
    return Wording(
        f"Tell the user the total of every {quoted(field)} after {doing(one.tool)}",
        (
            f"Where the user asks for a total, the agent tells the sum of every {quoted(field)} that {one.tool} "
            "returned.",
            "Lacking it, the sum is wrong or never told.",
        ),
    )


def _cover(one: Any) -> Wording:
    thing = "item" if one.others else noun(one.family)
    return Wording(
        f"Handle every{'thing' if one.others else f' {thing}'} that the user names",
        (
            f"Where the user names {'several, the agent' if one.least > 1 else 'any, the agent'} acts on each {thing}.",
            f"Lacking it, the conversation ends before some {thing} that the user named was touched.",
        ),
    )


def _sweep(one: Any) -> Wording:
    thing = noun(one.argument.rpartition(".")[2])
    return Wording(
        f"Go through every listed {thing}",
        (
            f"The agent calls {one.tool} for each {thing} that {one.origin} lists.",
            "Lacking it, some are taken up and the rest are left out.",
        ),
    )


def _obtain(one: Any) -> Wording:
    thing = phrase(one.family)
    return Wording(
        f"Find the {thing} when the user does not give it",
        (
            f"The agent gets the {thing} from {one.origin}.",
            "Lacking it, the agent keeps asking for it, or gives up, and never looks.",
        ),
    )


def _fulfil(one: Any) -> Wording:
    several = "several things" if one.least > 1 else "something"
    return Wording(
        "Do everything that the user asks for" if one.least > 1 else "Do what the user asks for",
        (
            f"Where the user's words ask for {several}, the agent calls a tool for each.",
            "Lacking it, the conversation ends with a request left undone.",
        ),
    )


def _recover(one: Any) -> Wording:
    way = f" after {doing(one.remedy)}" if one.remedy else ""
    return Wording(
        f"Recover from {quoted(one.error)} when {doing(one.tool)}",
        (
            f"When {one.tool} answers {quoted(one.error)}, the agent gets it to work later{way}.",
            "Lacking it, the agent gives up and the call never succeeds.",
        ),
    )


def _avoid(one: Any) -> Wording:
    return Wording(
        f"Avoid {quoted(one.error)} when {doing(one.tool)}",
        (f"The agent calls {one.tool} without that error.", f"Lacking it, the agent runs into {quoted(one.error)}."),
    )


def _report(one: Any) -> Wording:
    known = phrase(one.field)
    return Wording(
        f"Tell the user {quoted(known)} after {doing(one.tool)}",
        (
            f"The agent tells the user the value of {quoted(known)} that {one.tool} returned.",
            "Lacking it, the value was looked up and is never mentioned.",
        ),
    )


def _no_repeat(_: Any) -> Wording:
    return Wording(
        "Do not repeat a call that changes nothing",
        (
            "The agent does not make the same call again after the same answer.",
            "Lacking it, the agent goes in circles.",
        ),
    )


def _conclude(_: Any) -> Wording:
    return Wording(
        "Close the conversation with an answer",
        ("The agent's last message says something to the user, within the limits.", "Lacking it, the talk breaks off."),
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


SENTENCES: dict[str, Callable[[Any], Wording]] = {
    "use": _use,
    "refrain": _refrain,
    "before": _before,
    "confirm": _confirm,
    "source": _source,
    "grounded": _grounded,
    "match": _match,
    "extreme": _extreme,
    "total": _total,
    "tally": _tally,
    "cover": _cover,
    "sweep": _sweep,
    "obtain": _obtain,
    "fulfil": _fulfil,
    "recover": _recover,
    "avoid": _avoid,
    "report": _report,
    "no-repeat": _no_repeat,
    "conclude": _conclude,
}
"""Kind of statement → its wording."""
