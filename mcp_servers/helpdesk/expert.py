"""The gold behaviour: what an agent that follows the policy does, step by step, in the tools' own terms.

`lapses` names capabilities *not* to exercise. An empty set is the oracle; the base agent's recipe plants its
deficits with the others.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator

from mcp_servers.helpdesk.scenario import Kind, Need, Request, Scenario
from trace_agents.types import ToolCall

Action = ToolCall | str
"""A tool call, or a text said to the customer."""


def gold_actions(
    scenario: Scenario, lapses: Collection[str] = (), rng: random.Random | None = None
) -> Iterator[Action]:
    """The actions in order; the last is the closing message.

    Args:
        scenario: the task.
        lapses: capabilities (`Need`) that this agent fails to exercise.
        rng: varies the closing words; None takes the first wording.
    """
    yield from _missing_details(scenario)
    outcomes = []
    for request in scenario.requests:
        steps = list(_handle(scenario, request, lapses))
        yield from steps[:-1]
        outcomes.append(str(steps[-1]))
        if Need.ALL_REQUESTS in lapses:
            break
    opening = rng.choice(("", "", "All done. ")) if rng else ""
    yield opening + " ".join(outcomes)


def told_facts(scenario: Scenario) -> list[str]:
    """Facts the customer must be told, as lower-case substrings."""
    facts = []
    for request in scenario.requests:
        order = scenario.state["orders"][request.order_id]
        if request.kind is Kind.TRACK:
            facts.append(order["arrives"].lower())
        if request.kind is Kind.CANCEL and order["status"] != "processing":
            facts.append(order["status"])
    return facts


def _missing_details(scenario: Scenario) -> Iterator[Action]:
    if "order" in scenario.omitted:
        if scenario.offers_email:
            yield ToolCall(name="find_customer", arguments={"email": scenario.customer})
        else:
            yield "What is your order number?"
    if "address" in scenario.omitted:
        yield "What is the new address?"
    if "email" in scenario.omitted:
        yield "What is your email address?"


def _handle(scenario: Scenario, request: Request, lapses: Collection[str]) -> Iterator[Action]:
    """Calls for one request, then its outcome in words."""
    order, number = scenario.state["orders"][request.order_id], request.order_id
    one = {"order_id": number}
    if request.kind is Kind.CANCEL:
        yield ToolCall(name="get_order", arguments=one)
        if order["status"] != "processing" and Need.ELIGIBILITY not in lapses:
            yield f"Sorry, order {number} has already {order['status']}, so it cannot be cancelled."
        else:
            yield ToolCall(name="cancel_order", arguments=one)
            yield f"Order {number} is cancelled."
    elif request.kind is Kind.RETURN:
        refund_to = "store credit" if Need.REFUND_METHOD in lapses else order["paid_with"]
        yield ToolCall(name="get_order", arguments=one)
        yield ToolCall(name="return_item", arguments=one | {"item": request.item, "refund_to": refund_to})
        yield f"The refund for order {number} goes to your {refund_to}."
    elif request.kind is Kind.EXCHANGE:
        yield ToolCall(name="get_order", arguments=one)
        yield ToolCall(name="exchange_item", arguments=one | {"item": request.item, "size": request.size})
        yield f"Your new size for order {number} is on its way."
    elif request.kind is Kind.ADDRESS:
        yield from _readdress(request, order["locked"], Need.UNLOCK in lapses)
    elif request.kind is Kind.TRACK:
        yield ToolCall(name="track_shipment", arguments=one)
        lapse = Need.TELL_ARRIVAL in lapses
        yield f"Order {number} is on its way." if lapse else f"Order {number} arrives on {order['arrives']}."
    else:
        yield ToolCall(name="send_invoice", arguments=one | {"email": request.email})
        yield f"The invoice for order {number} is sent."


def _readdress(request: Request, locked: bool, gives_up: bool) -> Iterator[Action]:
    change = ToolCall(name="change_address", arguments={"order_id": request.order_id, "address": request.address})
    yield change
    if locked and gives_up:
        yield f"Sorry, order {request.order_id} is locked, so the address stays as it is."
        return
    if locked:
        yield ToolCall(name="unlock_order", arguments={"order_id": request.order_id})
        yield change
    yield f"Order {request.order_id} goes to the new address."
