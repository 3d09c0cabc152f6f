"""A bank's counter: formal, a written policy with a limit, error codes, several requests in one message."""

from __future__ import annotations

import json

from trace_agents.analysis.validation.play import Domain, Play, Request, declared

_POLICY = """You act for clients of the bank. A dormant account takes no deposit. Fees are charged to the fee account
of the client's contract. Identify the client before you close an account."""


def _deposit(play: Play, standing: str) -> Request:
    account, amount = play.number("", 8), play.scene.randint(20, 900)
    seen = {"account": {"standing": standing, "currency": play.scene.choice(("EUR", "CHF")), "holders": 1}}

    def act() -> str:
        play.call("account-inspect", {"account_no": account}, seen)
        if standing == "dormant" and play.exercises("dormant"):
            return "We regret that this account takes no deposits."
        play.call("account-deposit", {"account_no": account, "amount": amount}, {"ok": True})
        return "The deposit is booked."

    return Request(f"Kindly deposit {amount} into {account}.", act)


def _deposit_dormant(play: Play) -> Request:
    return _deposit(play, "dormant")


def _deposit_active(play: Play) -> Request:
    return _deposit(play, play.scene.choice(("active", "new")))


def _fee(play: Play) -> Request:
    contract, account = play.number("CT", 5), play.number("", 8)
    terms = {"terms": {"feeAccount": account, "rate": 12}, "signed": "2030-01-02"}

    def act() -> str:
        play.call("contract-read", {"contract": contract}, terms)
        target = account if play.exercises("fee-account") else str(play.own.randint(10**7, 10**8 - 1))
        play.call("fee-charge", {"contract": contract, "debit": target}, {"ok": True})
        return "The fee is charged."

    return Request(f"Charge the yearly fee of contract {contract}.", act)


def _close(play: Play) -> Request:
    client = play.number("CL", 6)

    def act() -> str:
        if play.exercises("identify"):
            play.call("client-identify", {"client": client}, {"ok": True, "client": client})
        play.call("client-close", {"client": client}, {"ok": True})
        return "The account is closed."

    return Request(f"Client {client} wishes to leave us.", act)


def _wire(play: Play) -> Request:
    order = play.number("W-", 5)

    def act() -> str:
        play.fail("wire-release", {"order": order}, f"order {order} needs a second signature")
        if not play.exercises("second-signature"):
            return "The order lacks a second signature."
        play.call("signature-add", {"order": order}, {"ok": True})
        play.call("wire-release", {"order": order}, {"ok": True})
        return "The order is released."

    return Request(f"Release the order {order}.", act)


def _rate(play: Play) -> Request:
    """Needs mastered skills only."""
    rate = f"1.{play.scene.randint(101, 499)}"

    def act() -> str:
        play.call("rate-query", {"pair": "EURCHF"}, {"rate": rate})
        return f"The rate stands at {rate}."

    return Request("What is today's rate?", act)


def _complaint(play: Play) -> Request:
    def act() -> str:
        play.call("complaint-log", {"text": "waiting time"}, {"ok": True})
        return "Your complaint is noted."

    return Request("I complain about the waiting time.", act)


BANK = Domain(
    name="bank",
    deficits={"dormant": 0.25, "fee-account": 0.3, "identify": 0.35, "second-signature": 0.25, "all-requests": 0.3},
    jobs={"dormant": _deposit_dormant, "deposit": _deposit_active, "fee": _fee, "close": _close, "wire": _wire}
    | {"rate": _rate, "complaint": _complaint},
    tasks=(
        *("dormant", "fee", "close", "wire", "deposit", "rate", "dormant deposit", "fee deposit", "close deposit"),
        *("wire deposit", "complaint", "dormant", "fee"),
    ),
    habit=lambda play: play.call("branch-status", {}, {"queue": 4}),
    error=lambda text: (json.dumps({"ok": False, "code": 409, "error": text}), True),
    tools=declared(
        **{
            "account-inspect": "account_no",
            "account-deposit": "account_no amount",
            "contract-read": "contract",
            "fee-charge": "contract debit",
            "client-identify": "client",
            "client-close": "client",
            "wire-release": "order",
            "signature-add": "order",
            "rate-query": "pair",
            "complaint-log": "text",
            "branch-status": "",
        }
    ),
    instructions=_POLICY,
    everything="all-requests",
    hopeless=frozenset(("complaint",)),
    filler=("rate", "deposit"),
)
