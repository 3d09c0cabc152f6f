"""The light trained router: a linear probe on the frozen base's hidden states of the task prompt.

It is trained on the synthetic environments' prompts only (label: the environment's capability) and stands
behind the same interface as the paper's zero-shot router (`trace_agents.routing.Router`).

Axes: N prompts, K labels, S layer states (embedding first), d hidden width.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from synth_envs.contract import Family
from trace_agents.environment import SyntheticEnvironment
from trace_agents.errors import UsageError
from trace_agents.routing import BASE, Route
from training.fingerprint import fingerprint
from training.probe import Pooling, Probe, PromptStates, features, fit_logistic

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProbeTraining:
    """How to fit a probe; layer, pooling and penalty are chosen on validation prompts among those given here."""

    layers: tuple[int, ...] | None = None
    """Layer states to try, 0 the embedding; None tries those at a third, two thirds and the end."""
    poolings: tuple[Pooling, ...] = tuple(Pooling)
    l2: tuple[float, ...] = (1.0, 1e-1, 1e-2)
    """Penalties on the squared weights of standardised features, strongest first."""
    validation: float = 0.2
    """Share of each label's prompts that choose; as many more are held out for the reported accuracy."""
    miss_cost: float = 4.0
    """How much worse it is to leave a task that needs an adapter to the base than to send one that needs nothing to
    an adapter: the base is chosen where its probability is miss_cost / (1 + miss_cost) or more."""
    seed: int = 0


class ProbeRouter:
    """Routes by a probe. The base's states are computed in this process, beside whatever endpoint serves the agent."""

    def __init__(self, probe: Probe, states: PromptStates, base_model: str) -> None:
        """`base_model` is the endpoint's name of the base, for tasks that need no adapter."""
        self._probe, self._states, self._base_model = probe, states, base_model

    async def route(self, prompt: str) -> Route:
        """The most probable label's adapter."""
        return (await self.route_all([prompt]))[0]

    async def route_all(self, prompts: Sequence[str]) -> list[Route]:
        """The routes of many prompts, in batched forward passes."""
        if not prompts:
            return []
        logprobs = self._probe.logprobs(await asyncio.to_thread(self._states.pooled, prompts))
        return [self._route(int(label), row) for label, row in zip(self._probe.choose(logprobs), logprobs, strict=True)]

    def _route(self, label: int, logprobs: np.ndarray) -> Route:
        chosen = self._probe.labels[label]
        capability = None if chosen == BASE else chosen
        scores = dict(zip(self._probe.labels, logprobs.tolist(), strict=True))
        route = Route(model=capability or self._base_model, capability=capability, router="probe", scores=scores)
        shares = {name: round(share, 3) for name, share in route.probabilities.items()}
        logger.info("routed to %s by probe: %s", route.model, shares)
        return route


def synthetic_prompts(families: Sequence[tuple[Family, SyntheticEnvironment]], seeds: range) -> dict[str, list[str]]:
    """First user messages of the synthetic environments' tasks of `seeds`, by label.

    A family's tasks that need its capability are labelled with the capability's name, in the order of `families`;
    its balance cases, which need none, are `base`, the last label where there are any.
    """
    prompts: dict[str, list[str]] = {environment.capability.name: [] for _, environment in families}
    nothing: list[str] = []
    for family, environment in families:
        for task in map(environment.generate, seeds):
            (prompts[environment.capability.name] if family.targets(task) else nothing).append(task.prompt)
    return prompts | ({BASE: nothing} if nothing else {})


def train_probe(
    states: PromptStates, prompts: Mapping[str, Sequence[str]], config: ProbeTraining | None = None
) -> Probe:
    """Fit a probe on synthetic prompts.

    Args:
        states: the frozen base.
        prompts: label -> task prompts: a capability's name, or `base` for tasks that need none of them.

    Raises:
        UsageError: fewer than two labels, or fewer than five different prompts of one.
    """
    config = config or ProbeTraining()
    labels = tuple(prompts)
    distinct = {label: list(dict.fromkeys(prompts[label])) for label in labels}
    scarce = [label for label in labels if len(distinct[label]) < 5]
    if len(labels) < 2 or scarce:
        raise UsageError(
            f"the router needs two or more labels with five or more different prompts each, too few of {scarce!r} of "
            f"{list(labels)!r}: generate more synthetic tasks"
        )
    pooled = states.pooled([prompt for label in labels for prompt in distinct[label]])
    y = np.repeat(np.arange(len(labels)), [len(distinct[label]) for label in labels])
    train, valid, held = _three_way(y, config)
    layer, pooling, l2, grid = _choose(pooled, y, (train, valid), config)
    x = features(pooled, layer, pooling)
    known = np.concatenate([train, valid])
    weight, bias = fit_logistic(x[known], y[known], len(labels), l2)
    threshold = config.miss_cost / (1.0 + config.miss_cost)
    probe = Probe(labels, layer, pooling, weight, bias, fingerprint(states.source), threshold)
    right = probe.choose(probe.logprobs(pooled[held])) == y[held]
    metrics = {
        "accuracy": float(right.mean()),
        "accuracy_by_label": {label: float(right[y[held] == k].mean()) for k, label in enumerate(labels)},
        "prompts": {label: len(distinct[label]) for label in labels},
        "l2": l2,
        "grid": grid,
    }
    return replace(probe, metrics=metrics)


def _three_way(y: np.ndarray, config: ProbeTraining) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices that train, choose and are held out, split within each label."""
    rng = np.random.default_rng(config.seed)
    parts: list[list[np.ndarray]] = [[], [], []]
    for label in np.unique(y):
        order = rng.permutation(np.flatnonzero(y == label))
        cut = max(1, round(config.validation * len(order)))
        for part, chosen in zip(parts, (order[2 * cut :], order[:cut], order[cut : 2 * cut]), strict=True):
            part.append(chosen)
    train, valid, held = (np.concatenate(part) for part in parts)
    return train, valid, held


def _choose(
    pooled: np.ndarray, y: np.ndarray, split: tuple[np.ndarray, np.ndarray], config: ProbeTraining
) -> tuple[int, Pooling, float, list[dict[str, Any]]]:
    """The strongest penalty, then the deepest layer, whose validation loss is within a standard error of the best.

    Target prompts are worded differently from synthetic ones, so the smoothest probe that does as well is taken.
    """
    train, valid = split
    last = pooled.shape[1] - 1
    layers = (
        config.layers
        if config.layers is not None
        else tuple(sorted({-(-last // 3), -(-2 * last // 3), last}, reverse=True))
    )
    rows: list[tuple[int, Pooling, float, np.ndarray]] = []
    for l2, layer, pooling in itertools.product(config.l2, layers, config.poolings):
        x = features(pooled, layer, pooling)
        weight, bias = fit_logistic(x[train], y[train], int(y.max()) + 1, l2)
        scores = torch.from_numpy(x[valid] @ weight.T + bias)
        rows.append((layer, pooling, l2, F.cross_entropy(scores, torch.from_numpy(y[valid]), reduction="none").numpy()))
    best = min(rows, key=lambda row: row[3].mean())[3]
    allowed = best.mean() + best.std() / np.sqrt(len(best))
    grid = [{"layer": a, "pooling": b.value, "l2": c, "loss": round(float(loss.mean()), 4)} for a, b, c, loss in rows]
    layer, pooling, l2, _ = next(row for row in rows if row[3].mean() <= allowed)
    return layer, pooling, l2, grid
