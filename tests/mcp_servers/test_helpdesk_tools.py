"""The desk's tools: what they change, and every way in which they refuse."""

import copy
import json

import pytest

from mcp_servers.guard import argument_fault
from mcp_servers.helpdesk.desk import Desk
from mcp_servers.helpdesk.environment import policy_text
from mcp_servers.helpdesk.tools import TOOLS

STATE = {
    "customers": {"ana.fox12@mail.com": {"name": "Ana Fox", "orders": ["W1000", "W2000"]}},
    "orders": {
        "W1000": {
            "status": "processing",
            "items": [{"name": "red mug", "size": "S", "price": "9.99"}],
            "paid_with": "card",
            "address": "10 Oak Road",
            "locked": False,
            "carrier": "UPS",
            "arrives": "May 4",
        },
        "W2000": {
            "status": "shipped",
            "items": [{"name": "blue hat", "size": "M", "price": "5.00"}],
            "paid_with": "paypal",
            "address": "12 Elm Road",
            "locked": True,
            "carrier": "DHL",
            "arrives": "June 5",
        },
    },
    "invoices": [],
    "transfers": [],
}
RETURN = {"order_id": "W1000", "item": "red mug", "refund_to": "card"}
EXCHANGE = {"order_id": "W1000", "item": "red mug", "size": "L"}
ADDRESS = {"order_id": "W1000", "address": "1 New Lane"}

WORKS = [
    ("find_customer", {"email": "ana.fox12@mail.com"}, {"name": "Ana Fox", "orders": ["W1000", "W2000"]}),
    (
        "get_order",
        {"order_id": "W1000"},
        {
            "order_id": "W1000",
            "status": "processing",
            "items": ["red mug"],
            "paid_with": "card",
        },
    ),
    ("track_shipment", {"order_id": "W2000"}, {"order_id": "W2000", "carrier": "DHL", "arrives": "June 5"}),
    ("cancel_order", {"order_id": "W2000"}, {"order_id": "W2000", "status": "cancelled"}),
    ("return_item", RETURN, {"item": "red mug", "refund": "9.99"}),
    ("exchange_item", EXCHANGE, {"item": "red mug", "size": "L"}),
    ("change_address", ADDRESS, {"order_id": "W1000", "address": "1 New Lane"}),
    ("unlock_order", {"order_id": "W2000"}, {"order_id": "W2000", "locked": False}),
    ("send_invoice", {"order_id": "W1000", "email": "x@mail.com"}, {"order_id": "W1000", "sent_to": "x@mail.com"}),
    ("transfer_to_human", {"reason": "odd"}, {"transferred": True}),
]
REFUSALS = [
    ("find_customer", {"email": "no@mail.com"}, "customer not found"),
    ("get_order", {"order_id": "W9"}, "order not found"),
    ("track_shipment", {"order_id": "w1000"}, "order not found"),
    ("cancel_order", {"order_id": ""}, "order not found"),
    ("return_item", RETURN | {"order_id": "W9"}, "order not found"),
    ("return_item", RETURN | {"item": "blue hat"}, "item not found in this order"),
    (
        "return_item",
        RETURN | {"refund_to": "cash"},
        "unknown refund_to: use one of card, paypal, gift card, store credit",
    ),
    ("exchange_item", EXCHANGE | {"order_id": "W9"}, "order not found"),
    ("exchange_item", EXCHANGE | {"item": "grey lamp"}, "item not found in this order"),
    ("exchange_item", EXCHANGE | {"size": "XS"}, "unknown size: use one of S, M, L, XL"),
    ("change_address", ADDRESS | {"order_id": "W2000"}, "order is locked"),
    ("change_address", ADDRESS | {"order_id": "W9"}, "order not found"),
    ("unlock_order", {"order_id": "W9"}, "order not found"),
    ("send_invoice", {"order_id": "W9", "email": "x@mail.com"}, "order not found"),
    ("delete_order", {"order_id": "W1000"}, "unknown tool delete_order"),
    ("get_order", {}, "missing argument order_id"),
    ("get_order", {"order_id": "W1000", "verbose": True}, "unknown argument verbose"),
    ("get_order", {"order_id": 1000}, "argument order_id is not a string"),
    ("transfer_to_human", {"reason": None}, "argument reason is not a string"),
]


@pytest.mark.parametrize(("tool", "arguments", "answer"), WORKS)
def test_a_tool_answers_with_what_it_found_or_did(tool, arguments, answer):
    result = Desk(STATE).call(tool, arguments)
    assert not result.is_error
    assert json.loads(result.content) == answer


@pytest.mark.parametrize(("tool", "arguments", "reason"), REFUSALS)
def test_a_tool_that_refuses_says_why_and_changes_nothing(tool, arguments, reason):
    desk = Desk(STATE)
    result = desk.call(tool, arguments)
    assert result.is_error
    assert json.loads(result.content) == {"error": reason}
    assert desk.state == STATE


def test_every_tool_is_tried_above():
    assert {tool for tool, _, _ in WORKS} == {tool.name for tool in TOOLS}


def test_read_only_tools_change_nothing_and_all_others_do():
    for tool, arguments, _ in WORKS:
        desk = Desk(STATE)
        desk.call(tool, arguments)
        read_only = next(spec for spec in TOOLS if spec.name == tool).annotations["readOnlyHint"]
        assert (desk.state == STATE) is read_only, tool


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_every_argument_is_required_and_described_and_every_tool_says_what_it_is_for(tool):
    schema = tool.input_schema
    assert schema["required"] == list(schema["properties"])
    assert all(len(argument["description"]) > 10 for argument in schema["properties"].values())
    assert len(tool.description) > 20


def test_a_call_that_breaks_its_schema_is_refused_by_the_desk_too():
    specs = {tool.name: tool for tool in TOOLS}
    for tool, arguments, _ in WORKS:
        assert argument_fault(specs[tool], arguments) is None
    for tool, arguments, _ in REFUSALS:
        if tool in specs and argument_fault(specs[tool], arguments):
            assert Desk(STATE).call(tool, arguments).is_error


def test_an_item_is_returned_once():
    desk = Desk(STATE)
    desk.call("return_item", RETURN)
    again = desk.call("return_item", RETURN | {"refund_to": "paypal"})
    assert json.loads(again.content) == {"error": "item is already returned"}
    assert desk.state["orders"]["W1000"]["items"][0]["refund_to"] == "card"


def test_a_locked_order_can_be_changed_once_it_is_unlocked_and_the_unlocking_leaves_a_mark():
    desk = Desk(STATE)
    move = {"order_id": "W2000", "address": "1 New Lane"}
    assert desk.call("change_address", move).is_error
    desk.call("unlock_order", {"order_id": "W2000"})
    assert not desk.call("change_address", move).is_error
    assert desk.state["orders"]["W2000"] == STATE["orders"]["W2000"] | {
        "locked": False,
        "unlocked": True,
        "address": "1 New Lane",
    }


def test_episodes_do_not_share_a_database():
    before = copy.deepcopy(STATE)
    one, two = Desk(STATE), Desk(STATE)
    one.call("cancel_order", {"order_id": "W1000"})
    assert two.state == STATE == before


def test_the_policy_names_no_tool_that_is_missing_and_the_status_that_must_be_told():
    text = policy_text()
    assert "`processing`" in text
    assert "`shipped`" in text
    assert "paid_with" in text
