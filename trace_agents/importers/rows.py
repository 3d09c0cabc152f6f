"""What every format's reader shares: rows and what is wrong with them, outcomes, trials, tools said once."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trace_agents.errors import UsageError
from trace_agents.importers.chat import BadRow, chat_messages, need, tool_specs
from trace_agents.types import Message, Record, ToolSpec

TOLERANCE = 1e-6
"""How far below the least reward of a success a reward may lie, for floating point."""

_WORDS = {
    **dict.fromkeys(("true", "yes", "pass", "passed", "success", "succeeded", "1"), True),
    **dict.fromkeys(("false", "no", "fail", "failed", "failure", "0"), False),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One entry of a file: what it says, or what is wrong with it."""

    file: Path
    number: int
    """Line number in a file of JSON lines, position in a list; from 1."""
    value: Mapping[str, Any] | None
    problem: str | None = None
    context: Mapping[str, Any] = field(default_factory=dict)
    """What the file says once for all of its rows."""


class Outcomes(Record):
    """How success is read; the defaults leave it to each format."""

    success_column: str | None = None
    """Key of the row that holds success; dots lead into nested objects."""
    reward_column: str | None = None
    """Key of the row that holds the reward; dots lead into nested objects."""
    threshold: float | None = None
    """Least reward of a success; None: 1, where the reward decides."""

    def decide(self, row: Mapping[str, Any], reward: Any = None, success: Any = None) -> tuple[float | None, bool]:
        """(reward, success) of a row, whose format gives `reward` and `success`, either perhaps None, or text."""
        if self.reward_column is not None:
            reward = _column(row, self.reward_column, "--reward-column")
        if reward is not None or self.reward_column is not None:
            reward = number(_number_in(reward), "reward")
        if self.success_column is not None:
            return reward, _verdict(_column(row, self.success_column, "--success-column"), self.success_column)
        by_reward = self.threshold is not None or self.reward_column is not None
        if success is not None and not by_reward:
            return reward, _verdict(success, "success")
        if reward is None and success is not None:
            raise BadRow(f"no reward to hold against the threshold {self.threshold!r}: name it with --reward-column")
        if reward is None:
            raise BadRow(
                "neither 'success' nor 'reward': name the column that has it with --success-column or --reward-column"
            )
        return reward, reward >= (1.0 if self.threshold is None else self.threshold) - TOLERANCE


class Reading:
    """What a reader may need to know besides its row, over one load."""

    def __init__(self, outcomes: Outcomes) -> None:
        self.outcomes = outcomes
        self.row = Row(Path(), 0, None)
        """The row being read."""
        self._trials: Counter[str] = Counter()
        self._tools: dict[str, tuple[ToolSpec, ...]] = {}
        self._systems: dict[str | None, Message] = {}

    def trial(self, task: str, given: Any = None) -> int:
        """The trial that a row says, else how many of its task came before."""
        seen = self._trials[task]
        self._trials[task] += 1
        return seen if given is None else whole_number(given, "trial")

    def tools(self, entries: Any) -> tuple[ToolSpec, ...]:
        """Tools; the same declaration is kept once, however many rows repeat it."""
        if not entries:
            return ()
        key = json.dumps(entries)
        if key not in self._tools:
            self._tools[key] = tool_specs(entries)
        return self._tools[key]

    def chat(self, entries: Any, key: str = "messages") -> tuple[Message, ...]:
        """Messages; a system message that many rows repeat is kept once."""
        messages = chat_messages(entries, key)
        if not messages or messages[0].role != "system":
            return messages
        return (self._systems.setdefault(messages[0].content, messages[0]), *messages[1:])


def _column(row: Mapping[str, Any], name: str, option: str) -> Any:
    if name in row:
        return row[name]
    value: Any = row
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            known = ", ".join(repr(key) for key in list(value)[:12]) if isinstance(value, Mapping) else "no keys"
            raise BadRow(f"no {part!r} for {option} {name!r}: there is {known or 'nothing'}")
        value = value[part]
    return value


def _verdict(value: Any, column: str) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float) and value in (0, 1):
        return value == 1
    if isinstance(value, str) and value.strip().lower() in _WORDS:
        return _WORDS[value.strip().lower()]
    raise BadRow(f"{column!r} is {value!r}, neither true nor false")


def _number_in(value: Any) -> Any:
    """The number that a text is, as tables have it; anything else as it is."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def number(value: Any, key: str) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRow(f"the {key} {value!r} is no number")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise BadRow(f"the {key} {value!r} is no finite number")
    return found


def whole_number(value: Any, key: str) -> int:
    """An integer value of `key`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadRow(f"{key!r} is {value!r}, not a whole number")
    return value


def label(value: Any, key: str) -> str:
    """An identity: text, or a number."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadRow(f"{key!r} is {value!r}, neither text nor a number")
    return str(value)


def mapping(value: Any) -> Mapping[str, Any]:
    """`value` where it is an object, else an empty one: for what a row may lack."""
    return value if isinstance(value, Mapping) else {}


def listing(value: Any, key: str) -> Sequence[Any]:
    """A list, empty for null."""
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise BadRow(f"{key!r} is not a list")
    return value


def one_line(error: Any) -> str:
    """An error as one line of text."""
    lines = (error if isinstance(error, str) else json.dumps(error)).strip().splitlines()
    return lines[0] if lines else "unknown"


def text_of(value: Any) -> str:
    """A name that a source may leave out."""
    return str(value) if isinstance(value, str | int | float) else ""


__all__ = [
    "BadRow",
    "Outcomes",
    "Reading",
    "Row",
    "UsageError",
    "label",
    "listing",
    "mapping",
    "need",
    "number",
    "one_line",
    "text_of",
    "whole_number",
]
