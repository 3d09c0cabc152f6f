"""A trajectory read for analysis: its calls with flattened arguments and results, and who said what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from trace_agents.analysis.values import (
    Leaf,
    error_signature,
    is_telling,
    leaves,
    named_identifiers,
    padded,
    parse,
    terms,
)
from trace_agents.types import Message, Trajectory


@dataclass(frozen=True, eq=False)
class CallView:
    """One tool call with its result."""

    at: int
    """Index in the trajectory of the assistant message that makes the call."""
    tool: str
    arguments: tuple[Leaf, ...]
    content: str | None
    """The result as the agent read it; None where the trajectory holds no result."""
    error: str | None
    """Error signature; None for a call that worked."""
    result_at: int
    """Index of the tool message; `at` where there is none."""

    @property
    def ok(self) -> bool:
        """The call has a result and it is no error."""
        return self.content is not None and self.error is None

    @cached_property
    def result(self) -> tuple[Leaf, ...]:
        """Leaves of a JSON result; none of an error or of plain text."""
        value = parse(self.content) if self.ok else None
        return tuple(leaves(value)) if isinstance(value, dict | list) else ()

    @cached_property
    def text(self) -> str:
        """The result as padded words."""
        return padded(self.content or "")

    @cached_property
    def values(self) -> dict[str, tuple[str, ...]]:
        """Argument path → its values."""
        return _grouped(self.arguments)

    @cached_property
    def fields(self) -> dict[str, tuple[str, ...]]:
        """Result path → its values."""
        return _grouped(self.result)

    @cached_property
    def keys(self) -> dict[str, frozenset[str]]:
        """Argument leaf name → values; what two calls share to be about the same thing."""
        found: dict[str, set[str]] = {}
        for leaf in self.arguments:
            found.setdefault(leaf_name(leaf.path), set()).add(leaf.value)
        return {name: frozenset(values) for name, values in found.items()}

    @cached_property
    def telling(self) -> frozenset[str]:
        """Argument values that can tie the call to another."""
        return frozenset(leaf.value for leaf in self.arguments if is_telling(leaf.value))

    @cached_property
    def returned(self) -> frozenset[str]:
        """Values of the result."""
        return frozenset(leaf.value for leaf in self.result)

    def records(self, about: CallView) -> frozenset[str]:
        """Records of the result that hold a value which `about` was called with."""
        if self.returned.isdisjoint(about.telling):
            return frozenset()
        return frozenset(leaf.record for leaf in self.result if leaf.record and leaf.value in about.telling)


def leaf_name(path: str) -> str:
    """The last named part of a path: `flights[].date` → `date`."""
    return path.rpartition(".")[2].rstrip("[]") or path


def _grouped(found: Iterable[Leaf]) -> dict[str, tuple[str, ...]]:
    grouped: dict[str, list[str]] = {}
    for leaf in found:
        grouped.setdefault(leaf.path, []).append(leaf.value)
    return {path: tuple(values) for path, values in grouped.items()}


@dataclass(frozen=True, eq=False)
class View:
    """One trajectory, read."""

    trajectory: Trajectory
    calls: tuple[CallView, ...]
    user: tuple[tuple[int, str], ...]
    """(message index, text) of what the user said."""
    agent: tuple[tuple[int, str], ...]
    """(message index, text) of what the agent said."""
    by_tool: dict[str, tuple[CallView, ...]] = field(default_factory=dict)

    @property
    def task(self) -> str:
        """Task id, the stratum of the statistics."""
        return self.trajectory.task_id

    @cached_property
    def last(self) -> int:
        """Index of the agent's last message: where something left undone was left."""
        roles = [message.role for message in self.trajectory.messages]
        return len(roles) - 1 - roles[::-1].index("assistant") if "assistant" in roles else max(len(roles) - 1, 0)

    @cached_property
    def user_text(self) -> str:
        """All the user's words, as written."""
        return "\n".join(text for _, text in self.user)

    @cached_property
    def user_padded(self) -> str:
        """All the user's words, as padded tokens."""
        return padded(self.user_text)

    @cached_property
    def each_padded(self) -> tuple[tuple[int, str], ...]:
        """(message index, padded tokens) of what the user said."""
        return tuple((at, padded(text)) for at, text in self.user)

    @cached_property
    def user_terms(self) -> frozenset[str]:
        """Stems and word pairs of the user's words."""
        return frozenset().union(*(terms(text) for _, text in self.user))

    def named(self, pattern: str) -> tuple[str, ...]:
        """Identifiers of a family that the user names."""
        if pattern not in self._named:
            self._named[pattern] = tuple(named_identifiers(pattern, self.user_text))
        return self._named[pattern]

    @cached_property
    def _named(self) -> dict[str, tuple[str, ...]]:
        return {}

    @cached_property
    def agent_padded(self) -> tuple[tuple[int, str], ...]:
        """(message index, padded tokens) of what the agent said."""
        return tuple((at, padded(text)) for at, text in self.agent)

    @cached_property
    def system_padded(self) -> str:
        """The instructions' words, as padded tokens."""
        return padded("\n".join(m.content or "" for m in self.trajectory.messages if m.role == "system"))

    def known(self, at: int) -> str:
        """Padded words of all that the user and the tools said before message `at`."""
        said = [padded(text) for index, text in self.user if index < at]
        return " ".join(said + [call.text for call in self.calls if call.result_at < at])


def read(trajectory: Trajectory) -> View:
    """Read a trajectory for analysis."""
    messages = trajectory.messages
    calls = tuple(_calls(messages))
    by_tool: dict[str, list[CallView]] = {}
    for call in calls:
        by_tool.setdefault(call.tool, []).append(call)
    return View(
        trajectory=trajectory,
        calls=calls,
        user=tuple((i, m.content) for i, m in enumerate(messages) if m.role == "user" and m.content),
        agent=tuple((i, m.content) for i, m in enumerate(messages) if m.role == "assistant" and m.content),
        by_tool={tool: tuple(found) for tool, found in by_tool.items()},
    )


def _calls(messages: Sequence[Message]) -> Iterable[CallView]:
    """Calls paired with their results: by id among the tool messages that follow, else by order.

    Ids may repeat within a trajectory, so a result is only looked for before the next assistant message.
    """
    for at, message in enumerate(messages):
        if not message.tool_calls:
            continue
        following = []
        for index in range(at + 1, len(messages)):
            if messages[index].role != "tool":
                break
            following.append(index)
        for position, call in enumerate(message.tool_calls):
            match = [i for i in following if call.id and messages[i].tool_call_id == call.id]
            found = match or following[position : position + 1]
            yield _call_view(at, call.name, call.arguments, found[0] if found else None, messages)


def _call_view(at: int, tool: str, arguments: Any, index: int | None, messages: Sequence[Message]) -> CallView:
    result = messages[index] if index is not None else None
    content = None if result is None else (result.content or "")
    return CallView(
        at=at,
        tool=tool,
        arguments=tuple(leaves(arguments)) if isinstance(arguments, dict) else (),
        content=content,
        error=None if result is None or content is None else error_signature(content, result.is_error),
        result_at=at if index is None else index,
    )


def linked(later: CallView, earlier: CallView) -> bool:
    """Whether two calls can be about the same thing: they agree on an argument they share, or on a value that one
    was given and the other returned. What is looked up without an argument is about everything."""
    shared = [name for name in later.keys if name in earlier.keys]
    if shared:
        return any(later.keys[name] & earlier.keys[name] for name in shared)
    given, returned = later.telling, earlier.returned
    return not earlier.arguments or not given or not returned or not given.isdisjoint(returned)


def field_values(call: CallView, path: str, about: CallView | None = None) -> tuple[str, ...]:
    """Values of a result field, narrowed to the record that `about`'s arguments single out, where they do."""
    if path not in call.fields:
        return ()
    if about is None or not ("[]" in path or "*" in path):
        return call.fields[path]
    records = call.records(about)
    if not records:
        return call.fields[path]
    narrowed = tuple(leaf.value for leaf in call.result if leaf.path == path and leaf.record in records)
    return narrowed or call.fields[path]
