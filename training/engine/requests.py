"""What the scheduler works on: requests, and the rows of the batch that they occupy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from trace_agents.endpoint import Sampling
from training.engine.cache import Entry, Tokens
from training.engine.lora import Recipe

Gate = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`gate(base_logits [B, V], member_logits [C, B, V], hidden [B, d]) -> logits [B, V]`, all float32: how a mixture
combines its members' logits at one token. `hidden` is the base's final-norm state, a copy in float32."""


@dataclass(eq=False)
class Row:
    """One sequence in the batch: a request has one, or, for a mixture, one for the base and one for each member."""

    recipe: Recipe
    kind: int
    """Number of the recipe; sequences of one kind share keys and values."""
    index: int = -1
    """Its row of the workspace."""
    length: int = 0
    """Positions whose keys and values are computed."""
    extends: Entry | None = None
    """The cached sequence that it goes on from, where it has all of it."""


@dataclass(eq=False)
class Request:
    """One call of `generate` or `score_next`."""

    prompt: Tokens
    rows: Sequence[Row]
    sampling: Sampling
    seed: int
    future: asyncio.Future
    model: str
    gate: Gate | None = None
    """For a mixture."""
    candidates: Sequence[int] | None = None
    """For `score_next`: return these tokens' log-probabilities, sample nothing."""
    tokens: list[int] = field(default_factory=list)
    """Sampled so far."""
    logprobs: list[float] = field(default_factory=list)

    @property
    def position(self) -> int:
        """Position of the token that is fed next, the last one known."""
        return len(self.prompt) + len(self.tokens) - 1

    @property
    def last(self) -> int:
        """The last known token."""
        return self.tokens[-1] if self.tokens else int(self.prompt[-1])

    def known(self, length: int) -> Tokens:
        """The first `length` tokens of prompt and completion."""
        return np.concatenate((self.prompt, np.array(self.tokens, np.int32)))[:length]
