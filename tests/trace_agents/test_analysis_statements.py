"""Each kind of statement on trajectories small enough to judge by eye: PRESENT, LACKING and NA, and where."""

from __future__ import annotations

from typing import get_args

import pytest
from talks import Call, User, talk

from trace_agents.analysis import statements as grammar
from trace_agents.analysis.catalog import survey
from trace_agents.analysis.statements import (
    AnyOf,
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
    Said,
    Seen,
    Source,
    Statement,
    Sweep,
    Use,
    statement_from,
)
from trace_agents.analysis.views import View, read
from trace_agents.types import StopReason, ToolSpec, Trajectory

ASK = User("Please renew loan L7 for me.")
LOAN = Call("get_loan", {"loan_id": "L7"}, {"loan_id": "L7", "state": "overdue", "branch": "Hill", "due": "2024-05-20"})
OTHER = Call("get_loan", {"loan_id": "L8"}, {"loan_id": "L8", "state": "fine", "branch": "Dale", "due": "2024-06-02"})
RENEW = Call("renew_loan", {"loan_id": "L7"}, {"loan_id": "L7", "renewed": True})
OVERDUE = Fact(tool="get_loan", field="state", value="overdue")


def judged(statement: Statement, trajectory: Trajectory) -> tuple[str, int | None]:
    finding = statement.evaluate(trajectory)
    return finding.label.value, finding.at


def test_use_is_lacking_where_no_call_worked() -> None:
    renew = Use(tools=("renew_loan",))
    assert judged(renew, talk(ASK, LOAN, RENEW, "Done.")) == ("PRESENT", 3)
    assert judged(renew, talk(ASK, LOAN, "Sorry.")) == ("LACKING", 3)
    assert judged(renew, talk(ASK, RENEW._replace(error="locked"), "Sorry.")) == ("LACKING", 3)


def test_a_guard_is_lacking_where_the_call_follows_what_forbids_it() -> None:
    guard = Refrain(tool="renew_loan", facts=(OVERDUE,))
    assert judged(guard, talk(ASK, LOAN, RENEW, "Done.")) == ("LACKING", 3)
    assert judged(guard, talk(ASK, LOAN, "It is overdue.")) == ("PRESENT", 2)
    assert judged(guard, talk(ASK, OTHER, "Done.")) == ("NA", None)
    assert judged(guard, talk(ASK, RENEW, LOAN, "Done."))[0] == "PRESENT", (
        "what is read afterwards forbids nothing before"
    )
    assert judged(guard, talk(ASK, LOAN, RENEW._replace(error="refused"), "Sorry."))[0] == "PRESENT"


def test_a_guard_looks_at_the_record_that_the_call_is_about() -> None:
    guard = Refrain(tool="renew_loan", facts=(OVERDUE,))
    renew_other = Call("renew_loan", {"loan_id": "L8"}, {"renewed": True})
    assert judged(guard, talk(ASK, LOAN, OTHER, renew_other, "Done."))[0] == "PRESENT"
    listed = Call(
        "list_loans", {"card": "C1"}, {"loans": [{"id": "L7", "state": "overdue"}, {"id": "L8", "state": "fine"}]}
    )
    in_list = Refrain(tool="renew_loan", facts=(Fact(tool="list_loans", field="loans[].state", value="overdue"),))
    assert judged(in_list, talk(ASK, listed, renew_other, "Done."))[0] == "PRESENT"
    assert judged(in_list, talk(ASK, listed, RENEW, "Done.")) == ("LACKING", 3)


@pytest.mark.parametrize(
    ("op", "value", "holds"),
    [
        ("==", "overdue", True),
        ("!=", "overdue", False),
        ("!=", "fine", True),
    ],
)
def test_facts_compare_values(op: str, value: str, holds: bool) -> None:
    fact = Fact.model_validate({"tool": "get_loan", "field": "state", "op": op, "value": value})
    label = judged(Refrain(tool="renew_loan", facts=(fact,)), talk(ASK, LOAN, RENEW, "Done."))[0]
    assert label == ("LACKING" if holds else "NA")


@pytest.mark.parametrize(("op", "value", "holds"), [("<=", "2024-05-21", True), (">=", "2024-05-21", False)])
def test_facts_compare_dates_and_numbers_in_order(op: str, value: str, holds: bool) -> None:
    fact = Fact.model_validate({"tool": "get_loan", "field": "due", "op": op, "value": value})
    assert (judged(Refrain(tool="renew_loan", facts=(fact,)), talk(LOAN, RENEW))[0] == "LACKING") is holds
    ten = Call("get_fine", {}, {"euros": 10})
    nine = Fact(tool="get_fine", field="euros", op=">=", value="9")
    assert judged(Refrain(tool="renew_loan", facts=(nine,)), talk(ten, RENEW))[0] == "LACKING"


def test_order_is_lacking_at_the_first_call_made_too_soon() -> None:
    order = Before(first="get_loan", then="renew_loan", linked=True)
    assert judged(order, talk(ASK, LOAN, RENEW)) == ("PRESENT", 3)
    assert judged(order, talk(ASK, RENEW, LOAN)) == ("LACKING", 1)
    assert judged(order, talk(ASK, OTHER, RENEW)) == ("LACKING", 3)
    assert judged(order.model_copy(update={"linked": False}), talk(ASK, OTHER, RENEW))[0] == "PRESENT"
    assert judged(order, talk(ASK, LOAN)) == ("NA", None)


def test_confirmation_must_have_been_heard_before_the_call() -> None:
    confirm = Confirm(tool="move_loan")
    move = Call("move_loan", {"loan_id": "L7", "branch": "Hill"}, {})
    assert judged(confirm, talk(ASK, "Shall I move it to Hill?", User("Yes."), move)) == ("PRESENT", 3)
    assert judged(confirm, talk(ASK, "I move it to Hill.", move)) == ("LACKING", 2)
    assert judged(confirm, talk(ASK, move)) == ("LACKING", 1)
    assert judged(confirm, talk(ASK)) == ("NA", None)


def test_provenance_compares_an_argument_with_a_field_looked_up() -> None:
    source = Source(tool="move_loan", argument="branch", origin="get_loan", field="branch")
    right, wrong = (Call("move_loan", {"loan_id": "L7", "branch": branch}, {}) for branch in ("hill ", "Dale"))
    assert judged(source, talk(ASK, LOAN, right)) == ("PRESENT", 3)
    assert judged(source, talk(ASK, LOAN, wrong)) == ("LACKING", 3)
    assert judged(source, talk(ASK, OTHER, wrong)) == ("NA", None), "the other loan's branch says nothing of this one"
    assert judged(source, talk(ASK, wrong, LOAN)) == ("NA", None)


def test_grounding_wants_every_value_to_have_been_said_or_returned() -> None:
    grounded = Grounded(tool="move_loan", argument="branch")
    assert (
        judged(grounded, talk(User("Move L7 to Hill, please"), Call("move_loan", {"branch": "Hill"}, {})))[0]
        == "PRESENT"
    )
    assert judged(grounded, talk(ASK, LOAN, Call("move_loan", {"branch": "Hill"}, {})))[0] == "PRESENT"
    assert judged(grounded, talk(ASK, Call("move_loan", {"branch": "Hill"}, {}))) == ("LACKING", 1)
    assert judged(grounded, talk(ASK, Call("move_loan", {}, {}))) == ("NA", None)


SHELF = Call(
    "search", {"q": "tide"}, {"books": [{"id": "B1", "title": "the red tide"}, {"id": "B2", "title": "the blue moon"}]}
)


def test_matching_wants_the_record_that_the_words_fit_best() -> None:
    match = Match(tool="lend", argument="book", origin="search", key="books[].id", name="books[].title")
    words = User("I would like the blue moon.")
    assert judged(match, talk(words, SHELF, Call("lend", {"book": "B2"}, {}))) == ("PRESENT", 3)
    assert judged(match, talk(words, SHELF, Call("lend", {"book": "B1"}, {}))) == ("LACKING", 3)
    assert judged(match, talk(User("Something"), SHELF, Call("lend", {"book": "B1"}, {}))) == ("NA", None)
    assert judged(match, talk(words, SHELF, Call("lend", {"book": "B9"}, {}))) == ("NA", None)


def test_completeness_wants_every_named_identifier_in_some_call() -> None:
    cover = Cover(family="loan_id", pattern="L[0-9]+", least=2)
    both = User("Please renew L7 and L8.")
    assert judged(cover, talk(both, LOAN, OTHER, "Done."))[0] == "PRESENT"
    assert judged(cover, talk(both, LOAN, "Done.")) == ("LACKING", 3)
    assert judged(cover, talk(ASK, LOAN, "Done.")) == ("NA", None)


def test_completeness_may_span_identifiers_of_several_kinds() -> None:
    cover = Cover(family="loan_id", pattern="L[0-9]+", least=2, others=(("room", "R[0-9]+"),))
    both = User("Please renew L7 and book R2.")
    assert judged(cover, talk(both, LOAN, Call("book", {"room": "R2"}, {}), "Done."))[0] == "PRESENT"
    assert judged(cover, talk(both, LOAN, "Done.")) == ("LACKING", 3)


def test_a_tool_of_unknown_verb_changes_something_where_its_answers_are_no_news() -> None:
    rows = [(f"L{n}", f"shelf {n}") for n in range(6)]
    views = [
        read(talk(Call("lend", {"loan": loan}, {"status": "ok"}), Call("whereabouts", {"loan": loan}, {"at": at})))
        for loan, at in rows
    ]
    assert survey(views).writes == {"lend"}


LEND = ToolSpec(name="lend", description="Hand a book out.", input_schema={"type": "object"})


def offered(*turns: Call, **tools: str | dict[str, bool]) -> View:
    """A trajectory that offers `lend` and `tools`, by name: their description or their annotations."""
    specs = []
    for name, said in tools.items():
        told = {"description": said} if isinstance(said, str) else {"annotations": said}
        specs.append(ToolSpec.model_validate({"name": name, "description": "", "input_schema": {}} | told))
    return read(talk(*turns, tools=(LEND, *specs)))


def test_what_is_called_and_never_offered_is_a_tool_only_where_it_worked_or_no_offer_is_known() -> None:
    stray = Call("smash", {"loan": "L1"}, error="unknown tool")
    assert survey([offered(stray)]).tools == ("lend",)
    assert survey([read(talk(stray))]).tools == ("smash",)
    worked = survey([offered(stray, Call("smash", {"loan": "L1"}, {"status": "ok"}))])
    assert (worked.tools, worked.writes) == (("smash", "lend"), {"smash"})


def test_a_tool_that_never_worked_is_no_change() -> None:
    assert survey([offered(Call("bill", {"room": "202"}, error="no such room"), bill="The bill.")]).writes == set()


@pytest.mark.parametrize(
    ("said", "writes"),
    [
        ({"readOnlyHint": True}, set()),
        ({"readOnlyHint": False}, {"dues"}),
        ("Shows what a card owes.", set()),
        ("Returns what a card owes.", set()),
        ("Changes what a card owes.", {"dues"}),
        ("What a card owes.", {"dues"}),
        ("Return what was lent.", {"dues"}),
    ],
)
def test_a_tool_of_unknown_verb_is_told_by_its_annotations_and_its_description(said, writes: set[str]) -> None:
    called = [Call("dues", {"card": f"C{n}"}, {"status": "ok"}) for n in range(4)]
    assert survey([offered(one, dues=said) for one in called]).writes == writes


def test_plain_texts_are_news_where_they_say_more_than_they_were_told() -> None:
    rows = [("C1", 12, "sea"), ("C2", 7, "moon"), ("C3", 31, "tide"), ("C4", 5, "reef")]
    calls = [
        (
            Call("dues", {"card": card}, f"Card {card} owes {sum_} coins for the {book}."),
            Call("lend", {"card": card, "book": book}, f"The {book} is lent on {card}, slip {sum_}."),
            Call("hours", {"day": "today"}, "We are open from 9 to 17."),
            Call("stamp", {"card": card}, "It is stamped, as you wished."),
        )
        for card, sum_, book in rows
    ]
    assert survey([read(talk(*each)) for each in calls]).writes == {"lend", "stamp"}


def test_a_listing_is_swept_only_when_every_record_was_taken_up() -> None:
    listing = Call("list_loans", {"card": "C1"}, {"loans": ["L7", "L8"]})
    sweep = Sweep(tool="get_loan", argument="loan_id", origin="list_loans", field="loans[]")
    assert judged(sweep, talk(listing, LOAN, OTHER, "Done."))[0] == "PRESENT"
    assert judged(sweep, talk(listing, LOAN, "Done.")) == ("LACKING", 4)
    assert judged(sweep, talk(listing, "Done.")) == ("NA", None)


def test_an_identifier_that_the_user_omits_is_to_be_looked_up() -> None:
    obtain = Obtain(family="loan_id", pattern="L[0-9]+", origin="list_loans", field="loans[]")
    listing = Call("list_loans", {"card": "C1"}, {"loans": ["L7"]})
    lost = User("I lost my slip.")
    assert judged(obtain, talk(lost, listing, "Found it.")) == ("PRESENT", 2)
    assert judged(obtain, talk(lost, "Which loan?", User("I do not know"), "I need it.")) == ("LACKING", 3)
    assert judged(obtain, talk(ASK, LOAN, "Done.")) == ("NA", None)


def test_fulfilment_wants_a_call_for_each_thing_asked_for() -> None:
    fulfil = Fulfil(requests=(("renew_loan", ("renew",)), ("move_loan", ("mov",))), least=2)
    both = User("Please renew it and move it.")
    assert judged(fulfil, talk(both, RENEW, Call("move_loan", {}, {}), "Done."))[0] == "PRESENT"
    assert judged(fulfil, talk(both, RENEW, "Done.")) == ("LACKING", 3)
    assert judged(fulfil, talk(ASK, RENEW, "Done.")) == ("NA", None)


LOCKED = RENEW._replace(error="loan 'L7' is locked")
RELEASE = Call("release_loan", {"loan_id": "L7"}, {"locked": False})


def test_recovery_wants_a_later_success_of_the_same_call() -> None:
    recover = Recover(tool="renew_loan", error="loan … is locked")
    assert judged(recover, talk(ASK, LOCKED, RELEASE, RENEW, "Done.")) == ("PRESENT", 5)
    assert judged(recover, talk(ASK, LOCKED, "Sorry.")) == ("LACKING", 3)
    assert judged(recover, talk(ASK, RENEW, "Done.")) == ("NA", None)
    other = Call("renew_loan", {"loan_id": "L8"}, {"renewed": True})
    assert judged(recover, talk(ASK, LOCKED, other, "Done."))[0] == "LACKING", "another loan's renewal is no recovery"


def test_recovery_may_ask_for_a_remedy_in_between() -> None:
    recover = Recover(tool="renew_loan", error="loan … is locked", remedy="release_loan")
    assert judged(recover, talk(ASK, LOCKED, RELEASE, RENEW))[0] == "PRESENT"
    assert judged(recover, talk(ASK, LOCKED, RENEW))[0] == "LACKING"


def test_avoiding_an_error_is_lacking_at_the_first_call_with_it() -> None:
    avoid = Avoid(tool="renew_loan", error="loan … is locked")
    assert judged(avoid, talk(ASK, LOCKED, RELEASE, RENEW)) == ("LACKING", 1)
    assert judged(avoid, talk(ASK, RENEW)) == ("PRESENT", 1)
    assert judged(avoid, talk(ASK, LOAN)) == ("NA", None)


def test_a_fact_is_reported_when_later_words_mention_it() -> None:
    report = Report(tool="get_loan", field="due")
    assert judged(report, talk(ASK, LOAN, "It is due on May 20.")) == ("PRESENT", 3)
    assert judged(report, talk(ASK, LOAN, "It is due on 2024-05-20."))[0] == "PRESENT"
    assert judged(report, talk(ASK, "It is due on May 20.", LOAN, "Done.")) == ("LACKING", 4)
    assert judged(report, talk(ASK, "Hello.")) == ("NA", None)


def test_repeating_a_call_with_the_same_answer_is_lacking() -> None:
    assert judged(NoRepeat(), talk(ASK, LOAN, LOAN, "Done.")) == ("LACKING", 3)
    assert judged(NoRepeat(), talk(ASK, LOCKED, RENEW, "Done."))[0] == "PRESENT"
    assert judged(NoRepeat(), talk(ASK, "Hello.")) == ("NA", None)


def test_an_episode_concludes_with_words_and_within_its_limits() -> None:
    assert judged(Conclude(), talk(ASK, LOAN, "Done.")) == ("PRESENT", 3)
    assert judged(Conclude(), talk(ASK, LOAN)) == ("LACKING", 1)
    assert judged(Conclude(), talk(ASK, LOAN, "Done.", stop=StopReason.MAX_TURNS))[0] == "LACKING"


def test_conditions_make_everything_else_not_applicable() -> None:
    renew = Use(tools=("renew_loan",), when=(Said(terms=("renew",)),))
    assert judged(renew, talk(ASK, LOAN, "Sorry."))[0] == "LACKING"
    assert judged(renew, talk(User("Where is my book?"), LOAN, "Here.")) == ("NA", None)
    seen = Use(tools=("renew_loan",), when=(Seen(fact=OVERDUE),))
    assert judged(seen, talk(ASK, LOAN, "Sorry."))[0] == "LACKING"
    assert judged(seen, talk(ASK, OTHER, "Sorry.")) == ("NA", None)


def test_a_union_is_lacking_where_any_part_is() -> None:
    parts = (Report(tool="get_loan", field="due"), Report(tool="get_loan", field="branch"))
    union = AnyOf.model_validate({"parts": [part.model_dump() for part in parts]})
    assert judged(union, talk(ASK, LOAN, "Due on May 20 at Hill."))[0] == "PRESENT"
    assert judged(union, talk(ASK, LOAN, "Due on May 20.")) == ("LACKING", 3)
    assert judged(union, talk(ASK, "Hello.")) == ("NA", None)


def test_every_kind_survives_a_round_trip_through_json() -> None:
    kinds = get_args(get_args(grammar.AnyStatement)[0])
    assert len(kinds) == 20
    examples: list[Statement] = [
        Refrain(tool="a", facts=(OVERDUE,), when=(Said(terms=("x",)), Seen(fact=OVERDUE))),
        Recover(tool="a", error="b", remedy="c"),
        Fulfil(requests=(("a", ("b", "c")),)),
        AnyOf.model_validate({"parts": [{"kind": "use", "tools": ["a"]}]}),
        Conclude(),
    ]
    for one in examples:
        assert statement_from(one.model_dump(mode="json")) == one


def test_tool_call_ids_may_repeat_within_a_trajectory() -> None:
    twice = talk(ASK, LOCKED, RENEW, "Done.")
    messages = tuple(
        message.model_copy(
            update={
                "tool_call_id": "same" if message.role == "tool" else None,
                "tool_calls": tuple(call.model_copy(update={"id": "same"}) for call in message.tool_calls),
            }
        )
        for message in twice.messages
    )
    repeated = twice.model_copy(update={"messages": messages})
    assert judged(Recover(tool="renew_loan", error="loan … is locked"), repeated) == ("PRESENT", 3)
