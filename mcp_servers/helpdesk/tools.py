"""The desk's tools, as the agent sees them."""

from __future__ import annotations

from trace_agents.types import ToolSpec

PAYMENT_METHODS = ("card", "paypal", "gift card", "store credit")
SIZES = ("S", "M", "L", "XL")

_ORDER = {"order_id": {"type": "string", "description": "Order number, such as W4821."}}
_ITEM = {"item": {"type": "string", "description": "Name of the item as listed in the order, such as blue mug."}}


def _tool(name: str, description: str, properties: dict, read_only: bool = False) -> ToolSpec:
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    annotations = {"readOnlyHint": read_only, "destructiveHint": not read_only}
    return ToolSpec(name=name, description=description, input_schema=schema, annotations=annotations)


TOOLS: tuple[ToolSpec, ...] = (
    _tool(
        "find_customer",
        "Find a customer by email address. Returns their name and their order numbers.",
        {"email": {"type": "string", "description": "The customer's email address."}},
        read_only=True,
    ),
    _tool(
        "get_order",
        "Look up an order: its status (processing, shipped, delivered or cancelled), items, and how it was paid.",
        _ORDER,
        read_only=True,
    ),
    _tool(
        "track_shipment",
        "Track the shipment of an order. Returns the carrier and the day on which it arrives.",
        _ORDER,
        read_only=True,
    ),
    _tool("cancel_order", "Cancel an order. The system does not check whether policy allows it.", _ORDER),
    _tool(
        "return_item",
        "Return one item of an order and refund it.",
        _ORDER
        | _ITEM
        | {"refund_to": {"type": "string", "enum": list(PAYMENT_METHODS), "description": "Where the refund goes."}},
    ),
    _tool(
        "exchange_item",
        "Exchange one item of an order for another size.",
        _ORDER | _ITEM | {"size": {"type": "string", "enum": list(SIZES), "description": "The size wanted."}},
    ),
    _tool(
        "change_address",
        "Change the delivery address of an order. Fails while the order is locked.",
        _ORDER | {"address": {"type": "string", "description": "The new address: number and street."}},
    ),
    _tool("unlock_order", "Unlock an order that is locked, so that it can be changed.", _ORDER),
    _tool(
        "send_invoice",
        "Send the invoice of an order to an email address.",
        _ORDER | {"email": {"type": "string", "description": "Where to send the invoice."}},
    ),
    _tool(
        "transfer_to_human",
        "Hand the conversation to a human colleague. Only for requests that no tool can serve.",
        {"reason": {"type": "string", "description": "Why the transfer is needed."}},
    ),
)
