"""The analyst seam: who discovers the capability dictionary and labels trajectories with it (paper §3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from pydantic import Field

from trace_agents.types import Capability, Label, Record, Trajectory


class Discovered(Record):
    """A dictionary entry with what its analyst says for it."""

    capability: Capability
    figures: dict[str, float] = Field(default_factory=dict)
    """The analyst's own measures; empty where it has none."""
    merged: tuple[str, ...] = ()
    """Titles of candidates that this one stands for."""


class RunLabels(Record):
    """Labels of one run (or of one batch of a run) over a fixed dictionary, compact."""

    run: int
    trajectory_ids: tuple[str, ...]
    labels: dict[str, str]
    """Capability name → one letter for each trajectory: `N` (NA), `P` (PRESENT), `L` (LACKING)."""
    steps: dict[str, tuple[int | None, ...]]
    """Capability name → index of the deciding message for each trajectory; None for NA."""

    def label(self, name: str) -> list[Label]:
        """Labels of one capability, in the order of `trajectory_ids`."""
        return [_LETTERS[letter] for letter in self.labels[name]]


_LETTERS = {label.value[0]: label for label in Label}


@runtime_checkable
class Analyst(Protocol):
    """Discovers once, labels N times. Implementations: statistics, a chat model, a hand-off to anything else."""

    name: str

    async def discover(self, trajectories: Sequence[Trajectory]) -> Sequence[Discovered]:
        """The canonical dictionary: fixed names and descriptions, unique names.

        Raises:
            UsageError: the trajectories cannot be analysed (one class only, too few).
        """

    def draw(self, trajectories: Sequence[Trajectory], run: int) -> Sequence[Trajectory]:
        """The trajectories that run `run` labels, in its order: what makes runs independent of each other."""

    async def label(self, trajectories: Sequence[Trajectory], dictionary: Sequence[Capability], run: int) -> RunLabels:
        """Label each trajectory for each capability of the fixed dictionary."""
