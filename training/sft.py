"""Supervised fine-tuning on token sequences with a weight per token: next-token cross-entropy, cosine decay.

Muon updates the matrices of the layers and AdamW all else; on small transformers that takes about half the tokens of
AdamW alone (`docs/log.md`).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from transformers import PreTrainedModel


@dataclass(frozen=True)
class Example:
    """One sequence to learn from."""

    token_ids: list[int]
    weights: list[float]
    """Weight of each token as a target; 0 leaves it out. Length of `token_ids`."""


@dataclass(frozen=True)
class SFTConfig:
    """How to fit."""

    epochs: float = 1.0
    batch_tokens: int = 8192
    """Tokens of a batch, padding included."""
    lr: float = 2e-3
    """Peak learning rate."""
    warmup: int = 50
    """Steps of linear warm-up."""
    final_lr: float = 0.05
    """Share of the peak that the cosine decays to."""
    weight_decay: float = 0.05
    clip: float = 1.0
    """Norm to which gradients are clipped."""
    bfloat16: bool = True
    """Autocast matrix products to bfloat16."""
    seed: int = 0


def batches(examples: Sequence[Example], config: SFTConfig) -> Iterator[list[Example]]:
    """Batches of like length for `config.epochs` passes, in a seeded random order."""
    rng = random.Random(config.seed)
    left = config.epochs
    while left > 0:
        order = sorted(range(len(examples)), key=lambda i: len(examples[i].token_ids) + rng.random() * 16)
        grouped = list(_group(examples, order, config.batch_tokens))
        rng.shuffle(grouped)
        yield from grouped[: math.ceil(len(grouped) * min(left, 1.0))]
        left -= 1


def _group(examples: Sequence[Example], order: Sequence[int], budget: int) -> Iterator[list[Example]]:
    batch: list[Example] = []
    longest = 0
    for index in order:
        longest = max(longest, len(examples[index].token_ids))
        if batch and longest * (len(batch) + 1) > budget:
            yield batch
            batch, longest = [], len(examples[index].token_ids)
        batch.append(examples[index])
    if batch:
        yield batch


def fit(
    model: PreTrainedModel,
    examples: Sequence[Example],
    config: SFTConfig,
    on_step: Callable[[int, int, float], None] | None = None,
) -> None:
    """Fit `model` in place. `on_step(step, steps, loss)` reports each step's mean loss in nats per weighted token."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimisers = _optimisers(model, config)
    schedule = list(batches(examples, config))
    model.train()
    for step, batch in enumerate(schedule):
        for group in (group for optimiser in optimisers for group in optimiser.param_groups):
            group["lr"] = config.lr * _rate(step, len(schedule), config)
        loss = _loss(model, batch, config.bfloat16)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, config.clip)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        if on_step:
            on_step(step, len(schedule), loss.item())
    model.eval()


def _optimisers(model: PreTrainedModel, config: SFTConfig) -> list[torch.optim.Optimizer]:
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    matrices = [p for name, p in named if p.ndim == 2 and ".layers." in name]
    others = [p for name, p in named if p.ndim != 2 or ".layers." not in name]
    # The scale that makes one learning rate serve both.
    muon = torch.optim.Muon(matrices, lr=config.lr, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw")
    return [muon, torch.optim.AdamW(others, lr=config.lr, betas=(0.9, 0.98), weight_decay=0.0)]


def _rate(step: int, steps: int, config: SFTConfig) -> float:
    if step < config.warmup:
        return (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, steps - config.warmup)
    return config.final_lr + (1 - config.final_lr) * 0.5 * (1 + math.cos(math.pi * done))


def _loss(model: PreTrainedModel, batch: Sequence[Example], bfloat16: bool) -> torch.Tensor:
    # Few distinct shapes: kernels and buffers are kept per shape, and memory grows with every new one.
    width = -(-max(len(example.token_ids) for example in batch) // 16) * 16
    ids = torch.zeros(len(batch), width, dtype=torch.long)
    weights = torch.zeros(len(batch), width)
    for row, example in enumerate(batch):
        ids[row, : len(example.token_ids)] = torch.tensor(example.token_ids)
        weights[row, : len(example.token_ids)] = torch.tensor(example.weights)
    # Padding sits on the right, so causal attention never sees it and no mask is needed.
    targets, target_weights = ids[:, 1:].reshape(-1), weights[:, 1:].reshape(-1)
    chosen = _padded(target_weights.nonzero()[:, 0], 512)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden[:, :-1].reshape(len(targets), -1)[chosen])
    losses = F.cross_entropy(logits.float(), targets[chosen], reduction="none")
    scale = target_weights[chosen]
    scale[int((target_weights > 0).sum()) :] = 0.0
    return (losses * scale).sum() / scale.sum()


def _padded(index: torch.Tensor, multiple: int) -> torch.Tensor:
    """`index` lengthened to a multiple by repeating its first entry, which then weighs nothing."""
    return F.pad(index, (0, -len(index) % multiple), value=int(index[0]))
