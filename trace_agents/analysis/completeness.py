"""Statements about what must not be left out: requests, records, facts to tell, the last word."""

from __future__ import annotations

from typing import Literal

from trace_agents.analysis.grammar import NOT_APPLICABLE, Finding, Statement, verdict
from trace_agents.analysis.values import mentions, named_identifiers
from trace_agents.analysis.views import View


class Cover(Statement):
    """Every identifier of a family that the user named is used in some call (completeness)."""

    kind: Literal["cover"] = "cover"
    family: str
    """Argument name that the identifiers are given under, such as `order_id`."""
    pattern: str
    """Regular expression of the family."""
    least: int = 1
    """NA where the user named fewer."""
    others: tuple[tuple[str, str], ...] = ()
    """Argument name and pattern of further families that count with it."""

    def judge(self, view: View) -> Finding:
        """LACKING at the agent's last message where a named identifier was never used."""
        patterns = (self.pattern, *(pattern for _, pattern in self.others))
        named = {value for pattern in patterns for value in view.named(pattern)}
        if len(named) < self.least:
            return NOT_APPLICABLE
        used = {leaf.value for call in view.calls for leaf in call.arguments}
        return verdict(used.issuperset(named), view.last)


class Sweep(Statement):
    """Looks up every record of a listing, and not only some."""

    kind: Literal["sweep"] = "sweep"
    tool: str
    argument: str
    origin: str
    """Tool whose result lists the records."""
    field: str
    """Path of their identifiers in it."""

    def judge(self, view: View) -> Finding:
        """LACKING at the agent's last message where some were looked up, not all; NA without two listed."""
        listed = {value for call in view.by_tool.get(self.origin, ()) for value in call.fields.get(self.field, ())}
        given = {value for call in view.by_tool.get(self.tool, ()) for value in call.values.get(self.argument, ())}
        if len(listed) < 2 or not listed & given:
            return NOT_APPLICABLE
        return verdict(listed <= given, view.last)


class Obtain(Statement):
    """Gets an identifier that the user does not give from a tool that lists it, instead of insisting on it."""

    kind: Literal["obtain"] = "obtain"
    family: str
    pattern: str
    origin: str
    """Tool whose result holds identifiers of the family."""
    field: str

    def judge(self, view: View) -> Finding:
        """NA where the user named one first; LACKING at the agent's last message where none was ever found."""
        named = next((at for at, text in view.user if named_identifiers(self.pattern, text)), None)
        found = next(
            (call.result_at for call in view.by_tool.get(self.origin, ()) if call.fields.get(self.field)), None
        )
        if named is not None and (found is None or named < found):
            return NOT_APPLICABLE
        return verdict(found is not None, view.last if found is None else found)


class Fulfil(Statement):
    """Calls the tool for each thing the user asked for, where the words ask for several."""

    kind: Literal["fulfil"] = "fulfil"
    requests: tuple[tuple[str, tuple[str, ...]], ...]
    """(tool, terms that ask for it)."""
    least: int = 2
    """NA where the words ask for fewer tools."""

    def judge(self, view: View) -> Finding:
        """LACKING at the agent's last message where a tool that was asked for was never called."""
        asked = [tool for tool, said in self.requests if not view.user_terms.isdisjoint(said)]
        if len(asked) < self.least:
            return NOT_APPLICABLE
        return verdict(all(tool in view.by_tool for tool in asked), view.last)


class Report(Statement):
    """Tells the user the value of a result field."""

    kind: Literal["report"] = "report"
    tool: str
    field: str

    def judge(self, view: View) -> Finding:
        """LACKING at the agent's last message where no later words mention a value; NA where no call returned one."""
        sources = [call for call in view.by_tool.get(self.tool, ()) if 0 < len(call.fields.get(self.field, ())) <= 3]
        if not sources:
            return NOT_APPLICABLE
        for call in sources:
            values = call.fields[self.field]
            for at, text in view.agent_padded:
                if at > call.at and all(mentions(text, value) for value in values):
                    return verdict(True, at)
        return verdict(False, view.last)


class Conclude(Statement):
    """Brings the conversation to an end with words to the user, within the limits."""

    kind: Literal["conclude"] = "conclude"

    def judge(self, view: View) -> Finding:
        """LACKING where the agent's last message says nothing, or a limit of turns or tokens ended the episode."""
        limited = view.trajectory.stop in ("max_turns", "max_tokens")
        spoke = bool(view.agent) and view.agent[-1][0] == view.last
        return verdict(spoke and not limited, view.last)
