"""Answers of RapidAPI's in a file, so that scenarios that need it can be played again without a key."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trace_agents.errors import UsageError
from trace_agents.files import write_atomically
from trace_agents.types import Record


class Fact(Record):
    """One request, and what RapidAPI answered."""

    url: str
    """URL without its query."""
    params: dict[str, Any]
    """The query's parameters, as upstream's tool gives them."""
    response: Any
    """The answer's JSON."""


class FactsFile(Record):
    """A file of facts."""

    version: int = 1
    """Version of this file's shape."""
    facts: tuple[Fact, ...] = ()


def read_facts(path: Path | None, may_be_new: bool) -> tuple[Fact, ...]:
    """The facts of a file; none without a file, or with a new one.

    Raises:
        UsageError: there is no such file and it may not be new, or it is damaged.
    """
    if path is None or (may_be_new and not path.exists()):
        return ()
    try:
        return FactsFile.model_validate_json(path.read_bytes()).facts
    except OSError as error:
        remedy = "name a file of facts, or set RAPID_API_KEY to have it recorded"
        raise UsageError(f"file of facts {str(path)!r} cannot be read ({error.strerror}): {remedy}") from error
    except ValidationError as error:
        wanted = '{"version": 1, "facts": [{"url": ..., "params": {...}, "response": ...}]}'
        problem = f"file of facts {str(path)!r} is damaged ({error.error_count()} faults)"
        raise UsageError(f"{problem}: its shape is {wanted}") from error


class FactBook:
    """The facts of one environment; what is learned is written down."""

    def __init__(self, facts: Sequence[Fact] | None, path: Path | None) -> None:
        self._facts = None if facts is None else list(facts)
        self._path = path

    @property
    def known(self) -> list[dict[str, Any]] | None:
        """The facts as the worker takes them; None where RapidAPI cannot be answered for."""
        return None if self._facts is None else [fact.model_dump(mode="json") for fact in self._facts]

    def learn(self, learned: Sequence[dict[str, Any]]) -> None:
        """Add facts, and write all of them where there is a file."""
        if not learned or self._facts is None:
            return
        self._facts += [Fact.model_validate(fact) for fact in learned]
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path, FactsFile(facts=tuple(self._facts)).model_dump_json(indent=2) + "\n")
