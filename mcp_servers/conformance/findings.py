"""What the conformance kit found: a finding for each check, and the report of all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from pydantic import Field

from trace_agents.types import Record

SHOWN = 400
"""Characters of a value that a finding shows."""


class Status(StrEnum):
    """How a check ended."""

    PASSED = "passed"  # The environment does what the check expects.
    FAILED = "failed"  # It does not; the finding says what it did instead.
    SKIPPED = "skipped"  # The check does not apply here, or was left out.


class Finding(Record):
    """One check of one environment."""

    check: str
    """The check's name."""
    status: Status
    expected: str
    """What a conformant environment does, in one sentence."""
    found: str = ""
    """What this one does instead, why the check was skipped, or what it could not see; else empty where it passed."""
    remedy: str = ""
    """What to change; empty where there is nothing."""
    cause: str = ""
    """The failure behind a failed check, in its own words: checks of one cause fail of one thing, such as results that
    differ from play to play. Empty where the check itself found the fault."""


class Report(Record):
    """Every check of an environment, in order."""

    environment: str
    """Its own name."""
    spec: str
    """What it was loaded by."""
    tasks: int
    """Task instances that the checks played."""
    unavailable: Mapping[str, str] = Field(default_factory=dict)
    """Task that would have been played and cannot be here -> why; others took their place."""
    findings: tuple[Finding, ...] = Field(default=())

    @property
    def failed(self) -> tuple[Finding, ...]:
        """The findings that make the environment not conformant."""
        return tuple(one for one in self.findings if one.status is Status.FAILED)

    @property
    def causes(self) -> Mapping[str, tuple[Finding, ...]]:
        """Cause -> the checks that fail of it, of causes that fail more than one."""
        found: dict[str, list[Finding]] = {}
        for one in self.failed:
            found.setdefault(one.cause, []).append(one)
        return {cause: tuple(same) for cause, same in found.items() if cause and len(same) > 1}

    @property
    def conformant(self) -> bool:
        """No check failed."""
        return not self.failed


class Remark(NamedTuple):
    """What a check that passed could not see, and what would let it."""

    found: str
    remedy: str


class Fault(Exception):
    """A check failed: what was found, and the remedy."""

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(found)
        self.found = found
        self.remedy = remedy


class Skip(Exception):
    """A check does not apply; the reason."""


def shown(value: Any) -> str:
    """`value` in short, for a finding."""
    text = value if isinstance(value, str) else json.dumps(value, default=repr, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text)} characters)"


def innermost(error: BaseException) -> BaseException:
    """The first error within a group; itself where it is none."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def described(error: BaseException) -> str:
    """The innermost error of a group, with its type."""
    error = innermost(error)
    return shown(f"{type(error).__name__}: {error}")
