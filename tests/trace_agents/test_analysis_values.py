"""Reading values, mentions, identifiers, errors and names."""

from __future__ import annotations

import pytest

from trace_agents.analysis.english import do, doing, gerund, listed, noun, phrase, slug
from trace_agents.analysis.values import (
    MAX_LEAVES,
    error_signature,
    identifier_pattern,
    leaves,
    mentions,
    named_identifiers,
    normal,
    padded,
    terms,
)


def test_leaves_name_lists_and_keyed_records_alike() -> None:
    value = {"a": {"b": 1}, "list": [{"x": "One"}, {"x": None}], "cards": {"card_12": {"kind": "visa"}}}
    assert [(leaf.path, leaf.value, leaf.record) for leaf in leaves(value)] == [
        ("a.b", "1", ""),
        ("list[].x", "one", ".list[0]"),
        ("cards.*.kind", "visa", ".cards.card_12"),
    ]


def test_long_listings_are_cut() -> None:
    assert len(leaves(list(range(1, 5000)))) == MAX_LEAVES


@pytest.mark.parametrize(
    ("value", "expected"), [(12.0, "12"), (12.5, "12.5"), (True, "true"), ("  A  b ", "a b"), (1_000_000, "1000000")]
)
def test_scalars_have_one_normal_form(value: object, expected: str) -> None:
    assert normal(value) == expected


@pytest.mark.parametrize(
    ("prose", "value", "found"),
    [
        ("It arrives on March 12.", "march 12", True),
        ("It arrives on March 121.", "march 12", False),
        ("That is $1,234.00 in all", "1234", True),
        ("paid by Gift Card", "gift_card", True),
        ("due on the 3rd of May", "2024-05-03", False),
        ("due on 3 May", "2024-05-03", True),
        ("due on May 3rd, 2024", "2024-05-03", True),
        ("at 07:30 PM", "19:30:00", True),
        ("nothing", "", False),
    ],
)
def test_prose_mentions_a_value_in_any_usual_form(prose: str, value: str, found: bool) -> None:
    assert mentions(padded(prose), value) is found


@pytest.mark.parametrize("character", ["x", "東", "'", "."])
def test_a_long_run_of_text_without_a_space_is_read_once(character: str) -> None:
    run = character * 200_000
    assert terms(f"{run} renew") >= {"renew"}
    assert error_signature(f"Error: {run} is no file7 of yours", True) is not None
    assert terms(f"the {run}7 loan") == {"loan", "the loan"}


def test_terms_are_stems_and_pairs_without_names_and_identifiers() -> None:
    found = terms("I want to cancel order W4821, says Ana, and get refunds")
    assert {"cancel", "order", "want", "refund", "to cancel"} <= found
    assert not any("w4821" in term or "ana" in term.split() for term in found)


@pytest.mark.parametrize(
    ("content", "marked", "expected"),
    [
        ('{"error": "order W12 is locked"}', False, "order … is locked"),
        ("Error: total price is 305, but paid 255", False, "total price is … but paid …"),
        ('{"error": null, "id": 3}', False, None),
        ('{"state": "error-free"}', False, None),
        ("no such thing: 'x'", True, "no such thing: …"),
        ("", True, "error"),
        ('{"status": "no", "error": {"code": 9, "message": "quota is used up"}}', False, "quota is used up"),
        ('{"error": [{"at": "x", "text": "the door is shut"}]}', False, "the door is shut"),
        ("ConnectionError: no answer", False, "connectionerror: no answer"),
    ],
)
def test_errors_are_told_apart_by_their_text_without_values(content: str, marked: bool, expected: str | None) -> None:
    assert error_signature(content, marked) == expected


@pytest.mark.parametrize(
    ("values", "text", "found"),
    [
        ({"W12", "W345", "W9"}, "orders W7 and W88, not XW5", ["w7", "w88"]),
        ({"AB12CD", "ZZZZZZ", "Q1W2E3"}, "IFOYYZ please", ["ifoyyz"]),
        ({"ana_li_12", "bo_ray_3", "cy_mo_44"}, "I am mia_li_3668.", ["mia_li_3668"]),
        ({"10203040", "55667788", "90807060"}, "from 11223344, not 112233445", ["11223344"]),
    ],
)
def test_identifiers_are_known_by_their_shape(values: set[str], text: str, found: list[str]) -> None:
    pattern = identifier_pattern(values)
    assert pattern is not None
    assert named_identifiers(pattern, text) == found


@pytest.mark.parametrize(
    "values", [{"12", "13", "14"}, {"2024-05-01", "2024-05-02", "2024-05-03"}, {"red", "blue", "green"}]
)
def test_numbers_dates_and_words_are_no_identifiers(values: set[str]) -> None:
    assert identifier_pattern(values) is None


def test_tools_and_fields_become_english() -> None:
    assert doing("cancel_order") == "cancelling the order"
    assert doing("getUserDetails") == "getting the user details"
    assert doing("transfer_to_human") == "transferring to human"
    assert do("move_loan") == "move the loan"
    assert do("Trips.Estimate") == "estimate the trips"
    assert [gerund(verb) for verb in ("tie", "see", "book", "set", "update", "edit", "opening")] == [
        "tying",
        "seeing",
        "booking",
        "setting",
        "updating",
        "editing",
        "opening",
    ]
    assert (noun("reservation_id"), noun("isbn")) == ("reservation", "isbn")
    assert phrase("payment_history[].payment_id") == "payment history payment ID"
    assert listed(["a", "b", "c"], "or") == "a, b or c"
    assert slug("Check the status before cancelling the order!") == "check-status-before-cancelling-order"
    assert slug("!") == "capability"
