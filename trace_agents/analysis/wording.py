"""A statement in plain English: title, description of the capability, and what lacking it looks like."""

from __future__ import annotations

import re

from trace_agents.analysis.english import listed, phrase, slug
from trace_agents.analysis.sentences import SENTENCES, Wording, fact_in_words, quoted
from trace_agents.analysis.statements import AnyOf, Said, Statement
from trace_agents.types import Capability


def capability_of(statement: Statement, taken: set[str]) -> Capability:
    """The dictionary entry of a statement, under a slug that is not in `taken`; adds its slug there."""
    title, sentences = word(statement)
    name = _free_name(title, taken)
    taken.add(name)
    scope = _scope(statement)
    description = " ".join([*sentences, scope] if scope else sentences)
    return Capability(name=name, title=title, description=description, statement=statement.model_dump(mode="json"))


def _free_name(title: str, taken: set[str]) -> str:
    """A slug of the title's main clause; of the whole title, or numbered, where that is taken."""
    short = slug(re.split(r" (?:when|after) ", title)[0])
    if short not in taken:
        return short
    name = whole = slug(title)
    number = 2
    while name in taken:
        name, number = f"{whole}-{number}", number + 1
    return name


def word(statement: Statement) -> Wording:
    """The statement's wording, its condition aside."""
    return _any_of(statement) if isinstance(statement, AnyOf) else SENTENCES[statement.kind](statement)


def _scope(statement: Statement) -> str:
    """When the capability is needed, for a statement under conditions."""
    parts = []
    for condition in statement.when:
        if isinstance(condition, Said):
            parts.append(f"the user's words include {listed([quoted(term) for term in condition.terms], 'or')}")
        else:
            parts.append(fact_in_words(condition.fact))
    return f"It is needed where {listed(parts)}." if parts else ""


def _any_of(one: AnyOf) -> Wording:
    """The parts' common capability: its wording names what the parts share."""
    words = [word(part) for part in one.parts]
    head = {
        "report": "Tell the user what was asked for and looked up",
        "recover": f"Recover from {quoted(getattr(one.parts[0], 'error', 'an error'))}",
        "refrain": f"Check {_shared_fields(one)} before a change",
        "source": f"Take a value from the {quoted(phrase(getattr(one.parts[0], 'field', '')))} on record",
    }.get(one.parts[0].kind, words[0].title)
    exercised = " ".join(wording.sentences[0] for wording in words)
    return Wording(head, (exercised, words[0].sentences[1]))


def _shared_fields(one: AnyOf) -> str:
    return listed(list(dict.fromkeys(phrase(fact.field) for part in one.parts for fact in getattr(part, "facts", ()))))
