"""What written instructions say about guards: which facts they name beside a tool, and where dates are to be cut."""

from __future__ import annotations

from talks import Call, User, talk

from trace_agents.analysis.instructions import Instructions, instructions_of
from trace_agents.analysis.statements import Fact, Refrain
from trace_agents.analysis.views import read
from trace_agents.types import Message

POLICY = """The time is 2024-05-15 15:00:00.

Renewing loans:

- Overdue loans may be renewed within 7 days of lending.
- Nobody under a ban may reserve a room."""
LOAN = Call("get_loan", {"loan_id": "L7"}, {"loan_id": "L7", "state": "overdue"})


def written(text: str) -> Instructions:
    one = talk(User("Please renew loan L7."), LOAN, "I cannot.")
    return instructions_of(
        [read(one.model_copy(update={"messages": (Message(role="system", content=text), *one.messages)}))]
    )


def fact(field: str, value: str, op: str = "==") -> Fact:
    return Fact.model_validate({"tool": "get_loan", "field": field, "op": op, "value": value})


def test_a_fact_is_named_by_its_value_or_by_all_words_of_its_field() -> None:
    found = written(POLICY)
    assert found.speak_of(fact("state", "overdue"))
    assert not found.speak_of(fact("state", "mislaid"))
    assert found.speak_of(fact("ban", "true"))
    assert not found.speak_of(fact("ban_reason", "17"))


def test_rules_beside_a_tool_are_those_of_the_passages_that_name_it() -> None:
    found = written(POLICY)
    facts = [fact("state", "overdue"), fact("ban", "true"), fact("lent_at", "2024-05-08t15:00:00", ">=")]
    assert found.beside("renew_loan", facts) == (facts[0], facts[2])
    assert found.beside("reserve_room", facts) == (facts[1],)
    assert found.beside("print_card", facts) == ()


def test_dates_are_cut_at_the_written_spans_before_and_after_the_written_time() -> None:
    dates = ["2024-05-01t09:00:00", "2024-05-09t09:00:00", "2024-05-20t09:00:00"]
    assert set(written(POLICY).splitting(dates)) == {"2024-05-08t15:00:00", "2024-05-15t15:00:00"}
    assert set(written(POLICY).splitting([date[:10] for date in dates])) == {"2024-05-08", "2024-05-15"}
    assert written("Be kind. There is a fee after 7 days.").splitting(dates) == []
    assert written("It is 2024-02-30.").splitting(dates) == []


def test_a_date_that_means_never_has_the_spans_that_the_calendar_holds() -> None:
    found = written("Cards of staff end on 9999-12-31. Renewals take 7 days, at most 20 days.")
    assert found.splitting(["9999-12-01", "9999-12-31"]) == ["9999-12-31", "9999-12-24", "9999-12-11"]


def test_dates_that_are_repeated_without_end_cost_no_more_than_once() -> None:
    found = written(f"{'2024-05-15 within 7 days. ' * 20_000}")
    assert sorted(found.cuts) == sorted(written("2024-05-15 within 7 days.").cuts)


def test_a_guard_applies_to_those_who_ask_for_its_tool_and_is_lacking_wherever_the_deed_is_done() -> None:
    guard = Refrain(tool="renew_loan", facts=(fact("state", "overdue"),), asked=("renew",))
    renewed = Call("renew_loan", {"loan_id": "L7"}, {"loan_id": "L7", "renewed": True})
    asked, other = User("Please renew loan L7."), User("Is loan L7 fine?")
    assert guard.evaluate(talk(asked, LOAN, "I cannot.")).label.value == "PRESENT"
    assert guard.evaluate(talk(other, LOAN, "It is overdue.")).label.value == "NA"
    assert guard.evaluate(talk(other, LOAN, renewed, "Renewed.")).label.value == "LACKING"
