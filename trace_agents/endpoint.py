"""The model-endpoint seam: everything that samples talks to one shape, token ids in and out.

The embedded CPU engine and a vLLM server (`/inference/v1/generate`) are two implementations. The adapter
is chosen per request by model name; there is no global "current adapter".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from trace_agents.types import Record


class Sampling(Record):
    """How to sample one generation."""

    temperature: float = 0.0
    """0 is greedy."""
    top_p: float = 1.0
    max_tokens: int = 256
    """Most tokens sampled in one turn."""
    stop_token_ids: tuple[int, ...] = ()
    seed: int | None = None
    """Makes one request reproducible whatever it is batched with; None draws from the engine's stream."""


class Completion(Record):
    """One sampled turn."""

    token_ids: list[int]
    """Sampled ids, the stop token included when it was sampled."""
    logprobs: list[float]
    """Natural-log probability of each sampled token under the distribution at temperature 1, length of `token_ids`."""
    finish_reason: str = "stop"
    """`stop` (a stop token) or `length`."""
    model: str = ""


class Sampler(Protocol):
    """Samples turns: all that rollouts need of a model endpoint."""

    async def generate(self, prompt_ids: Sequence[int], model: str, sampling: Sampling) -> Completion:
        """Sample one turn after `prompt_ids` with `model`.

        Raises:
            UsageError: unknown model. InfrastructureError: context full, server gone, time-out.
        """


@runtime_checkable
class ModelEndpoint(Sampler, Protocol):
    """Samples turns for named models: the base, an adapter, or a composition."""

    async def models(self) -> list[str]:
        """Model names that requests may use."""

    async def score_next(self, prompt_ids: Sequence[int], candidates: Sequence[int], model: str) -> list[float]:
        """Log-probability of each candidate token id as the token after `prompt_ids`."""

    async def load_adapter(self, name: str, path: str) -> None:
        """Load, or replace in place, the PEFT adapter folder at `path` under `name`.

        Raises:
            UsageError: not a PEFT adapter, made for another base, or with keys that match no layer.
        """

    async def unload_adapter(self, name: str) -> None:
        """Forget the adapter."""
