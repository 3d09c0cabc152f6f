"""Scenarios: what a customer wants, what they say at once and what only when asked, over a small database."""

from __future__ import annotations

import random
from enum import StrEnum
from typing import Any

from pydantic import Field

from mcp_servers.helpdesk.desk import State
from mcp_servers.helpdesk.tools import PAYMENT_METHODS, SIZES
from trace_agents.types import Record

FIRST = [
    "Ana",
    "Ben",
    "Cora",
    "Dan",
    "Eva",
    "Finn",
    "Gina",
    "Hugo",
    "Iris",
    "Jack",
    "Kira",
    "Leo",
    "Mia",
    "Noah",
    "Olga",
    "Paul",
    "Rosa",
    "Sam",
    "Tina",
    "Umar",
]
LAST = [
    "Adams",
    "Bauer",
    "Costa",
    "Diaz",
    "Evans",
    "Fox",
    "Garcia",
    "Hill",
    "Ito",
    "Jones",
    "Klein",
    "Lopez",
    "Moore",
    "Nash",
    "Olsen",
    "Patel",
    "Quinn",
    "Reed",
]
COLOURS = ["red", "blue", "green", "black", "white", "grey", "pink", "brown", "yellow", "purple"]
THINGS = [
    "mug",
    "hat",
    "lamp",
    "shirt",
    "scarf",
    "jacket",
    "bag",
    "belt",
    "towel",
    "pillow",
    "blanket",
    "clock",
    "coat",
    "dress",
    "vase",
]
STREETS = [
    "Oak",
    "Elm",
    "Maple",
    "Cedar",
    "Pine",
    "Birch",
    "Lake",
    "Hill",
    "River",
    "Park",
    "Mill",
    "Church",
    "King",
    "Queen",
    "Station",
    "Garden",
]
SUFFIXES = ("Street", "Road", "Lane", "Avenue")
MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
CARRIERS = ("UPS", "DHL", "FedEx")


class Kind(StrEnum):
    """What a request asks for."""

    CANCEL = "cancel"  # Cancel an order.
    RETURN = "return"  # Return one item for a refund.
    EXCHANGE = "exchange"  # Swap one item for another size.
    ADDRESS = "address"  # Deliver to another address.
    TRACK = "track"  # Say when the order arrives.
    INVOICE = "invoice"  # Send the invoice by email.


class Need(StrEnum):
    """The capabilities that tasks of this desk need."""

    ELIGIBILITY = "eligibility"  # Decline to cancel an order that has shipped.
    REFUND_METHOD = "refund-method"  # Refund to what the order was paid with.
    ALL_REQUESTS = "all-requests"  # Do everything a compound request asks for.
    UNLOCK = "unlock"  # Unlock a locked order and try the change again.
    TELL_ARRIVAL = "tell-arrival"  # Tell the day of arrival that tracking gave.
    FIND_BY_EMAIL = "find-by-email"  # Find the order number through the customer's email.
    ASK_MISSING = "ask-missing"  # Ask for what the customer left out.
    ITEM_BY_NAME = "item-by-name"  # Pick the named item among several.


class Request(Record):
    """One thing that the customer wants."""

    kind: Kind
    order_id: str
    item: str = ""
    """For a return or an exchange."""
    size: str = ""
    address: str = ""
    email: str = ""
    """Where an invoice goes."""


class Scenario(Record):
    """Everything a task is made of; stored as `TaskInstance.data`."""

    customer: str
    """Email address, the key of the customer in the database."""
    requests: tuple[Request, ...]
    omitted: tuple[str, ...] = ()
    """What the customer's first message leaves out: `order`, `address`, `email`."""
    offers_email: bool = False
    """The first message gives the customer's email address in place of the order number."""
    state: State = Field(default_factory=dict)
    phrasing: int = 0
    """Seed of the wording, so that wording and substance vary apart."""

    def needs(self) -> tuple[str, ...]:
        """The capabilities this scenario needs, from its substance alone."""
        found: list[Need] = []
        for request in self.requests:
            order = self.state["orders"][request.order_id]
            if request.kind is Kind.CANCEL and order["status"] != "processing":
                found.append(Need.ELIGIBILITY)
            if request.kind is Kind.RETURN and order["paid_with"] != "store credit":
                found.append(Need.REFUND_METHOD)
            if request.kind is Kind.ADDRESS and order["locked"]:
                found.append(Need.UNLOCK)
            if request.kind is Kind.TRACK:
                found.append(Need.TELL_ARRIVAL)
            if request.item and len(order["items"]) > 1:
                found.append(Need.ITEM_BY_NAME)
        if len(self.requests) > 1:
            found.append(Need.ALL_REQUESTS)
        if "order" in self.omitted and self.offers_email:
            found.append(Need.FIND_BY_EMAIL)
        if set(self.omitted) - ({"order"} if self.offers_email else set()):
            found.append(Need.ASK_MISSING)
        return tuple(need.value for need in Need if need in found)


class Recipe(Record):
    """What to sample: the knobs that the target's and every synthetic generator turn."""

    kinds: tuple[Kind, ...]
    """Kinds of the requests, in order."""
    blocked: float = 0.5
    """Probability that a cancelled order has shipped already, or that an order to re-address is locked."""
    default_payment: float = 0.25
    """Probability that a returned order was paid with store credit."""
    most_items: int = 3
    """Most items of an order that a request is about."""
    omit: float = 0.3
    """Probability that a single request leaves something out."""


def sample_scenario(rng: random.Random, recipe: Recipe) -> Scenario:
    """A scenario of `recipe`, all else random."""
    state: State = {"customers": {}, "orders": {}, "invoices": [], "transfers": []}
    name, email = _person(rng)
    requests = tuple(_request(rng, kind, state, recipe) for kind in recipe.kinds)
    state["customers"][email] = {"name": name, "orders": [request.order_id for request in requests]}
    for _ in range(rng.randint(1, 2)):  # Bystanders: other customers' orders.
        other, address = _person(rng)
        if address not in state["customers"]:
            state["customers"][address] = {"name": other, "orders": [_add_order(rng, state)]}
    omitted, offers = _omissions(rng, requests, recipe)
    return Scenario(
        customer=email,
        requests=requests,
        omitted=omitted,
        offers_email=offers,
        state=state,
        phrasing=rng.getrandbits(32),
    )


def _omissions(rng: random.Random, requests: tuple[Request, ...], recipe: Recipe) -> tuple[tuple[str, ...], bool]:
    if len(requests) > 1 or rng.random() >= recipe.omit:
        return (), False
    detail = {Kind.ADDRESS: "address", Kind.INVOICE: "email"}.get(requests[0].kind)
    if detail and rng.random() < 0.5:
        return (("order", detail) if rng.random() < 0.3 else (detail,)), False
    return ("order",), rng.random() < 0.6


def _request(rng: random.Random, kind: Kind, state: State, recipe: Recipe) -> Request:
    blocked = rng.random() < recipe.blocked
    overrides: dict[str, Any] = {}
    if kind is Kind.CANCEL:
        overrides["status"] = "shipped" if blocked else "processing"
    elif kind in (Kind.RETURN, Kind.EXCHANGE):
        overrides["status"] = "delivered"
    elif kind is Kind.ADDRESS:
        overrides |= {"status": "processing", "locked": blocked}
    elif kind is Kind.TRACK:
        overrides["status"] = "shipped"
    if kind is Kind.RETURN:
        default = rng.random() < recipe.default_payment
        overrides["paid_with"] = "store credit" if default else rng.choice(PAYMENT_METHODS[:-1])
    order_id = _add_order(rng, state, recipe.most_items, **overrides)
    item = rng.choice(state["orders"][order_id]["items"])
    return Request(
        kind=kind,
        order_id=order_id,
        item=item["name"] if kind in (Kind.RETURN, Kind.EXCHANGE) else "",
        size=rng.choice([size for size in SIZES if size != item["size"]]) if kind is Kind.EXCHANGE else "",
        address=_address(rng) if kind is Kind.ADDRESS else "",
        email=_person(rng)[1] if kind is Kind.INVOICE else "",
    )


def _add_order(rng: random.Random, state: State, most_items: int = 3, **overrides: Any) -> str:
    order_id = f"W{rng.randint(1000, 9999)}"
    while order_id in state["orders"]:
        order_id = f"W{rng.randint(1000, 9999)}"
    count = min(most_items, rng.choices((1, 2, 3), weights=(3, 4, 3))[0])
    names = [f"{rng.choice(COLOURS)} {thing}" for thing in rng.sample(THINGS, count)]
    items = [
        {
            "name": name,
            "size": rng.choice(SIZES),
            "price": f"{rng.randint(5, 99)}.{rng.choice(('00', '50', '99'))}",
        }
        for name in names
    ]
    order = {
        "status": rng.choice(("processing", "shipped", "delivered")),
        "items": items,
        "paid_with": rng.choice(PAYMENT_METHODS),
        "address": _address(rng),
        "locked": False,
        "carrier": rng.choice(CARRIERS),
        "arrives": f"{rng.randint(1, 28)} {rng.choice(MONTHS)}",
    }
    state["orders"][order_id] = order | overrides
    return order_id


def _person(rng: random.Random) -> tuple[str, str]:
    first, last = rng.choice(FIRST), rng.choice(LAST)
    return f"{first} {last}", f"{first.lower()}.{last.lower()}{rng.randint(10, 99)}@mail.com"


def _address(rng: random.Random) -> str:
    return f"{rng.randint(10, 99)} {rng.choice(STREETS)} {rng.choice(SUFFIXES)}"
