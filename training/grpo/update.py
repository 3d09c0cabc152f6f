"""One iteration's update: from groups of traces to optimiser steps, and the figures of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from training.checkpoints import RandomState
from training.grpo.advantages import group_advantages
from training.grpo.batch import Batch, Experience, batches, rows_of
from training.grpo.config import GRPOConfig
from training.grpo.loss import grpo_loss, kl_penalty
from training.grpo.policy import Policy
from training.rollouts.tasks import EpisodeTrace


@dataclass
class StepFigures:
    """Sums over the action tokens of an iteration's optimiser steps, and its steps' losses."""

    tokens: int = 0
    ratio: float = 0.0
    clipped: int = 0
    entropy: float = 0.0
    kl: float = 0.0
    gap: float | None = None
    """Mean |log-probability here - the sampler's| in the first minibatch, before any step."""
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    """Gradient norms before clipping."""

    def mean(self, name: str) -> float:
        """Mean over tokens of the sum `name`."""
        return getattr(self, name) / max(1, self.tokens)


def experiences(groups: Sequence[Sequence[EpisodeTrace]], eps: float) -> tuple[list[Experience], int]:
    """The trajectories to learn from, and the number of groups that were informative.

    Rollouts that infrastructure failed are left out of their group; a group whose remaining rewards are identical,
    or that has fewer than two left, is discarded.
    """
    found: list[Experience] = []
    informative = 0
    for group in groups:
        sound = [trace for trace in group if trace.ok]
        advantages = group_advantages([trace.reward for trace in sound], eps)
        if advantages is None:
            continue
        informative += 1
        made = (Experience(rows_of(trace), advantage) for trace, advantage in zip(sound, advantages, strict=True))
        # An episode that was over before the agent's first turn has no action to learn from.
        found += [experience for experience in made if experience.rows]
    return found, informative


class Updater:
    """Adapter and optimiser: turns experience into steps."""

    def __init__(self, policy: Policy, config: GRPOConfig, random: RandomState) -> None:
        self.policy = policy
        self.config = config
        self.random = random
        self.optimiser = torch.optim.AdamW(policy.parameters, lr=config.lr, weight_decay=config.weight_decay)

    def update(self, trajectories: Sequence[Experience]) -> StepFigures:
        """`epochs` passes over the trajectories, each in `minibatches` steps of a random partition."""
        figures = StepFigures()
        order = list(range(len(trajectories)))
        with self.random.torch():
            for _ in range(self.config.epochs):
                self.random.python.shuffle(order)
                for part in np.array_split(order, min(self.config.minibatches, len(order))):
                    self._step([trajectories[index] for index in part], figures)
        return figures

    def _step(self, minibatch: Sequence[Experience], figures: StepFigures) -> None:
        loss = 0.0
        gap = 0.0
        tokens = figures.tokens
        for batch in batches(minibatch, self.config.batch_tokens, self.policy.device):
            part, distance = self._accumulate(batch, figures)
            loss, gap = loss + part, gap + distance
        norm = clip_grad_norm_(self.policy.parameters, self.config.max_grad_norm)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        if figures.gap is None:
            figures.gap = gap / (figures.tokens - tokens)
        figures.losses.append(loss)
        figures.norms.append(float(norm))

    def _accumulate(self, batch: Batch, figures: StepFigures) -> tuple[float, float]:
        """Add the batch's gradient; its share of the loss, and Σ |log-probability - the sampler's|."""
        reference = self.policy.reference(batch) if self.config.kl else None
        logprobs, entropy = self.policy.evaluate(batch)
        loss, ratio, is_clipped = grpo_loss(logprobs, batch.sampled, batch.advantages, batch.weights, self.config.clip)
        if reference is not None:
            penalty, kl = kl_penalty(logprobs, reference, batch.weights)
            loss = loss + self.config.kl * penalty
            figures.kl += float(kl.sum())
        loss.backward()
        figures.tokens += len(batch.targets)
        figures.ratio += float(ratio.sum())
        figures.clipped += int(is_clipped.sum())
        figures.entropy += float(entropy.sum())
        return float(loss.detach()), _distance(logprobs, batch.sampled)


def _distance(logprobs: Tensor, sampled: Tensor) -> float:
    return float((logprobs.detach() - sampled).abs().sum())
