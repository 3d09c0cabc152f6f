"""Statements that compare or add up what results list, and the words that ask for it."""

from __future__ import annotations

import pytest
from talks import Call, User, talk

from trace_agents.analysis.amounts import ordered
from trace_agents.analysis.asking import asked_rank, asks_for_total, superlatives
from trace_agents.analysis.matrix import united
from trace_agents.analysis.mining_amounts import extremes, totals
from trace_agents.analysis.statements import AnyOf, Extreme, Statement, Tally, Total
from trace_agents.analysis.validation.ablations import Contrastive
from trace_agents.analysis.validation.domains import DOMAINS
from trace_agents.analysis.validation.measure import score, truths
from trace_agents.analysis.validation.play import deal
from trace_agents.analysis.values import padded
from trace_agents.analysis.views import read
from trace_agents.contrast import Thresholds
from trace_agents.types import Trajectory

ROOMS = [
    {"room": "R1", "price": 90, "size": {"beds": 2}, "free": "2027-05-03T10:00"},
    {"room": "R2", "price": "$70.50", "size": {"beds": 1}, "free": "2027-05-09T08:00"},
    {"room": "R3", "price": 120, "size": {"beds": 5}, "free": "2027-05-06T23:00"},
]
LIST = Call("list_rooms", {"town": "Oslo"}, {"rooms": ROOMS})


def book(room: str) -> Call:
    return Call("book_room", {"room": room}, {"booked": True})


def extreme(field: str, most: bool, *asked: str) -> Extreme:
    return Extreme(
        tool="book_room",
        argument="room",
        origin="list_rooms",
        key="rooms[].room",
        field=f"rooms[].{field}",
        most=most,
        asked=asked,
    )


def judged(statement: Statement, trajectory: Trajectory) -> tuple[str, int | None]:
    finding = statement.evaluate(trajectory)
    return finding.label.value, finding.at


@pytest.mark.parametrize(
    ("words", "field", "most", "right"),
    [
        ("the cheapest room", "price", False, "R2"),
        ("the second cheapest room", "price", False, "R1"),
        ("the third cheapest room", "price", False, "R3"),
        ("a room, the cheapest, with most beds", "size.beds", True, "R3"),
        ("whichever is free latest: not the cheapest", "free", True, "R2"),
    ],
)
def test_an_extreme_is_exercised_by_the_record_of_that_rank_only(
    words: str, field: str, most: bool, right: str
) -> None:
    asked = User(f"Book me {words}.")
    for room in ("R1", "R2", "R3"):
        label = "PRESENT" if room == right else "LACKING"
        assert judged(extreme(field, most, "cheapest"), talk(asked, LIST, book(room), "Done.")) == (label, 3)


def test_an_extreme_needs_the_word_and_something_to_choose_from() -> None:
    cheapest = extreme("price", False, "cheapest")
    asked = User("Book me the cheapest room.")
    assert judged(cheapest, talk(User("Book me a room."), LIST, book("R1"), "Done."))[0] == "NA"
    assert judged(cheapest, talk(asked, book("R1"), "Done."))[0] == "NA"
    assert judged(cheapest, talk(asked, LIST, book("R9"), "Done."))[0] == "NA"
    assert judged(cheapest, talk(asked, LIST._replace(result={"rooms": ROOMS[:1]}), book("R1"), "Done."))[0] == "NA"
    assert judged(cheapest, talk(User("Book the fourth cheapest room."), LIST, book("R1"), "Done."))[0] == "NA"
    assert judged(cheapest, talk(asked, LIST, book("R3"), book("R2"), "Done.")) == ("LACKING", 3)
    other = (User("Book R3."), LIST, book("R3"), "Done.")
    assert judged(cheapest, talk(*other, asked, LIST, book("R2"), "Done.")) == ("PRESENT", 9)
    assert judged(cheapest, talk(asked, LIST, book("R2"), "Done.", *other)) == ("PRESENT", 3)


BILLS = [{"bill": "B1", "due": 20.5}, {"bill": "B2", "due": 30}, {"bill": "B3", "due": 7}]
OPEN = Call("list_bills", {"account": "A77"}, {"bills": BILLS})
TOTAL = Total(tool="pay", argument="amount", origin="list_bills", field="bills[].due")


def test_a_total_is_the_sum_of_the_records_that_the_call_is_about() -> None:
    def pay(**arguments: object) -> Trajectory:
        return talk(User("Pay."), OPEN, Call("pay", {"account": "A77", **arguments}, {"paid": True}), "Done.")

    assert judged(TOTAL, pay(amount=57.5)) == ("PRESENT", 3)
    assert judged(TOTAL, pay(amount="57.50 €")) == ("PRESENT", 3)
    assert judged(TOTAL, pay(amount=20.5)) == ("LACKING", 3)
    assert judged(TOTAL, pay(amount=50.5, bills=["B1", "B2"])) == ("PRESENT", 3)
    assert judged(TOTAL, pay(amount=57.5, bills=["B1", "B2"])) == ("LACKING", 3)
    assert judged(TOTAL, pay(amount=20.5, bills=["B1"])) == ("NA", None)
    assert judged(TOTAL, pay(amount="all of it")) == ("NA", None)
    split = TOTAL.model_copy(update={"argument": "payments[].amount"})
    assert judged(split, pay(payments=[{"amount": 50}, {"amount": 7.5}])) == ("PRESENT", 3)


def test_a_total_is_told_of_all_that_was_looked_up_where_one_is_asked_for() -> None:
    tally = Tally(tool="get_parcel", field="weight")
    parcels = [Call("get_parcel", {"id": f"P{weight}"}, {"weight": weight}) for weight in (12, 1300, 12, 40)]
    asked = User("What do they weigh in total?")
    assert judged(tally, talk(asked, *parcels, "1,352 grams.")) == ("PRESENT", 9)  # P12 was looked up twice.
    assert judged(tally, talk(asked, *parcels, "1,340 grams.")) == ("LACKING", 9)
    assert judged(tally, talk(asked, parcels[0], "12 grams."))[0] == "NA"
    assert judged(tally, talk(User("What do they weigh?"), *parcels, "A lot."))[0] == "NA"


def test_words_ask_for_extremes_their_rank_and_totals() -> None:
    said = padded(
        "The cheapest, or the least expensive, forest guest room; at least two of most of the best, my request."
    )
    assert superlatives(said) == {"cheapest", "least expensive", "best"}
    assert asked_rank(said, ("cheapest",)) == 1
    assert asked_rank(padded("the 2nd cheapest"), ("dearest", "cheapest")) == 2
    assert asked_rank(said, ("dearest",)) is None
    assert asks_for_total(padded("What is it altogether?"))
    assert not asks_for_total(padded("What is it?"))


def test_values_are_ordered_as_numbers_or_moments_or_not_at_all() -> None:
    assert ordered("$70.5") == 70.5
    assert ordered("-3") == -3
    assert ordered("2027-05-03") < ordered("2027-05-03t10:00")  # type: ignore[operator]
    assert ordered("09:30") is not None
    assert ordered("r2d2") is ordered("") is ordered("may 3") is None


def test_superlatives_of_one_meaning_are_one_statement_and_others_stay_apart() -> None:
    one, two = extreme("price", False, "cheapest"), extreme("price", False, "least expensive")
    assert united([one, two]) == extreme("price", False, "cheapest", "least expensive")
    assert isinstance(united([one, extreme("free", True, "latest")]), AnyOf)


def test_statements_are_proposed_from_what_the_data_picks_and_adds_up() -> None:
    asked = User("Book me the cheapest room.")
    talks = [
        talk(
            asked, LIST, book("R2"), OPEN, Call("pay", {"account": "A77", "amount": 57.5}, {}), "Done.", task=str(task)
        )
        for task in range(6)
    ]
    views = [read(one) for one in talks]
    found = {one.field: one.most for one in extremes(views) if isinstance(one, Extreme)}
    assert found == {"rooms[].price": False, "rooms[].size.beds": False, "rooms[].free": True}
    assert list(totals(views)) == [TOTAL]
    assert not list(extremes(views[:4]))


def test_planted_superlatives_and_sums_are_found() -> None:
    (ferry,) = [one for one in DOMAINS if one.name == "ferry"]
    dealt, ten = deal(ferry, 2), Thresholds.for_runs(10)
    analysed = Contrastive.discovered(dealt.trajectories, 2)
    found = score("ferry", 2, analysed.claims(ten), truths(dealt, analysed.draws(ten), ten))
    assert found.precision == found.recall == 1.0
    assert set(found.matched) == {"cheapest", "latest", "total", "tell-total", "departed"}
