"""How to train an adapter."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field

from trace_agents.endpoint import Sampling
from trace_agents.types import Record
from training.rollouts.config import RolloutConfig


class GRPOConfig(Record):
    """GRPO of Appendix A, a LoRA adapter and when to stop."""

    seed: int = Field(0, ge=0)
    """Of the adapter's initial weights, the sampling and the order of minibatches."""

    groups: int = Field(8, ge=1)
    """Groups an iteration (G)."""
    group_size: int = Field(8, ge=2)
    """Rollouts of one task instance (K)."""
    iterations: int = Field(40, ge=1)
    """Most iterations."""
    rollout: RolloutConfig = RolloutConfig(model="", sampling=Sampling(temperature=1.0, max_tokens=128))
    """How to sample; `model`, `trials` and `seed` are filled in here. Its temperature is that of training."""

    clip: float = Field(0.2, gt=0, lt=1)
    """Clipping threshold of the per-token ratio (epsilon of eq. 2)."""
    advantage_eps: float = Field(1e-6, gt=0)
    """Added to a group's standard deviation (epsilon of eq. 1)."""
    kl: float = Field(0.0, ge=0)
    """Weight of a penalty on the divergence from the base; 0, as in the paper, computes none."""
    epochs: int = Field(2, ge=1)
    """Passes over one iteration's trajectories."""
    minibatches: int = Field(2, ge=1)
    """Optimiser steps a pass."""
    lr: float = Field(1e-3, gt=0)
    """AdamW's learning rate."""
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    """Norm to which a step's gradient is clipped."""

    rank: int = Field(8, ge=1)
    alpha: float = Field(16.0, gt=0)
    """The update is scaled by alpha / rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Of the adapter's input; makes the trained policy another than the sampled one."""
    target_modules: str | tuple[str, ...] = "all-linear"
    """Modules to adapt, as PEFT takes them."""

    validate_every: int = Field(2, ge=1)
    """Iterations between validations."""
    patience: int = Field(4, ge=1)
    """Validations in a row without a better success rate (ties: reward) after which training stops."""
    stop_when_solved: bool = True
    """Stop once every validation task is solved; False spends all iterations."""
    validation_temperature: float = Field(0.0, ge=0)

    device: str = "cpu"
    """torch's name of the device to train on."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of matrix products; the adapter's weights are always float32. float32 agrees with a float32 sampler."""
    attention: str = "sdpa"
    """transformers' attention implementation; `eager` is the faster one for bfloat16 on a CPU."""
    batch_tokens: int = Field(2048, ge=1)
    """Most padded tokens in one forward pass; a minibatch that has more accumulates gradients. Bounds memory."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass, for models whose activations do not fit."""

    @property
    def torch_dtype(self) -> torch.dtype:
        """`dtype` as torch has it."""
        return torch.float32 if self.dtype == "float32" else torch.bfloat16
