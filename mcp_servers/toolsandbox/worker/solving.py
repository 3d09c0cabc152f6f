"""Actions that reach a scenario's milestones, read off the milestones while the scenario is being played.

A milestone wants rows of a database, a tool's call, or a text for the user; some want what an earlier call returned. So
each is turned into calls as it comes, and what the calls returned is at hand for the next.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Protocol

import networkx
from frozen import now
from tool_sandbox.common.evaluation import (
    Milestone,
    SnapshotConstraint,
    column_contains_similarity,
    guardrail_similarity,
)
from tool_sandbox.common.execution_context import DatabaseNamespace, RoleType, get_current_context
from tool_sandbox.common.scenario import Scenario

FAREWELL = "That is all done."
"""Said where no milestone wants a last text."""
SETTERS = {
    "low_battery_mode": "set_low_battery_mode_status",
    "wifi": "set_wifi_status",
    "cellular": "set_cellular_service_status",
    "location_service": "set_location_service_status",
}
"""Column of the settings -> the tool that sets it."""
KEYS = {DatabaseNamespace.CONTACT: "person_id", DatabaseNamespace.REMINDER: "reminder_id"}
"""Database -> the column that names a row."""


class Session(Protocol):
    """The session that is played in."""

    def do_call(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """The agent calls a tool."""

    def do_say(self, text: str) -> bool:
        """The agent speaks to the user."""

    def do_evaluate(self, unheard: str | None) -> dict[str, Any]:
        """The verdict."""


class Solver:
    """Plays one scenario that has begun."""

    def __init__(self, session: Session, scenario: Scenario) -> None:
        self._session, self._scenario = session, scenario
        self._asked: str = self._rows(DatabaseNamespace.SANDBOX)[-1]["content"]
        self._actions: list[dict[str, Any]] = []
        self._learned: list[dict[str, Any]] = []
        self._traces: dict[int, list[dict[str, Any]]] = {}

    def solve(self) -> dict[str, Any]:
        """`actions`, calls or texts, the `similarity` that they reach, and facts that were `learned` on the way."""
        matcher = self._scenario.evaluation.milestone_matcher
        for node in networkx.lexicographical_topological_sort(matcher.milestone_dag, key=self._turn):
            self._reach(node, matcher.milestones[node])
        if not self._actions or "say" not in self._actions[-1]:
            self._say(FAREWELL)
        similarity = self._session.do_evaluate(None)["similarity"]
        return {"actions": self._actions, "similarity": similarity, "learned": self._learned}

    def _turn(self, node: int) -> tuple[bool, int]:
        """Settings first where the order is open: later milestones want all else unchanged since earlier ones."""
        wanted = _without_guardrails(self._scenario.evaluation.milestone_matcher.milestones[node])
        return all(each.database_namespace != DatabaseNamespace.SETTING for each in wanted), node

    def _reach(self, node: int, milestone: Milestone) -> None:
        wanted = _without_guardrails(milestone)
        said = [each for each in wanted if each.database_namespace == DatabaseNamespace.SANDBOX]
        for constraint in wanted:
            if constraint.database_namespace != DatabaseNamespace.SANDBOX:
                self._change(constraint)
        rows = [(each, each.target_dataframe.to_dicts()[0]) for each in said]
        calls = [(each, row) for each, row in rows if row.get("tool_trace")]
        texts = [(each, row) for each, row in rows if row.get("content") and row.get("sender") == RoleType.AGENT]
        if calls:
            self._traces[node] = self._call_one(list(self._wanted_calls(calls)))
        elif texts:
            self._say(self._text(texts))

    def _wanted_calls(
        self, calls: list[tuple[SnapshotConstraint, dict[str, Any]]]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Calls any of which will do, with what earlier calls returned filled in."""
        filled = {name: value for each, _ in calls for one in self._extracted(each)[:1] for name, value in one.items()}
        stated = json.loads(calls[0][1]["tool_trace"])
        for trace in stated if isinstance(stated, list) else [stated]:
            yield trace["tool_name"], {**trace["arguments"], **filled}

    def _extracted(self, constraint: SnapshotConstraint) -> list[dict[str, Any]]:
        """What the constraint takes from the calls of the milestone that it refers to."""
        measure = constraint.snapshot_constraint
        if not isinstance(measure, functools.partial):
            return []
        found = []
        for trace in self._traces.get(constraint.reference_milestone_node_index or 0, ()):
            try:
                found += measure.keywords["extractor"](trace)
            except (KeyError, IndexError, TypeError, ValueError):  # As upstream passes over them.
                continue
        return found

    def _call_one(self, calls: list[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
        """The trace of the first call that is no error; it stays among the actions."""
        for name, arguments in calls:
            if self._call(name, arguments or self._any_arguments(name)):
                rows = get_current_context().get_database(DatabaseNamespace.SANDBOX).to_dicts()
                return [json.loads(trace) for trace in rows[-1]["tool_trace"] or ()]
        return []

    def _any_arguments(self, tool: str) -> dict[str, Any]:
        """Arguments for a call that may be for anything, and has to be for something."""
        if tool == "search_contacts":
            return {"is_self": False}
        if tool in ("search_messages", "search_reminder"):
            return {"creation_timestamp_upperbound": now()}
        if tool == "search_location_around_lat_lon":
            around = {column: self._wanted(column) for column in ("latitude", "longitude")}
            return {"location": self._asked.rpartition(" at ")[2].rstrip("."), **around}
        if tool == "datetime_info_to_timestamp":
            moment = datetime.fromtimestamp(self._wanted("reminder_timestamp") or now(), UTC)
            return {part: getattr(moment, part) for part in ("year", "month", "day", "hour", "minute", "second")}
        return {}

    def _wanted(self, column: str) -> float | None:
        """A number that some milestone wants in a row; None where none does."""
        for milestone in self._scenario.evaluation.milestone_matcher.milestones:
            for constraint in _without_guardrails(milestone):
                for row in constraint.target_dataframe.to_dicts():
                    if row.get(column) is not None:
                        return float(row[column])
        return None

    def _text(self, texts: list[tuple[SnapshotConstraint, dict[str, Any]]]) -> str:
        """The whole text that is wanted, and parts of it that it has to contain."""
        whole, parts = "", []
        for constraint, row in texts:
            content = row["content"]
            for values in self._extracted(constraint)[:1]:
                content = content.format(**values)
            measure = (constraint.column_similarity_measure or {}).get("content")
            if measure is column_contains_similarity:
                parts.append(content)
            else:
                whole = whole or content
        return " ".join([*([whole] if whole else ()), *(part for part in parts if part not in whole)])

    def _change(self, constraint: SnapshotConstraint) -> None:
        """Make a database have the rows that are wanted."""
        rows = constraint.target_dataframe.to_dicts()
        if constraint.database_namespace == DatabaseNamespace.SETTING:
            for column, tool in SETTERS.items():
                if column in rows[0] and rows[0][column] != self._rows(DatabaseNamespace.SETTING)[0][column]:
                    self._call(tool, {"on": rows[0][column]})
            return
        how = getattr(constraint.snapshot_constraint, "__name__", "")
        for row in rows:
            for name, arguments in self._edits(how, constraint.database_namespace, row):
                self._call(name, arguments)

    def _edits(self, how: str, namespace: str, row: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        """Calls that add, update or remove one row."""
        noun = "contact" if namespace == DatabaseNamespace.CONTACT else "reminder"
        if how == "addition_similarity":
            return [_addition(noun, namespace, row)]
        key = KEYS.get(DatabaseNamespace(namespace), "")
        if how == "removal_similarity":
            same = [each for each in self._rows(namespace) if all(each[column] == row[column] for column in row)]
            return [(f"remove_{noun}", {key: each[key]}) for each in same]
        if how == "update_similarity":
            (old,) = [each for each in self._rows(namespace) if each[key] == row.get(key)] or [{}]
            news = {column: value for column, value in row.items() if old.get(column) != value}
            return [(f"modify_{noun}", {key: row[key], **news})] if old else []
        return []

    def _rows(self, namespace: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = get_current_context().get_database(DatabaseNamespace(namespace)).to_dicts()
        return rows

    def _call(self, name: str, arguments: dict[str, Any]) -> bool:
        """Whether the call, by upstream's own name, was no error."""
        name = get_current_context().get_agent_facing_tool_name(name)
        answer = self._session.do_call(name, arguments)
        self._learned += answer["learned"]
        if not answer["error"]:
            self._actions.append({"name": name, "arguments": arguments})
        return not answer["error"]

    def _say(self, text: str) -> None:
        self._session.do_say(text)
        self._actions.append({"say": text})


def _addition(noun: str, namespace: str, row: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    given = {column: value for column, value in row.items() if value is not None}
    if namespace == DatabaseNamespace.MESSAGING:
        phone = given["recipient_phone_number"]
        return "send_message_with_phone_number", {"phone_number": phone, "content": given["content"]}
    return f"add_{noun}", given


def _without_guardrails(milestone: Milestone) -> list[SnapshotConstraint]:
    return [each for each in milestone.snapshot_constraints if each.snapshot_constraint is not guardrail_similarity]
