"""How customers put what they want: first messages and answers, varied by seed."""

from __future__ import annotations

import random

from mcp_servers.helpdesk.scenario import Kind, Request, Scenario

# Each kind's clauses in two moods: after "please" (imperative) and after "I want to" (infinitive).
_DO = {
    Kind.CANCEL: ("cancel {order}", "call off {order}", "stop {order}"),
    Kind.RETURN: (
        "take back the {item} from {order}",
        "return the {item} from {order}",
        "refund the {item} from {order}",
    ),
    Kind.EXCHANGE: ("exchange the {item} from {order} for size {size}", "swap the {item} from {order} for size {size}"),
    Kind.ADDRESS: (
        "send {order} to {address}",
        "change the address of {order} to {address}",
        "deliver {order} to {address}",
    ),
    Kind.TRACK: ("tell me when {order} arrives", "check when {order} gets here", "let me know when {order} comes"),
    Kind.INVOICE: ("send the invoice for {order} to {email}", "email the invoice of {order} to {email}"),
}
_WANT = {
    Kind.CANCEL: ("cancel {order}", "call off {order}"),
    Kind.RETURN: (
        "return the {item} from {order}",
        "send back the {item} from {order}",
        "get a refund for the {item} from {order}",
    ),
    Kind.EXCHANGE: ("exchange the {item} from {order} for size {size}", "have the {item} from {order} in size {size}"),
    Kind.ADDRESS: ("have {order} sent to {address}", "change the address of {order} to {address}"),
    Kind.TRACK: ("know when {order} arrives", "find out when {order} gets here", "hear when {order} comes"),
    Kind.INVOICE: ("have the invoice for {order} sent to {email}", "get the invoice of {order} at {email}"),
}
_OPENINGS = ("", "", "", "Hi. ", "Hello. ", "Good morning. ", "Hey there. ")
_ENDINGS = ("", "", "", " Thanks.", " Thank you.")


def first_message(scenario: Scenario) -> str:
    """The customer's first message (o_1)."""
    rng = random.Random(scenario.phrasing)
    body = _single(rng, scenario) if len(scenario.requests) == 1 else _compound(rng, scenario)
    if scenario.offers_email:
        body += rng.choice((" My email is {0}.", " I am {0}.", " You have me as {0}.")).format(scenario.customer)
    return f"{rng.choice(_OPENINGS)}{body}{rng.choice(_ENDINGS)}"


def _single(rng: random.Random, scenario: Scenario) -> str:
    request = scenario.requests[0]
    do, want = _clause(rng, scenario, request, _DO), _clause(rng, scenario, request, _WANT)
    patterns = (
        f"Please {do}.",
        f"Could you {do}?",
        f"Can you {do}?",
        f"I want to {want}.",
        f"I would like to {want}.",
        f"I need to {want}.",
    )
    return rng.choice(patterns)


def _compound(rng: random.Random, scenario: Scenario) -> str:
    do = [_clause(rng, scenario, request, _DO) for request in scenario.requests]
    want = [_clause(rng, scenario, request, _WANT) for request in scenario.requests]
    patterns = (
        f"Please {', '.join(do[:-1])} and {do[-1]}.",
        f"I want to {', '.join(want[:-1])}. Also, please {do[-1]}.",
        f"Could you {', '.join(do[:-1])}? And then {do[-1]}.",
        f"I need to {', '.join(want[:-1])} and to {want[-1]}.",
        f"I would like to {', '.join(want[:-1])}. I also want to {want[-1]}.",
    )
    return rng.choice(patterns)


def _clause(rng: random.Random, scenario: Scenario, request: Request, moods: dict[Kind, tuple[str, ...]]) -> str:
    pattern = rng.choice(moods[request.kind])
    if {"address", "email"} & set(scenario.omitted):
        pattern = _OMITTED[request.kind]
    order = (
        "my order"
        if "order" in scenario.omitted
        else rng.choice(("order {0}", "my order {0}")).format(request.order_id)
    )
    return pattern.format(
        order=order, item=request.item, size=request.size, address=request.address, email=request.email
    )


_OMITTED = {Kind.ADDRESS: "change the address of {order}", Kind.INVOICE: "get the invoice for {order}"}


def answer(kind: str, value: str, rng: random.Random) -> str:
    """The customer's answer when asked for `kind`: `order`, `email` or `address`."""
    return rng.choice(_ANSWERS[kind]).format(value)


_ANSWERS = {
    "order": ("It is {0}.", "The order number is {0}.", "{0}.", "My order is {0}."),
    "email": ("It is {0}.", "{0}", "My email is {0}.", "Use {0}."),
    "address": ("It is {0}.", "{0}.", "The new address is {0}.", "Please use {0}."),
}
