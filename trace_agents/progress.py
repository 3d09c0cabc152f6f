"""The progress seam: what long work says about itself, and a listener that says nothing.

Rooms below the command line take a `Progress` and never print. The command line's listener draws bars.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, runtime_checkable


@runtime_checkable
class Stage(Protocol):
    """One stage of a run under way."""

    def advance(self, amount: int = 1) -> None:
        """`amount` more units are done."""

    def note(self, text: str) -> None:
        """A short phrase on what is happening now (`reward 0.61`), replacing the one before."""

    def total(self, amount: int) -> None:
        """The stage turns out to have `amount` units."""


@runtime_checkable
class Progress(Protocol):
    """Listens to a run."""

    def stage(self, name: str, total: int | None = None) -> AbstractContextManager[Stage]:
        """A context that is the stage `name`, of `total` units (None: unknown); leaving it ends the stage."""

    def note(self, text: str) -> None:
        """A line worth keeping on the screen (`resuming: rollouts are done`)."""


class _SilentStage:
    def advance(self, amount: int = 1) -> None: ...

    def note(self, text: str) -> None: ...

    def total(self, amount: int) -> None: ...


class SilentProgress:
    """Listens and says nothing: the default of every function that takes a `Progress`."""

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Stage]:
        """A stage that nobody watches."""
        yield _SilentStage()

    def note(self, text: str) -> None:
        """Nothing."""
