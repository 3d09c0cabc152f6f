"""Statements about where the values of arguments come from."""

from __future__ import annotations

from typing import Literal

from trace_agents.analysis.grammar import NOT_APPLICABLE, Finding, Statement, verdict
from trace_agents.analysis.values import mentions
from trace_agents.analysis.views import CallView, View, field_values, linked


class Source(Statement):
    """Argument `argument` of `tool` is the value of `field` in the latest linked result of `origin`."""

    kind: Literal["source"] = "source"
    tool: str
    argument: str
    origin: str
    field: str

    def judge(self, view: View) -> Finding:
        """LACKING at the first call with another value; NA where the field was not known before."""
        known = None
        for call in view.by_tool.get(self.tool, ()):
            given = call.values.get(self.argument)
            earlier = [
                one for one in view.by_tool.get(self.origin, ()) if one.at < call.at and self.field in one.fields
            ]
            about = [one for one in earlier if linked(call, one)]
            if not given or not about:
                continue
            if not set(given) <= set(field_values(about[-1], self.field, call)):
                return verdict(False, call.at)
            known = call.at if known is None else known
        return NOT_APPLICABLE if known is None else verdict(True, known)


class Grounded(Statement):
    """Every value of the argument was said by the user or returned by a tool before (not invented)."""

    kind: Literal["grounded"] = "grounded"
    tool: str
    argument: str

    def judge(self, view: View) -> Finding:
        """LACKING at the first call with a value from nowhere."""
        first = None
        for call in view.by_tool.get(self.tool, ()):
            if given := call.values.get(self.argument):
                known = view.known(call.at) + view.system_padded
                if not all(mentions(known, value) for value in given):
                    return verdict(False, call.at)
                first = call.at if first is None else first
        return NOT_APPLICABLE if first is None else verdict(True, first)


class Match(Statement):
    """The argument picks, among the records that `origin` listed, one that best fits the user's words."""

    kind: Literal["match"] = "match"
    tool: str
    argument: str
    origin: str
    key: str
    """Path of the field whose value the argument takes."""
    name: str
    """Path of the field that the user's words fit."""

    def judge(self, view: View) -> Finding:
        """LACKING at the first call that picks a record which another one beats; NA without two to pick from."""
        first = None
        for call in view.by_tool.get(self.tool, ()):
            fits = self._fits(view, call)
            picked = {value: fits[value] for value in call.values.get(self.argument, ()) if value in fits}
            if len(fits) < 2 or not picked or max(fits.values()) == 0:
                continue
            if min(picked.values()) < sorted(fits.values())[-len(picked)]:
                return verdict(False, call.at)
            first = call.at if first is None else first
        return NOT_APPLICABLE if first is None else verdict(True, first)

    def _fits(self, view: View, call: CallView) -> dict[str, float]:
        """Key value of each listed record → share of its name's words that the user said."""
        sources = [one for one in view.by_tool.get(self.origin, ()) if one.at < call.at and self.key in one.fields]
        sources = [one for one in sources if set(call.values.get(self.argument, ())) & set(one.fields[self.key])]
        if not sources:
            return {}
        keys = {leaf.record: leaf.value for leaf in sources[-1].result if leaf.path == self.key}
        fits: dict[str, float] = {}
        for leaf in sources[-1].result:
            if leaf.path == self.name and leaf.record in keys:
                said = leaf.value.split()
                fits[keys[leaf.record]] = sum(mentions(view.user_padded, word) for word in said) / len(said)
        return fits
