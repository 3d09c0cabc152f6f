"""Where a training run stands, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from trace_agents.artifacts import MetricRow
from trace_agents.types import Record

Stop = Literal["iterations", "plateau", "solved"]
"""Why training ended: all iterations done, no better validation for `patience`, or every validation task solved."""


class Validation(Record):
    """How an adapter does on the held-out tasks."""

    iteration: int
    """Iterations trained before; 0 for the untrained adapter, which is the base."""
    success: float
    """Success rate over the rollouts that infrastructure did not fail."""
    reward: float
    """Mean reward over the same."""

    @property
    def rank(self) -> tuple[float, float]:
        """What checkpoints are compared by."""
        return (self.success, self.reward)


@dataclass
class RunState:
    """What a checkpoint holds of a run, besides adapter, optimiser and randomness."""

    iteration: int = 0
    """Iterations done."""
    validations: list[dict[str, Any]] = field(default_factory=list)
    """`Validation`s in order, as plain values."""
    stale: int = 0
    """Validations in a row that were not the best."""
    rollouts: int = 0
    """Training rollouts sampled."""
    validation_rollouts: int = 0
    failures: int = 0
    """Rollouts of either kind that infrastructure failed."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """`MetricRow`s in order, as plain values."""
    best: dict[str, Tensor] | None = None
    """The adapter's weights at the best validation."""
    best_at: int = 0
    """Index of the best validation."""
    stop: Stop | None = None
    """None while training goes on."""

    @property
    def best_adapter(self) -> dict[str, Tensor]:
        """The adapter's weights at the best validation; there was one."""
        assert self.best is not None, "asked for the best adapter before the first validation"
        return self.best

    def validated(self, found: Validation, adapter: dict[str, Tensor]) -> bool:
        """Take note of a validation; whether it is the best so far."""
        is_best = not self.validations or found.rank > Validation(**self.validations[self.best_at]).rank
        self.validations.append(found.model_dump())
        if is_best:
            self.best, self.best_at = adapter, len(self.validations) - 1
        self.stale = 0 if is_best else self.stale + 1
        return is_best

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors."""
        return dict(vars(self))


@dataclass(frozen=True)
class TrainResult:
    """What a training run came to."""

    adapter: Path
    """PEFT folder of the best checkpoint."""
    initial: Validation
    """Of the untrained adapter, which is the base."""
    best: Validation
    """Of the adapter that was kept."""
    iterations: int
    """Iterations run."""
    stop: Stop
    rollouts: int
    """Training rollouts sampled."""
    validation_rollouts: int
    failures: int
    """Rollouts of either kind that infrastructure failed, left out of groups and rates."""
    validations: tuple[Validation, ...]
    rows: tuple[MetricRow, ...]
    """One an iteration."""

    @classmethod
    def of(cls, adapter: Path, state: RunState) -> TrainResult:
        """The result of a run that ended in `state`."""
        validations = tuple(Validation(**values) for values in state.validations)
        assert state.stop is not None
        return cls(
            adapter=adapter,
            initial=validations[0],
            best=validations[state.best_at],
            iterations=state.iteration,
            stop=state.stop,
            rollouts=state.rollouts,
            validation_rollouts=state.validation_rollouts,
            failures=state.failures,
            validations=validations,
            rows=tuple(MetricRow(**values) for values in state.rows),
        )
