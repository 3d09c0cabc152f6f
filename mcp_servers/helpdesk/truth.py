"""Which capabilities a conversation exercised, by the desk's own rules: the analysis' yardstick, never its input."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from mcp_servers.helpdesk.scenario import Kind, Need, Request, Scenario
from trace_agents.types import Message

_DAY = re.compile(r"(\d{1,2}) ([a-z]{3})([a-z]*)")


def tells(said: str, fact: str) -> bool:
    """Whether the lower-case text `said` holds the fact; a day may be put as `4 May`, `4th of May` or `May 4`.

    `14 May` and `May 14` do not tell `4 May`, nor does `May 4` tell `May 14`.
    """
    form = re.escape(fact.lower())
    if day := _DAY.fullmatch(fact.lower()):
        number, month = f"{day[1]}(?:st|nd|rd|th)?", f"{day[2]}(?:{day[3]})?"
        form = rf"(?:{number} (?:of )?{month}|{month}\.? (?:the )?{number})"
    return re.search(rf"(?<!\w){form}(?!\d)", said) is not None


def exercised(scenario: Scenario, messages: Sequence[Message]) -> dict[str, bool]:
    """Need → exercised, for the five needs that turn on a decision and whose decision the conversation reached.

    A need counts as exercised when it was at every one of its decisions.
    """
    calls = [(call.name, call.arguments) for m in messages for call in m.tool_calls if isinstance(call.arguments, dict)]
    said = " ".join((m.content or "").lower() for m in messages if m.role == "assistant")
    found: dict[str, bool] = {}
    for need, happened in _decisions(scenario, calls, said):
        found[need.value] = found.get(need.value, True) and happened
    return found


def _decisions(
    scenario: Scenario, calls: Sequence[tuple[str, dict[str, Any]]], said: str
) -> Iterator[tuple[Need, bool]]:
    if len(scenario.requests) > 1:
        touched = {arguments.get("order_id") for _, arguments in calls}
        yield Need.ALL_REQUESTS, all(request.order_id in touched for request in scenario.requests)
    for request in scenario.requests:
        own = [(name, arguments) for name, arguments in calls if arguments.get("order_id") == request.order_id]
        yield from _decision(request, scenario.state["orders"][request.order_id], own, said)


def _decision(
    request: Request, order: dict[str, Any], calls: Sequence[tuple[str, dict[str, Any]]], said: str
) -> Iterator[tuple[Need, bool]]:
    names = [name for name, _ in calls]
    if request.kind is Kind.CANCEL and order["status"] != "processing" and "get_order" in names:
        yield Need.ELIGIBILITY, "cancel_order" not in names
    elif request.kind is Kind.RETURN and order["paid_with"] != "store credit" and "return_item" in names:
        refund_to = next(arguments.get("refund_to") for name, arguments in calls if name == "return_item")
        yield Need.REFUND_METHOD, refund_to == order["paid_with"]
    elif request.kind is Kind.ADDRESS and order["locked"] and "change_address" in names:
        yield Need.UNLOCK, "unlock_order" in names
    elif request.kind is Kind.TRACK and "track_shipment" in names:
        yield Need.TELL_ARRIVAL, tells(said, order["arrives"])
