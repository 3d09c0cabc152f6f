"""Settings of the engine."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field

from trace_agents.types import Record


class EngineConfig(Record):
    """How the engine runs. The defaults suit a model of some million parameters and up to 256 conversations."""

    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of weights, keys and values. bfloat16 is faster where the CPU multiplies it natively; its log-probabilities
    differ from a float32 trainer's in the second decimal."""
    name: str | None = None
    """Name under which requests address the base; None is the model folder's name."""
    threads: int | None = Field(default=None, ge=1)
    """Threads of torch for the whole process; None leaves torch's setting. One is best for tiny models."""
    seed: int | None = None
    """Of requests that bring no seed of their own; None is fresh randomness."""
    max_context: int | None = Field(default=None, ge=2)
    """Most tokens of prompt and completion together; None is the model's own bound."""
    max_rows: int = Field(default=256, ge=1)
    """Most sequences computed at once; others wait."""
    max_prompt_tokens: int = Field(default=2048, ge=16)
    """Most prompt tokens read in one step: bounds how long a long prompt holds up its neighbours."""
    cache_bytes: int = Field(default=512 * 2**20, ge=0)
    """Memory for keys and values of finished turns."""
    cache_entries: int = Field(default=512, ge=0)
    """Most finished turns whose keys and values are kept."""

    @property
    def torch_dtype(self) -> torch.dtype:
        """`dtype` as torch has it."""
        return torch.float32 if self.dtype == "float32" else torch.bfloat16
