"""A van rental: declared tools, nested records, amounts looked up one by one, everything asked for in one message."""

from __future__ import annotations

from typing import Any

from trace_agents.analysis.validation.play import Domain, Play, Request, declared


def _vans(play: Play) -> list[dict[str, Any]]:
    sizes = play.scene.sample(range(400, 2000, 50), 5)
    return [
        {
            "van": play.number("V-", 3),
            "spec": {"litres": size, "doors": play.scene.choice((3, 5))},
            "rate": 30 + size // 9,
        }
        for size in play.scene.sample(sizes, 5)
    ]


def _van(play: Play, most: bool, deficit: str | None) -> Request:
    depot, vans = play.number("DEPOT", 2), _vans(play)
    ranked = sorted(vans, key=lambda one: one["spec"]["litres"], reverse=most)
    word = "largest" if most else "smallest"

    def act() -> str:
        play.call("find_vans", {"depot": depot}, {"vans": vans})
        good = deficit is None or play.exercises(deficit)
        chosen = ranked[0] if good else play.own.choice(ranked[1:])
        play.call("reserve_van", {"van": chosen["van"]}, {"reserved": True})
        return "A van is reserved."

    return Request(f"Reserve the {word} van of {depot} for me.", act)


def _largest(play: Play) -> Request:
    return _van(play, True, "largest")


def _smallest(play: Play) -> Request:
    """Needs mastered skills only."""
    return _van(play, False, None)


def _pickup(play: Play) -> Request:
    rental, days = play.number("R", 5), play.scene.sample(range(1, 29), 4)
    slots = [
        {"slot": play.number("S", 3), "starts": f"2027-03-{day:02}T{play.scene.randint(8, 17):02}:00:00"}
        for day in days
    ]
    ranked = sorted(slots, key=lambda one: one["starts"])

    def act() -> str:
        play.call("list_slots", {"rental": rental}, slots)
        chosen = ranked[0] if play.exercises("earliest") else play.own.choice(ranked[1:])
        play.call("set_pickup", {"rental": rental, "slot": chosen["slot"]}, {"set": True})
        return "Your pickup is set."

    return Request(f"Set the earliest pickup for rental {rental}.", act)


def _deposit(play: Play) -> Request:
    rentals = {play.number("R", 5): play.scene.randint(40, 300) for _ in range(2)}

    def act() -> str:
        for rental, deposit in rentals.items():
            play.call("get_rental", {"rental": rental}, {"rental": rental, "deposit": deposit, "days": 3})
        due = list(rentals.values()) if play.exercises("deposits") else list(rentals.values())[:1]
        play.call("charge_deposit", {"rentals": list(rentals), "amount": sum(due)}, {"charged": True})
        return "The deposits are charged."

    return Request(f"Charge the deposits of {' and '.join(rentals)}.", act)


def _fees(play: Play) -> Request:
    rental = play.number("R", 5)
    fees: list[dict[str, Any]] = [
        {"name": name, "fee": play.scene.randint(5, 60)} for name in ("cleaning", "mileage", "late return")
    ]

    def act() -> str:
        play.call("list_fees", {"rental": rental}, {"fees": fees})
        good = play.exercises("tell-fees")
        return f"That makes {sum(one['fee'] for one in fees)}." if good else "You find them on your bill."

    return Request(f"What are the fees of {rental} altogether?", act)


def _refund(play: Play) -> Request:
    rental, card = play.number("R", 5), play.number("CARD", 4)

    def act() -> str:
        play.call("get_payment", {"rental": rental}, {"card": card, "voucher": play.number("VC", 4)})
        to = card if play.exercises("card") else play.own.choice(("VC9999", "CASH"))
        play.call("refund", {"rental": rental, "to": to}, {"refunded": True})
        return "It is refunded."

    return Request(f"Refund my rental {rental}.", act)


def _advice(play: Play) -> Request:
    def act() -> str:
        play.call("log_question", {"topic": "route"}, {"logged": True})
        return "Somebody will get back to you."

    return Request("Which route would you take to the coast?", act)


RENTAL = Domain(
    name="rental",
    deficits={"largest": 0.3, "earliest": 0.25, "deposits": 0.3, "tell-fees": 0.3, "card": 0.25},
    jobs={"largest": _largest, "smallest": _smallest, "pickup": _pickup, "deposit": _deposit, "fees": _fees}
    | {"refund": _refund, "advice": _advice},
    tasks=(
        *("largest", "pickup", "deposit", "fees", "refund", "smallest", "largest", "pickup smallest"),
        *("deposit smallest", "fees smallest", "advice", "refund smallest"),
    ),
    tools=declared(
        find_vans="depot",
        reserve_van="van",
        list_slots="rental",
        set_pickup="rental slot",
        get_rental="rental",
        charge_deposit="rentals amount",
        list_fees="rental",
        get_payment="rental",
        refund="rental to",
        log_question="topic",
        get_traffic="",
    ),
    habit=lambda play: play.call("get_traffic", {}, {"traffic": "light"}),
    error=lambda text: (f"Error: {text}", True),
    hopeless=frozenset(("advice",)),
    filler=("smallest",),
)
