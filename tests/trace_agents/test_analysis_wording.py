"""Every kind of statement reads as a capability in plain English."""

from __future__ import annotations

from typing import get_args

import pytest

from trace_agents.analysis import statements as grammar
from trace_agents.analysis.statements import (
    AnyOf,
    Avoid,
    Before,
    Conclude,
    Confirm,
    Cover,
    Extreme,
    Fact,
    Fulfil,
    Grounded,
    Match,
    NoRepeat,
    Obtain,
    Recover,
    Refrain,
    Report,
    Said,
    Source,
    Statement,
    Sweep,
    Tally,
    Total,
    Use,
)
from trace_agents.analysis.wording import capability_of, word

LATE = Fact(tool="get_loan", field="due_at", op="<=", value="2024-05-12t04:19:15")
EXAMPLES: dict[str, Statement] = {
    "Renew the loan when the user asks for it": Use(tools=("renew_loan",), when=(Said(terms=("renew", "extend")),)),
    "Make the change instead of only talking": Use(tools=("renew_loan", "move_loan")),
    "Check due at before renewing the loan": Refrain(tool="renew_loan", facts=(LATE,)),
    "Hold back from renewing the loan": Refrain(tool="renew_loan"),
    "Get the loan before renewing the loan": Before(first="get_loan", then="renew_loan"),
    "Confirm with the user before renewing the loan": Confirm(tool="renew_loan"),
    "Take “branch” from the “home branch” on record when moving the loan": Source(
        tool="move_loan", argument="branch", origin="get_loan", field="home_branch"
    ),
    "Give only known values as “branch” when moving the loan": Grounded(tool="move_loan", argument="branch"),
    "Pick the book that the user means when lending the book": Match(
        tool="lend_book", argument="book_id", origin="search", key="books[].id", name="books[].title"
    ),
    "Pick the oldest or earliest book when lending the book": Extreme(
        tool="lend_book",
        argument="book_id",
        origin="search",
        key="books[].id",
        field="books[].year",
        most=False,
        asked=("oldest", "earliest"),
    ),
    "Add up every “fine” when paying": Total(tool="pay", argument="amount", origin="get_loan", field="fine"),
    "Tell the user the total of every “fine” after getting the loan": Tally(tool="get_loan", field="fine"),
    "Handle every loan that the user names": Cover(family="loan_id", pattern="L[0-9]+", least=2),
    "Go through every listed loan": Sweep(tool="get_loan", argument="loan_id", origin="list_loans", field="loans[]"),
    "Find the loan ID when the user does not give it": Obtain(
        family="loan_id", pattern="L[0-9]+", origin="list_loans", field="loans[]"
    ),
    "Do everything that the user asks for": Fulfil(requests=(("renew_loan", ("renew",)),)),
    "Recover from “loan is locked” when renewing the loan": Recover(tool="renew_loan", error="loan is locked"),
    "Avoid “loan is locked” when renewing the loan": Avoid(tool="renew_loan", error="loan is locked"),
    "Tell the user “due” after getting the loan": Report(tool="get_loan", field="due"),
    "Do not repeat a call that changes nothing": NoRepeat(),
    "Close the conversation with an answer": Conclude(),
    "Tell the user what was asked for and looked up": AnyOf.model_validate(
        {"parts": [{"kind": "report", "tool": "get_loan", "field": field} for field in ("due", "branch")]}
    ),
}


def test_there_is_an_example_of_every_kind() -> None:
    kinds = {kind.model_fields["kind"].default for kind in get_args(get_args(grammar.AnyStatement)[0])}
    assert {statement.kind for statement in EXAMPLES.values()} == kinds


@pytest.mark.parametrize(("title", "statement"), EXAMPLES.items(), ids=list(EXAMPLES))
def test_titles_are_imperatives_and_descriptions_whole_sentences(title: str, statement: Statement) -> None:
    assert word(statement).title == title
    capability = capability_of(statement, set())
    assert capability.description.endswith(".")
    assert capability.description.count(". ") >= 1
    assert not any(mark in capability.description for mark in ("_id", "[]", "{", "  "))
    assert set(capability.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert capability.statement == statement.model_dump(mode="json")


def test_conditions_and_times_are_said_in_words() -> None:
    described = capability_of(EXAMPLES["Renew the loan when the user asks for it"], set()).description
    assert described.endswith("It is needed where the user's words include “renew” or “extend”.")
    assert (
        "“due at” is at most “2024-05-12T04:19:15”"
        in capability_of(Refrain(tool="renew_loan", facts=(LATE,)), set()).description
    )


def test_names_in_one_dictionary_are_unique() -> None:
    taken: set[str] = set()
    errors = [Recover(tool=tool, error="loan is locked") for tool in ("renew_loan", "move_loan", "move_loan")]
    assert [capability_of(one, taken).name for one in errors] == [
        "recover-from-loan-is-locked",
        "recover-from-loan-is-locked-when-moving-loan",
        "recover-from-loan-is-locked-when-moving-loan-2",
    ]
