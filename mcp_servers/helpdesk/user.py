"""The simulated customer: scripted, answers what it is asked, ends when it is told the outcome."""

from __future__ import annotations

import random
import re

from mcp_servers.helpdesk.scenario import Kind, Scenario
from mcp_servers.helpdesk.wording import answer
from trace_agents.types import UserTurn

_SENTENCE = re.compile(r"[^.?!\n]*[.?!\n]?")
_ASKS = re.compile(
    r"\?|\b(please|kindly) (provide|share|give|tell|specify|send|enter|include|state|confirm|reply)\b"
    r"|\b(provide|share|give|tell|send) (me|us)\b|\bneed (your|the|to know)\b"
    r"|\blet me know (your|the|which|what|where)\b|\bfollowing\b"
)
"""A sentence that asks for something, with a question mark or without."""
_ORDER = re.compile(
    r"\border('s)? ?(number|id|no\b|#)|\b(number|id) (of|for) (the|your|this) order\b|\b(which|what) order\b"
)
_EMAIL = re.compile(r"\be-?mail")
_ADDRESS = re.compile(r"(?<!mail )\baddress\b")
_WHERE = re.compile(r"\bwhere\b.*\b(send|sent|deliver\w*|ship\w*|go|receive)\b")
_ON_FILE = re.compile(
    r"\b(on file|account|registered|look (it|you|that|this|your order) up|find (it|you|your|the order))\b"
)
_PROMISE = re.compile(
    r"\b(i'll|i will|let me(?! know)|one moment|a moment|i am going to|i'm going to|hold on|please wait|bear with me"
    r"|i(?:'m| am) (?:now )?(?:checking|looking|processing|working))\b"
)
_CONFIRM = re.compile(
    r"\b(confirm|proceed|go ahead|would you like|shall i|should i|is that (right|correct|ok|okay)|are you sure"
    r"|do you want)\b"
)
_REFUSED = re.compile(r"\b(cannot|can't|unable|no longer|already|not (possible|able|eligible|allowed))\b")
_OTHERWISE = re.compile(r"\b(instead|alternatively|return)\b")
_MORE = re.compile(r"\b(anything else|any other|something else|will that be all|is that all)\b")
_LABELS = {"order": "order number", "address": "new address", "email": "email address"}
_PATIENCE = 4
"""Turns without progress after which the customer leaves."""


class Customer:
    """One customer in one episode."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._rng = random.Random(scenario.phrasing + 1)
        self._idle = 0

    def reply(self, message: str) -> UserTurn:
        """The answer to the agent's `message`; an outcome, or a question with no answer left, ends the talk."""
        text = message.lower().replace("\u2019", "'")
        if details := self._details(text):
            return UserTurn(content=self._told(details))
        asks = "?" in text and not _MORE.search(text)
        if _CONFIRM.search(text) and (asks or "please confirm" in text):
            refused = _REFUSED.search(text) and _OTHERWISE.search(text)
            return UserTurn() if refused else self._patiently("Yes, please.")  # No other thing than what was asked for.
        if asks or _ASKS.search(text.replace("?", "")):
            return self._patiently("I have told you all I know. Please do what you can.")
        return self._patiently("Sure, go ahead.") if _PROMISE.search(text) else UserTurn()

    def _details(self, text: str) -> dict[str, str]:
        """What the agent asks for and the customer knows; what the agent says itself it does not ask for."""
        whole = "following" in text  # A list of what is wanted: its lines are no sentences.
        asked = text if whole else " ".join(one for one in _SENTENCE.findall(text) if _ASKS.search(one))
        request, wants = self._scenario.requests[0], {}
        where = _ADDRESS.search(asked) or _WHERE.search(asked)
        if _ORDER.search(asked) and len(self._scenario.requests) == 1:
            wants["order"] = request.order_id
        if where and request.kind is Kind.ADDRESS:
            wants["address"] = request.address
        if _EMAIL.search(asked) or (where and request.kind is Kind.INVOICE):
            wants["email"] = self._email(asked)
        return {kind: value for kind, value in wants.items() if value and value.lower() not in text}

    def _told(self, details: dict[str, str]) -> str:
        if len(details) == 1:
            return "".join(answer(kind, value, self._rng) for kind, value in details.items())
        return " ".join(f"The {_LABELS[kind]} is {value}." for kind, value in details.items())

    def _email(self, asked: str) -> str:
        """Where an invoice goes, if that was left out; else the address that the customer is known by."""
        left_out = "email" in self._scenario.omitted and not _ON_FILE.search(asked)
        return self._scenario.requests[0].email if left_out else self._scenario.customer

    def _patiently(self, content: str) -> UserTurn:
        self._idle += 1
        return UserTurn() if self._idle > _PATIENCE else UserTurn(content=content)
