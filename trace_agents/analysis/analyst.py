"""The analyst seam: who discovers the capability dictionary and labels trajectories with it (paper §3.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pydantic import Field

from trace_agents.errors import UsageError
from trace_agents.types import Capability, Label, Record, Trajectory


class Discovered(Record):
    """A dictionary entry with what its analyst says for it."""

    capability: Capability
    figures: dict[str, float] = Field(default_factory=dict)
    """The analyst's own measures; empty where it has none."""
    merged: tuple[str, ...] = ()
    """Titles of candidates that this one stands for."""
    examples: tuple[str, ...] = ()
    """Ids of trajectories that lack it, as its discoverer says; empty where it names none."""


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


class TooFewOutcomes(UsageError):
    """There are too few trajectories of an outcome to contrast."""


def check_outcomes(trajectories: Sequence[Trajectory], least: int) -> None:
    """Refuse what cannot be contrasted.

    Raises:
        TooFewOutcomes: fewer than `least` trajectories failed, or fewer succeeded.
    """
    failed = sum(not one.success for one in trajectories)
    for kind, number in (("failed", failed), ("successful", len(trajectories) - failed)):
        if number < least:
            raise TooFewOutcomes(
                f"{number} {kind} trajectories of {len(trajectories)} are too few to contrast: give {least} or more of "
                "each outcome (more tasks, more trials, or another agent)"
            )


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


@runtime_checkable
class BatchedAnalyst(Analyst, Protocol):
    """An analyst that takes in a part of the trajectories at a time, and whose answers are worth keeping.

    Discovery is then a map over its batches and a `merge` of what they gave; labelling a request for each run × batch.
    """

    @property
    def settings(self) -> dict[str, Any]:
        """What its answers depend on besides the trajectories, as JSON: other settings are another analysis."""

    @property
    def courier(self) -> Courier | None:
        """Who brings the answers that the graph waits for; None where every answer is given at once."""

    def begin(self, trajectories: Sequence[Trajectory], analysis: str, checkpoint: Path | None) -> None:
        """Called before anything is asked.

        Args:
            trajectories: all that will be analysed.
            analysis: names these trajectories with these settings.
            checkpoint: SQLite file of the graph, beside which answers are kept; None keeps nothing.
        """

    def discovery_batches(self, trajectories: Sequence[Trajectory]) -> Sequence[Sequence[int]]:
        """Indices of the trajectories of each discovery batch.

        Raises:
            UsageError: a trajectory that does not fit the context even alone.
        """

    async def merge(self, parts: Sequence[Sequence[Discovered]]) -> Sequence[Discovered]:
        """One canonical dictionary from what `discover` found in each batch; unique names."""

    def label_batches(
        self, drawn: Sequence[Trajectory], dictionary: Sequence[Capability], most: int | None
    ) -> Sequence[int]:
        """Sizes of the batches, in order, into which a run's draw is cut; `most` bounds them where it is given.

        Raises:
            UsageError: a trajectory that does not fit the context even alone.
        """


@runtime_checkable
class Courier(Protocol):
    """Carries requests to whoever answers them, and answers back."""

    async def collect(self, requests: Sequence[str]) -> Mapping[str, Any]:
        """Answers to some of the open requests by id, checked; may be empty where it was not told to wait."""
