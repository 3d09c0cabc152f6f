"""Statements about which calls are made, in which order, and what follows an error."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from trace_agents.analysis.grammar import NOT_APPLICABLE, Fact, Finding, Statement, verdict
from trace_agents.analysis.values import mentions
from trace_agents.analysis.views import CallView, View, linked

Occasion = tuple[int, CallView, CallView | None]
"""When facts decide a guard: (deciding message, result that they are read of, call that they are read about)."""


class Use(Statement):
    """Calls one of the tools, successfully."""

    kind: Literal["use"] = "use"
    tools: tuple[str, ...]

    def judge(self, view: View) -> Finding:
        """LACKING at the agent's last message where no call worked."""
        done = [call.at for tool in self.tools for call in view.by_tool.get(tool, ()) if call.ok]
        return verdict(bool(done), min(done, default=view.last))


class Refrain(Statement):
    """Does not do `tool` to what is known to satisfy all `facts` (a guard before a write)."""

    kind: Literal["refrain"] = "refrain"
    tool: str
    facts: tuple[Fact, ...] = ()
    """Facts of one result, seen before the call; none: never calls the tool."""
    asked: tuple[str, ...] = ()
    """Terms of the user's words that ask for the tool; empty where none are known."""

    def judge(self, view: View) -> Finding:
        """LACKING at the first forbidden call that worked; NA where the facts were never seen, or nobody asked."""
        if not self.facts:
            calls = [call for call in view.by_tool.get(self.tool, ()) if call.ok]
            return verdict(not calls, calls[0].at if calls else view.last)
        for occasions, present in zip(self.occasions(view), (False, True), strict=True):
            for at, source, about in occasions:
                if all(fact.holds(source, about) for fact in self.facts):
                    return verdict(present, at)
        return NOT_APPLICABLE

    def occasions(self, view: View) -> tuple[list[Occasion], list[Occasion]]:
        """When the facts forbid a call, and when they were seen at all: (deciding message, result, about which call).

        A call is judged by the latest linked result before it.
        """
        sources = [call for call in view.by_tool.get(self.facts[0].tool, ()) if call.ok]
        calls: list[Occasion] = []
        for call in view.by_tool.get(self.tool, ()) if sources else ():
            before = [source for source in sources if source.at < call.at and linked(call, source)] if call.ok else []
            if before:
                calls.append((call.at, before[-1], call))
        asked = not self.asked or not view.user_terms.isdisjoint(self.asked)
        return calls, [(source.result_at, source, None) for source in sources] if asked else []


class Before(Statement):
    """Calls `first` before `then`; linked: about the same thing."""

    kind: Literal["before"] = "before"
    first: str
    then: str
    linked: bool = False

    def judge(self, view: View) -> Finding:
        """LACKING at the first call of `then` without an earlier `first`; NA where `then` is never called."""
        later = view.by_tool.get(self.then, ())
        for call in later:
            earlier = [one for one in view.by_tool.get(self.first, ()) if one.at < call.at and one.ok]
            if not any(not self.linked or linked(call, one) for one in earlier):
                return verdict(False, call.at)
        return verdict(True, later[0].at) if later else NOT_APPLICABLE


class Confirm(Statement):
    """Tells the user what `tool` is about to do, and hears back, before calling it."""

    kind: Literal["confirm"] = "confirm"
    tool: str

    def judge(self, view: View) -> Finding:
        """LACKING at the first call whose values no earlier, answered agent message names."""
        calls = view.by_tool.get(self.tool, ())
        for call in calls:
            answered = max((at for at, _ in view.user if at < call.at), default=-1)
            said = [text for at, text in view.agent_padded if at < answered]
            values = [leaf.value for leaf in call.arguments if len(leaf.value) > 2]
            if not any(mentions(text, value) for text in said for value in values):
                return verdict(False, call.at)
        return verdict(True, calls[0].at) if calls else NOT_APPLICABLE


class Recover(Statement):
    """After an error of a tool, gets the same tool to work."""

    kind: Literal["recover"] = "recover"
    tool: str
    error: str
    """Error signature."""
    remedy: str | None = None
    """Tool that must have worked between the error and the success; None: any way will do."""

    def judge(self, view: View) -> Finding:
        """LACKING at the agent's last message where no later call worked; NA without such an error."""
        calls = view.by_tool.get(self.tool, ())
        failed = next((call for call in calls if call.error == self.error), None)
        if failed is None:
            return NOT_APPLICABLE
        for later in calls:
            if later.at > failed.at and later.ok and linked(later, failed):
                helped = [
                    one for one in view.by_tool.get(self.remedy or "", ()) if failed.at < one.at < later.at and one.ok
                ]
                if self.remedy is None or helped:
                    return verdict(True, later.at)
        return verdict(False, view.last)


class Avoid(Statement):
    """Calls a tool without running into an error."""

    kind: Literal["avoid"] = "avoid"
    tool: str
    error: str

    def judge(self, view: View) -> Finding:
        """LACKING at the first call with this error."""
        calls = view.by_tool.get(self.tool, ())
        failed = next((call.at for call in calls if call.error == self.error), None)
        return NOT_APPLICABLE if not calls else verdict(failed is None, calls[0].at if failed is None else failed)


class NoRepeat(Statement):
    """Does not make the same call again right after it gave the same answer."""

    kind: Literal["no-repeat"] = "no-repeat"

    def judge(self, view: View) -> Finding:
        """LACKING at the first repetition with the same result and no other call between."""
        for one, two in pairwise(view.calls):
            if (one.tool, one.arguments, one.content) == (two.tool, two.arguments, two.content):
                return verdict(False, two.at)
        return verdict(True, view.last) if view.calls else NOT_APPLICABLE
