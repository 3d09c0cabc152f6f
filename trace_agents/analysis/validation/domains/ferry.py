"""A ferry office: offers to compare, amounts to add up, results as JSON lists, one request a turn."""

from __future__ import annotations

from typing import Any

from trace_agents.analysis.validation.play import Domain, Play, Request

_PORTS = ("Aarhus", "Bergen", "Gdynia", "Harwich", "Turku")


def _crossings(play: Play) -> list[dict[str, Any]]:
    """Four crossings that differ in price and time."""
    prices, hours = play.scene.sample(range(31, 99), 4), play.scene.sample(range(6, 23), 4)
    return [
        {"crossing_id": play.number("X", 4), "price": price, "departs": f"{hour:02}:{play.scene.choice((10, 35, 50))}"}
        for price, hour in zip(prices, hours, strict=True)
    ]


def _booking(play: Play, words: str, wanted: int, deficit: str | None) -> Request:
    """A booking of the crossing at `wanted` in the order of the words; another one where the deficit shows."""
    port, offers = play.scene.choice(_PORTS), _crossings(play)
    ranked = sorted(offers, key=lambda one: -int(one["departs"][:2]) if "latest" in words else one["price"])
    right = ranked[wanted]
    asked = words.format(port=port, crossing=right["crossing_id"])

    def act() -> str:
        play.call("list_crossings", {"port": port}, {"crossings": offers})
        good = deficit is None or play.exercises(deficit)
        chosen = right if good else play.own.choice([one for one in offers if one is not right])
        play.call("book_crossing", {"crossing_id": chosen["crossing_id"], "seats": 1}, {"booked": True})
        return "You are booked."

    return Request(asked, act)


def _cheapest(play: Play) -> Request:
    words = play.scene.choice(("I want the cheapest crossing to {port}.", "Book the least expensive ferry to {port}."))
    return _booking(play, words, 0, "cheapest")


def _latest(play: Play) -> Request:
    return _booking(play, "Book me the latest crossing to {port}, please.", 0, "latest")


def _named(play: Play) -> Request:
    """Needs mastered skills only: the crossing is named, whatever it costs."""
    return _booking(play, "Book crossing {crossing} to {port}, please.", play.scene.randrange(4), None)


def _invoices(play: Play) -> list[dict[str, Any]]:
    return [{"invoice_id": play.number("IV"), "amount": play.scene.randint(12, 400) + 0.5} for _ in range(3)]


def _settle(play: Play) -> Request:
    account, invoices = play.number("AC", 5), _invoices(play)

    def act() -> str:
        play.call("list_invoices", {"account": account}, {"invoices": invoices})
        due = invoices if play.exercises("total") else invoices[: play.own.randint(1, 2)]
        play.call("pay", {"account": account, "amount": sum(one["amount"] for one in due)}, {"paid": True})
        return "It is paid."

    return Request(f"Pay off everything that is open on account {account}.", act)


def _one(play: Play) -> Request:
    """Needs mastered skills only: one of the invoices is to be paid."""
    account, invoices = play.number("AC", 5), _invoices(play)
    due = play.scene.choice(invoices)

    def act() -> str:
        play.call("list_invoices", {"account": account}, {"invoices": invoices})
        paid = {"account": account, "invoice_id": due["invoice_id"], "amount": due["amount"]}
        play.call("pay", paid, {"paid": True})
        return "That one is paid."

    return Request(f"Pay invoice {due['invoice_id']} of account {account}.", act)


def _weigh(play: Play) -> Request:
    cargo = {play.number("CG"): play.scene.randint(11, 480) for _ in range(3)}

    def act() -> str:
        for number, weight in cargo.items():
            play.call("get_cargo", {"cargo_id": number}, {"weight": weight, "deck": play.scene.randint(1, 5)})
        good = play.exercises("tell-total")
        told = sum(cargo.values()) + (0 if good else play.own.choice((-20, -7, 9, 30)))
        return f"Together that is {told} kilograms."

    return Request(f"What do {' and '.join(cargo)} weigh in total?", act)


def _withdraw(play: Play) -> Request:
    number, gone = play.number("BK", 4), play.scene.random() < 0.6

    def act() -> str:
        play.call("get_booking", {"booking_id": number}, {"state": "departed" if gone else "open", "seats": 1})
        if gone and play.exercises("departed"):
            return "That ship has sailed."
        play.call("cancel_booking", {"booking_id": number}, {"cancelled": True})
        return "It is cancelled."

    return Request(f"Cancel booking {number}.", act)


def _found(play: Play) -> Request:
    def act() -> str:
        play.call("note_lost_property", {"thing": "scarf"}, {"noted": True})
        return "I made a note."

    return Request("I left my scarf on board.", act)


FERRY = Domain(
    name="ferry",
    deficits={"cheapest": 0.3, "latest": 0.3, "total": 0.3, "tell-total": 0.35, "departed": 0.25},
    jobs={"cheapest": _cheapest, "latest": _latest, "named": _named, "settle": _settle, "one": _one}
    | {"weigh": _weigh, "withdraw": _withdraw, "found": _found},
    tasks=(
        *("cheapest", "latest", "settle", "weigh", "withdraw", "named", "cheapest one", "latest named"),
        *("settle named", "weigh one", "found", "withdraw named", "one"),
    ),
    habit=lambda play: play.call("get_tide", {}, {"tide": "falling"}),
    error=lambda text: (f"Error: {text}", True),
    hopeless=frozenset(("found",)),
    filler=("named", "one"),
)
