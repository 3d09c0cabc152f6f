"""The desk's database and what its tools do to it. Plain dictionaries, so that a state is its own JSON."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from typing import Any

from mcp_servers.helpdesk.tools import PAYMENT_METHODS, SIZES, TOOLS
from trace_agents.types import ToolResult

State = dict[str, Any]
"""`customers`: email → {customer_id, name, orders}; `orders`: number → order; `invoices`, `transfers`: logs."""


class DeskError(Exception):
    """A tool refused; the agent reads the message."""


class Desk:
    """One episode's database with its tools."""

    def __init__(self, state: State) -> None:
        self.state = copy.deepcopy(state)

    def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        """Run tool `name`. Whatever is wrong with the call comes back as an error result."""
        try:
            return ToolResult(content=json.dumps(self._run(name, arguments)))
        except DeskError as error:
            return ToolResult(content=json.dumps({"error": str(error)}), is_error=True)

    def _run(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        tool = _TOOLS.get(name)
        if tool is None:
            raise DeskError(f"unknown tool {name}")
        needed = _PARAMETERS[name]
        if missing := [key for key in needed if key not in arguments]:
            raise DeskError(f"missing argument {missing[0]}")
        if surplus := [key for key in arguments if key not in needed]:
            raise DeskError(f"unknown argument {surplus[0]}")
        if wrong := [key for key in needed if not isinstance(arguments[key], str)]:
            raise DeskError(f"argument {wrong[0]} is not a string")
        return tool(self.state, **arguments)


def _order(state: State, order_id: str) -> dict[str, Any]:
    if order_id not in state["orders"]:
        raise DeskError("order not found")
    return state["orders"][order_id]


def _item(order: dict[str, Any], name: str) -> dict[str, Any]:
    for item in order["items"]:
        if item["name"] == name:
            return item
    raise DeskError("item not found in this order")


def _choice(value: str, options: tuple[str, ...], what: str) -> str:
    if value not in options:
        raise DeskError(f"unknown {what}: use one of {', '.join(options)}")
    return value


def _find_customer(state: State, email: str) -> dict[str, Any]:
    if email not in state["customers"]:
        raise DeskError("customer not found")
    customer = state["customers"][email]
    return {"name": customer["name"], "orders": customer["orders"]}


def _get_order(state: State, order_id: str) -> dict[str, Any]:
    order = _order(state, order_id)
    items = [item["name"] for item in order["items"]]
    return {"order_id": order_id, "status": order["status"], "items": items, "paid_with": order["paid_with"]}


def _track_shipment(state: State, order_id: str) -> dict[str, Any]:
    order = _order(state, order_id)
    return {"order_id": order_id, "carrier": order["carrier"], "arrives": order["arrives"]}


def _cancel_order(state: State, order_id: str) -> dict[str, Any]:
    order = _order(state, order_id)
    order["status"] = "cancelled"
    return {"order_id": order_id, "status": "cancelled"}


def _return_item(state: State, order_id: str, item: str, refund_to: str) -> dict[str, Any]:
    found = _item(_order(state, order_id), item)
    if found.get("refund_to"):
        raise DeskError("item is already returned")
    found["refund_to"] = _choice(refund_to, PAYMENT_METHODS, "refund_to")
    return {"item": item, "refund": found["price"]}


def _exchange_item(state: State, order_id: str, item: str, size: str) -> dict[str, Any]:
    found = _item(_order(state, order_id), item)
    found["size"] = _choice(size, SIZES, "size")
    return {"item": item, "size": size}


def _change_address(state: State, order_id: str, address: str) -> dict[str, Any]:
    order = _order(state, order_id)
    if order["locked"]:
        raise DeskError("order is locked")
    order["address"] = address
    return {"order_id": order_id, "address": address}


def _unlock_order(state: State, order_id: str) -> dict[str, Any]:
    order = _order(state, order_id)
    order["locked"] = False
    order["unlocked"] = True
    return {"order_id": order_id, "locked": False}


def _send_invoice(state: State, order_id: str, email: str) -> dict[str, Any]:
    _order(state, order_id)
    state["invoices"].append([order_id, email])
    return {"order_id": order_id, "sent_to": email}


def _transfer_to_human(state: State, reason: str) -> dict[str, Any]:
    state["transfers"].append(reason)
    return {"transferred": True}


_TOOLS: dict[str, Callable[..., dict[str, Any]]] = {
    "find_customer": _find_customer,
    "get_order": _get_order,
    "track_shipment": _track_shipment,
    "cancel_order": _cancel_order,
    "return_item": _return_item,
    "exchange_item": _exchange_item,
    "change_address": _change_address,
    "unlock_order": _unlock_order,
    "send_invoice": _send_invoice,
    "transfer_to_human": _transfer_to_human,
}
_PARAMETERS = {tool.name: tuple(tool.input_schema["properties"]) for tool in TOOLS}
