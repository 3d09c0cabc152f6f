"""The simulated customer: scripted, answers what it is asked, ends when it is told the outcome."""

from __future__ import annotations

import random
import re

from trace_agents.types import UserTurn

from mcp_servers.helpdesk.scenario import Scenario
from mcp_servers.helpdesk.wording import answer

_PROMISE = re.compile(r"\b(i'll|i will|let me|one moment|i am going to|i'm going to|hold on|please wait)\b")
_CONFIRM = re.compile(r"\b(confirm|proceed|go ahead|would you like|shall i|should i|is that (right|correct|ok|okay)|are you sure|do you want)\b")
_MORE = re.compile(r"\b(anything else|any other|something else)\b")
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
        if "?" in text and not _MORE.search(text):
            return self._answer(text)
        return self._patiently("Sure, go ahead.") if _PROMISE.search(text) else UserTurn()

    def _answer(self, text: str) -> UserTurn:
        request = self._scenario.requests[0]
        questions = text[: text.rindex("?")]
        if re.search(r"\b(new|delivery|which|what|where|ship)\b.*\baddress\b|\baddress\b", questions) and "email" not in questions:
            if request.address:
                return UserTurn(content=answer("address", request.address, self._rng))
        elif re.search(r"\border\b.*\b(number|id)\b|\bwhich order\b|\bwhat order\b", questions) and len(self._scenario.requests) == 1:
            return UserTurn(content=answer("order", request.order_id, self._rng))
        elif "email" in questions or "e-mail" in questions:
            return UserTurn(content=answer("email", request.email or self._scenario.customer, self._rng))
        if _CONFIRM.search(text):
            return self._patiently("Yes, please.")
        return self._patiently("I have told you all I know. Please do what you can.")

    def _patiently(self, content: str) -> UserTurn:
        self._idle += 1
        return UserTurn() if self._idle > _PATIENCE else UserTurn(content=content)
