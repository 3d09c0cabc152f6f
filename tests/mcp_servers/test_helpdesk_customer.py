"""The scripted customer, spoken to as different chat models speak."""

import pytest

from mcp_servers.helpdesk.desk import State
from mcp_servers.helpdesk.scenario import Kind, Request, Scenario
from mcp_servers.helpdesk.user import Customer

NUMBER, STREET, INVOICE_TO, KNOWN_AS = "W4821", "38 Elm Road", "noah.lopez76@mail.com", "rosa.garcia63@mail.com"
STATE: State = {"orders": {NUMBER: {"items": []}, "W7000": {"items": []}}}


def customer(kind: Kind = Kind.CANCEL, *omitted: str, more: tuple[Request, ...] = ()) -> Customer:
    request = Request(
        kind=kind,
        order_id=NUMBER,
        address=STREET if kind is Kind.ADDRESS else "",
        email=INVOICE_TO if kind is Kind.INVOICE else "",
    )
    return Customer(Scenario(customer=KNOWN_AS, requests=(request, *more), omitted=omitted, state=STATE))


def said(who: Customer, message: str) -> str | None:
    return who.reply(message).content


@pytest.mark.parametrize(
    "question",
    [
        "What is your order number?",
        "Could you please provide your order number?",
        "May I have your order number, please?",
        "Which order is this about?",
        "What’s the order ID?",
        "Sure! What is the number of the order?",
        "Please provide your order number.",
        "Please provide your order number so that I can look it up.",
        "To help you with that, I'll need your order number.",
        "I'd be happy to help! Could you please provide the order number? Once I have it, I'll look it up right away.",
        "Let me look into this. Could you please give me your order number?",
        "Could you tell me which order you would like to cancel?",
        "Could you provide the order # ?",
        "Let me know your order number and I will check.",
    ],
)
def test_asked_for_the_order_number_in_any_words_the_customer_tells_it(question):
    assert NUMBER in said(customer(Kind.CANCEL, "order"), question)


@pytest.mark.parametrize(
    "question",
    [
        "What is the new address?",
        "What is the new delivery address?",
        "Could you please provide the new shipping address?",
        "Where should we send it?",
        "Where would you like the order delivered?",
        "Please provide the new address.",
        "Could you please tell me the full new address, including street and number?",
        "To which address should I change it?",
        "I can help with that. Please share the new delivery address and I will update the order.",
    ],
)
def test_asked_for_the_new_address_in_any_words_the_customer_tells_it(question):
    assert STREET in said(customer(Kind.ADDRESS, "address"), question)


@pytest.mark.parametrize(
    "question",
    [
        "What is your email address?",
        "Which email address should I send the invoice to?",
        "Where should I send the invoice?",
        "To which address should the invoice go?",
        "Could you please provide the email address where you'd like to receive it?",
        "Please let me know your email.",
        "What e-mail should I use?",
    ],
)
def test_asked_where_the_invoice_goes_in_any_words_the_customer_tells_it(question):
    assert INVOICE_TO in said(customer(Kind.INVOICE, "email"), question)


@pytest.mark.parametrize(
    "question",
    [
        "May I have the email address on file?",
        "Could you please provide your email address so that I can find your order?",
        "What is the email address of your account?",
    ],
)
@pytest.mark.parametrize("kind", [Kind.CANCEL, Kind.INVOICE])
def test_asked_for_the_email_on_file_the_customer_tells_the_one_the_shop_knows(kind, question):
    answer = said(customer(kind, "order"), question)
    assert KNOWN_AS in answer
    assert INVOICE_TO not in answer


@pytest.mark.parametrize(
    "question",
    [
        "Could you please provide your order number and the new delivery address?",
        "Please provide your order number and the new address.",
        "Could you give me the following?\n1. Order number\n2. New address",
        "I need the following details:\n- order number\n- new address",
    ],
)
def test_asked_for_two_things_at_once_the_customer_tells_both(question):
    answer = said(customer(Kind.ADDRESS, "order", "address"), question)
    assert answer == f"The order number is {NUMBER}. The new address is {STREET}."


@pytest.mark.parametrize(
    "question",
    [
        "Shall I go ahead and cancel?",
        "Do you confirm that you want to cancel the order? (yes/no)",
        "Please confirm that you want me to proceed.",
        f"I found order {NUMBER}. Would you like me to cancel order number {NUMBER}?",
        "Are you sure?",
    ],
)
def test_asked_to_confirm_the_customer_says_yes(question):
    assert said(customer(), question) == "Yes, please."


def test_asked_to_confirm_an_address_that_the_agent_names_the_customer_says_yes():
    assert said(customer(Kind.ADDRESS), f"Should I change the address to {STREET} instead?") == "Yes, please."
    offer = "The order is locked and cannot be changed. Shall I unlock it and try again?"
    assert said(customer(Kind.ADDRESS), offer) == "Yes, please."


@pytest.mark.parametrize(
    "message",
    [
        "Let me check that for you.",
        "One moment please while I look this up.",
        "I will cancel it now.",
        "I'm looking up your order now...",
        "The first is done. I'll now handle the second request.",
    ],
)
def test_told_to_wait_the_customer_waits(message):
    assert said(customer(), message) == "Sure, go ahead."


@pytest.mark.parametrize(
    "message",
    [
        "Your order has been cancelled.",
        "Your order has been cancelled. Is there anything else I can help you with?",
        "Order W4821 is cancelled. Let me know if you need anything else!",
        "Your order is cancelled. If there is anything else, let me know. Will that be all?",
        "Sorry, order W4821 has already shipped, so it cannot be cancelled.",
        "I'm sorry, your order has already shipped. Would you like me to arrange a return instead?",
        "",
    ],
)
def test_told_the_outcome_the_customer_leaves_and_takes_up_no_other_offer(message):
    assert said(customer(), message) is None


def test_the_customer_leaves_an_agent_that_gets_nowhere():
    who = customer()
    answers = [said(who, "Let me check that for you.") for _ in range(6)]
    assert answers == ["Sure, go ahead."] * 4 + [None, None]


def test_asked_what_it_does_not_know_the_customer_says_so():
    for question in ("What went wrong?", "Which address is on the order?", "Please tell me your birthday."):
        assert said(customer(), question).startswith("I have told you all I know"), question


def test_a_customer_with_two_requests_does_not_answer_for_one_of_them():
    other = Request(kind=Kind.CANCEL, order_id="W7000")
    answer = said(customer(Kind.TRACK, more=(other,)), "Could you please provide your order number?")
    assert answer.startswith("I have told you all I know")


def test_answers_vary_between_customers_and_repeat_for_the_same_one():
    def answers(seed: int) -> list[str]:
        request = Request(kind=Kind.CANCEL, order_id=NUMBER)
        who = Customer(Scenario(customer=KNOWN_AS, requests=(request,), omitted=("order",), state=STATE, phrasing=seed))
        return [said(who, "What is your order number?") for _ in range(5)]

    assert answers(3) == answers(3)
    assert len({answers(seed)[0] for seed in range(20)}) > 2
