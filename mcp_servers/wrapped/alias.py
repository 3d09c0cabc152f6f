"""The path of the episode's folder by a name that is the same in every episode."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from trace_agents.types import ToolResult, ToolSpec

Value = TypeVar("Value")


class Alias(NamedTuple):
    """Agents read and write `name` for `folder`; nothing is changed where the name is empty."""

    name: str
    folder: Path

    def inward(self, value: Value) -> Value:
        """A JSON value as the server is to read it."""
        return _replaced(value, self.name, str(self.folder)) if self.name else value

    def outward(self, value: Value) -> Value:
        """A JSON value as the agent is to read it."""
        return _replaced(value, str(self.folder), self.name) if self.name else value

    def result(self, result: ToolResult) -> ToolResult:
        """A result as the agent is to read it."""
        if not self.name:
            return result
        told = {"content": self.outward(result.content), "structured": self.outward(result.structured)}
        return result.model_copy(update=told)

    def spec(self, spec: ToolSpec) -> ToolSpec:
        """A tool as the agent is to read it: its description may name the folder."""
        return spec.model_copy(update={"description": self.outward(spec.description)}) if self.name else spec


def _replaced(value: Any, old: str, new: str) -> Any:
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, Mapping):
        return {key: _replaced(one, old, new) for key, one in value.items()}
    return [_replaced(one, old, new) for one in value] if isinstance(value, list) else value
