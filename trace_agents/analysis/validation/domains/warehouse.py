"""A warehouse's dispatcher: terse, camel-case tools that are declared, errors as plain text, listings to work off."""

from __future__ import annotations

from trace_agents.analysis.validation.play import Domain, Play, Request, declared

_GOODS = ("gasket", "bearing", "flange", "washer", "coupling", "spindle")


def _ship(play: Play) -> Request:
    pallet, dock = play.number("PAL-", 4), play.scene.choice(("north", "south", "east"))
    weight = play.scene.randint(80, 900)

    def act() -> str:
        if play.exercises("scan-first"):
            play.call("scanPallet", {"palletId": pallet}, {"palletId": pallet, "weightKg": weight})
        play.call("shipPallet", {"palletId": pallet, "dock": dock}, {"shipped": True})
        return "Shipped."

    return Request(f"{pallet} must leave through dock {dock}.", act)


def _restock(play: Play) -> Request:
    sku, home = play.number("SK", 5), f"{play.scene.choice('ABCDEF')}-{play.scene.randint(10, 99)}"
    record = {"sku": sku, "storage": {"homeBin": home, "zone": play.scene.choice(("cold", "dry"))}, "onHand": 40}

    def act() -> str:
        play.call("readSku", {"sku": sku}, record)
        target = home if play.exercises("home-bin") else f"{play.own.choice('ABCDEF')}-{play.own.randint(10, 99)}"
        play.call("moveStock", {"sku": sku, "toBin": target}, {"moved": True})
        return "Moved."

    return Request(f"put {sku} away", act)


def _pick(play: Play) -> Request:
    order = play.number("SO", 5)
    goods = play.scene.sample(_GOODS, 3)
    lines = [{"lineId": play.number("LN", 6), "goods": name, "quantity": play.scene.randint(1, 9)} for name in goods]

    def act() -> str:
        play.call("listLines", {"orderId": order}, {"lines": lines})
        for line in lines if play.exercises("all-lines") else lines[: play.own.randint(1, 2)]:
            play.call("pickLine", {"lineId": line["lineId"]}, {"picked": True})
        return "Picked."

    return Request(f"pick order {order}", act)


def _close(play: Play) -> Request:
    area = play.number("AREA-", 2)

    def act() -> str:
        play.fail("closeCount", {"area": area}, f"Error: stock of {area} does not add up")
        if not play.exercises("recount"):
            return "The count of this area does not add up."
        play.call("recount", {"area": area}, {"area": area, "difference": 0})
        play.call("closeCount", {"area": area}, {"closed": True})
        return "Closed."

    return Request(f"close the stocktaking of {area}", act)


def _label(play: Play) -> Request:
    parcel, carrier = play.number("PC", 6), play.scene.choice(("dax", "ubo"))

    def act() -> str:
        play.call("readParcel", {"parcelId": parcel}, {"parcelId": parcel, "carrier": carrier})
        if play.exercises("print-label"):
            play.call("printLabel", {"parcelId": parcel}, {"printed": True})
        return "The label is printed."

    return Request(f"print a label for parcel {parcel}", act)


def _find(play: Play) -> Request:
    """Needs mastered skills only."""
    name = play.scene.choice(_GOODS)
    found = [{"sku": play.number("SK", 5), "goods": goods} for goods in _GOODS]
    chosen = next(one["sku"] for one in found if one["goods"] == name)

    def act() -> str:
        play.call("searchGoods", {"text": name}, {"found": found})
        play.call("reserveStock", {"sku": chosen}, {"reserved": True})
        return "Reserved."

    return Request(f"reserve one {name}", act)


def _claim(play: Play) -> Request:
    pallet = play.number("PAL-", 4)

    def act() -> str:
        play.call("openClaim", {"palletId": pallet}, {"claim": play.number("CL", 4)})
        return "Claim opened."

    return Request(f"{pallet} arrived broken", act)


WAREHOUSE = Domain(
    name="warehouse",
    deficits={"scan-first": 0.4, "home-bin": 0.25, "all-lines": 0.2, "recount": 0.3, "print-label": 0.35},
    jobs={"ship": _ship, "restock": _restock, "pick": _pick, "close": _close, "label": _label, "find": _find}
    | {"claim": _claim},
    tasks=(
        *("ship", "pick", "restock find", "close", "label", "find", "pick ship", "restock", "close find", "claim"),
        *("pick", "ship find"),
    ),
    habit=lambda play: play.call("readClock", {}, {"shift": "early"}),
    error=lambda text: (text, False),
    tools=declared(
        scanPallet="palletId",
        shipPallet="palletId dock",
        readSku="sku",
        moveStock="sku toBin",
        listLines="orderId",
        pickLine="lineId",
        closeCount="area",
        recount="area",
        readParcel="parcelId",
        printLabel="parcelId",
        searchGoods="text",
        reserveStock="sku",
        openClaim="palletId",
        readClock="",
    ),
    hopeless=frozenset(("claim",)),
    filler=("find",),
)
