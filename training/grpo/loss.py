"""The clipped surrogate of GRPO (eq. 2 of Appendix A).

Axes: N action tokens of the trajectories of a minibatch, B trajectories.
"""

from __future__ import annotations

import torch
from torch import Tensor


def grpo_loss(
    logprobs: Tensor, sampled: Tensor, advantages: Tensor, weights: Tensor, clip: float
) -> tuple[Tensor, Tensor, Tensor]:
    """-Σ_t w_t · min(ρ_t Â, clip(ρ_t, 1-ε, 1+ε) Â), with ρ_t = exp(logprobs - sampled).

    With w_t = 1 / (|B| · T) for each of a trajectory's T tokens this is eq. 2: the mean over a trajectory's action
    tokens, then over the trajectories of the minibatch.

    Args:
        logprobs: of the action tokens under the policy in training [N], with gradient.
        sampled: of the same tokens under the policy that sampled them [N].
        advantages: Â of each token's trajectory [N].
        weights: w_t [N].
        clip: ε.

    Returns:
        The loss (scalar), the ratios ρ [N] (detached), and where clipping took the gradient away [N].
    """
    ratio = torch.exp(logprobs - sampled)
    kept = torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)
    with torch.no_grad():
        is_clipped = torch.where(advantages > 0, ratio > 1 + clip, ratio < 1 - clip) & (advantages != 0)
    return -(weights * kept).sum(), ratio.detach(), is_clipped


def kl_penalty(logprobs: Tensor, reference: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Σ_t w_t · k_t with k = exp(q) - q - 1 and q = reference - logprobs: an unbiased, positive estimate of the
    divergence from the reference policy. Returns it (scalar) and k [N] (detached)."""
    gap = reference - logprobs
    k = torch.exp(gap) - gap - 1
    return (weights * k).sum(), k.detach()
