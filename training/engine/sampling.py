"""Drawing tokens: each row by its own temperature, nucleus and random stream, all rows at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def uniforms(seeds: Sequence[int], steps: Sequence[int]) -> np.ndarray:
    """One number in [0, 1) per row, a function of its seed and of how many tokens it has sampled, and of nothing else
    (SplitMix64 as a counter-based generator; Steele, Lea and Flood, 2014)."""
    with np.errstate(over="ignore"):
        state = _mix(np.array([seed & 0xFFFFFFFFFFFFFFFF for seed in seeds], np.uint64) + _GOLDEN)
        mixed = _mix(state + (np.array(steps, np.uint64) + np.uint64(1)) * _GOLDEN)
    return (mixed >> np.uint64(11)) * 2.0**-53


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def draw(
    logits: Tensor, temperatures: Sequence[float], top_ps: Sequence[float], randoms: np.ndarray
) -> tuple[list[int], list[float]]:
    """Sampled ids and their log-probabilities, one per row of float32 `logits` [B, V].

    A row is drawn from its tempered distribution (0 is greedy, ties to the lowest id), cut to the smallest set of
    tokens whose probability reaches `top_p`; its log-probability is that of the distribution as it is, at
    temperature 1 and uncut.
    """
    heat = torch.tensor(temperatures)
    warm = heat > 0
    if bool(warm.all()):
        chosen = _inverse_cdf(logits / heat[:, None], top_ps, randoms)
    else:
        chosen = logits.max(-1).indices
        if bool(warm.any()):
            rows = warm.nonzero().flatten()
            cut = [top_ps[row] for row in rows.tolist()]
            chosen[rows] = _inverse_cdf(logits[rows] / heat[rows, None], cut, randoms[rows.numpy()])
    logprobs = logits.gather(1, chosen[:, None]).flatten() - torch.logsumexp(logits, -1)
    return chosen.tolist(), logprobs.tolist()


def _inverse_cdf(logits: Tensor, top_ps: Sequence[float], randoms: np.ndarray) -> Tensor:
    weights = torch.softmax(logits, -1)
    if min(top_ps) < 1.0:
        weights = _nucleus(weights, torch.tensor(top_ps))
    cumulative = weights.double().cumsum(-1)
    target = torch.from_numpy(randoms)[:, None] * cumulative[:, -1:]
    # The first id whose cumulative weight exceeds the target: never one of weight zero.
    return torch.searchsorted(cumulative, target, right=True).flatten().clamp_(max=logits.shape[-1] - 1)


def _nucleus(weights: Tensor, top_ps: Tensor) -> Tensor:
    """`weights` with zeros outside each row's nucleus; the most likely token always stays."""
    ordered, order = torch.sort(weights, dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered
    kept = torch.where((before < top_ps[:, None]) | (top_ps[:, None] >= 1.0), ordered, 0.0)
    kept[:, 0] = ordered[:, 0]
    return torch.zeros_like(weights).scatter_(1, order, kept)
