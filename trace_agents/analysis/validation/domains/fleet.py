"""A fleet's control room: dotted tool names, results in an envelope, a guard on a number, one request a turn."""

from __future__ import annotations

from typing import Any

from trace_agents.analysis.validation.play import Domain, Play, Request

_FLAT = 20
"""Charge in percent under which a vehicle may not leave."""


def _envelope(**data: Any) -> dict[str, Any]:
    return {"success": True, "data": data}


def _dispatch(play: Play) -> Request:
    vehicle = play.number("VH", 4)
    flat = play.scene.random() < 0.6
    charge = play.scene.randint(3, _FLAT - 1) if flat else play.scene.randint(_FLAT, 99)
    state = _envelope(charge=charge, seats=play.scene.choice((4, 7)), odometer=play.scene.randint(900, 90_000))

    def act() -> str:
        play.call("Vehicles.State", {"vehicle": vehicle}, state)
        if flat and play.exercises("flat-battery"):
            return "That one has to charge first."
        play.call("Vehicles.Dispatch", {"vehicle": vehicle}, _envelope(dispatched=True))
        return "On its way."

    return Request(f"send {vehicle} out", act)


def _park(play: Play) -> Request:
    driver, depot = play.number("DR", 3), play.scene.choice(("Harbour", "Mill Lane", "Old Tram Yard"))
    others = [name for name in ("Harbour", "Mill Lane", "Old Tram Yard") if name != depot]

    def act() -> str:
        play.call("Drivers.Profile", {"driver": driver}, _envelope(homeDepot=depot, since=2027))
        chosen = depot if play.exercises("home-depot") else play.own.choice(others)
        play.call("Shifts.End", {"driver": driver, "depot": chosen}, _envelope(ended=True))
        return "Shift ended."

    return Request(f"{driver} is done for today", act)


def _zone(play: Play) -> Request:
    route = play.number("RT", 3)

    def act() -> str:
        play.fail("Routes.Start", {"route": route}, f"route {route} crosses a closed zone")
        if not play.exercises("permit"):
            return "The zone is closed."
        play.call("Permits.Request", {"route": route}, _envelope(granted=True))
        play.call("Routes.Start", {"route": route}, _envelope(started=True))
        return "Started."

    return Request(f"start {route}", act)


def _eta(play: Play) -> Request:
    trip, minutes = play.number("TP", 5), play.scene.randint(11, 58)

    def act() -> str:
        play.call("Trips.Estimate", {"trip": trip}, _envelope(minutes=minutes, traffic="dense"))
        return f"{minutes} minutes." if play.exercises("tell-minutes") else "It will not be long."

    return Request(f"how long will {trip} take?", act)


def _wash(play: Play) -> Request:
    vehicles = [play.number("VH", 4) for _ in range(3)]

    def act() -> str:
        for vehicle in vehicles if play.exercises("all-vehicles") else vehicles[: play.own.randint(1, 2)]:
            play.call("Wash.Plan", {"vehicle": vehicle}, _envelope(planned=True))
        return "They are planned."

    return Request(f"wash {', '.join(vehicles[:2])} and {vehicles[2]}", act)


def _radio(play: Play) -> Request:
    """Needs mastered skills only."""
    channel = play.scene.randint(2, 9)

    def act() -> str:
        play.call("Radio.Channels", {}, _envelope(free=[channel, 12, 14]))
        play.call("Radio.Tune", {"channel": channel}, _envelope(tuned=True))
        return f"Channel {channel}."

    return Request("give me a free channel", act)


def _lost(play: Play) -> Request:
    def act() -> str:
        play.call("Lost.Report", {"thing": "umbrella"}, _envelope(noted=True))
        return "Noted."

    return Request("somebody lost an umbrella", act)


FLEET = Domain(
    name="fleet",
    deficits={"flat-battery": 0.25, "home-depot": 0.3, "permit": 0.25, "tell-minutes": 0.35, "all-vehicles": 0.3},
    jobs={"dispatch": _dispatch, "park": _park, "zone": _zone, "eta": _eta, "wash": _wash}
    | {"radio": _radio, "lost": _lost},
    tasks=(
        *("dispatch", "park", "zone", "eta", "wash", "radio", "dispatch radio", "park eta", "wash radio"),
        *("lost", "dispatch", "zone radio", "dispatch"),
    ),
    habit=lambda play: play.call("Weather.Now", {}, _envelope(sky="clear")),
    error=lambda text: (f'{{"success": false, "error": "{text}"}}', False),
    hopeless=frozenset(("lost",)),
    filler=("radio",),
)
