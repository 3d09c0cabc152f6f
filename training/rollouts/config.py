"""How to sample trajectories."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from pydantic import Field

from trace_agents.endpoint import Sampling
from trace_agents.types import Record


class Prompting(StrEnum):
    """How the prompt of a later turn is made."""

    EXTEND = "extend"  # The earlier tokens, then the new messages: one branch, every sampled token trained in place.
    RENDER = "render"  # The whole conversation through the chat template, as chat servers do; may start branches.


class RolloutConfig(Record):
    """How to sample trajectories."""

    model: str
    """Model name that acts: the base, an adapter or a composition."""
    models: Mapping[str, str] = Field(default_factory=dict)
    """Task id → model name, for the tasks that a router sends elsewhere than to `model`."""
    router: Any = Field(default=None, exclude=True)
    """A `trace_agents.routing.Router` that picks the model once an episode has started, from the user's first message,
    for tasks that `models` does not have; None leaves those to `model`. The route is in the trace's `info`."""
    trials: int = Field(1, ge=1)
    """Rollouts of each task (K of Appendix A for groups)."""
    sampling: Sampling = Sampling()
    """`stop_token_ids` are the chat format's and `seed` is derived from `seed` below, turn by turn."""
    seed: int | None = None
    """Makes a turn's sampling seed a function of (seed, task, trial, attempt, turn); None leaves it to the endpoint."""
    max_turns: int = Field(30, ge=1)
    """Most agent turns of an episode (T of §3.1)."""
    max_context: int | None = Field(None, ge=1)
    """Most tokens of a prompt and the turn after it; an episode that needs more ends there. None sets no limit."""
    concurrency: int = Field(64, ge=1)
    """Episodes played at once."""
    retries: int = Field(2, ge=0)
    """Attempts after one that infrastructure failed, each in a fresh episode."""
    timeout: float | None = Field(None, gt=0)
    """Seconds for one attempt; more is a failure of infrastructure. None waits."""
    prompting: Prompting = Prompting.EXTEND
