"""The light trained router: a linear probe on the frozen base's hidden states of the task prompt.

It is trained on the synthetic environments' prompts only (label: the environment's capability) and stands
behind the same interface as the paper's zero-shot router (`trace_agents.routing.Router`).

Axes: N prompts, K labels, S layer states (embedding first), P poolings, d hidden width, F features.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, PreTrainedModel

from synth_envs.contract import Family
from trace_agents.environment import SyntheticEnvironment
from trace_agents.errors import UsageError
from trace_agents.files import write_atomically
from trace_agents.routing import BASE, Route
from trace_agents.types import Message
from training.chat import ChatFormat
from training.fingerprint import fingerprint

logger = logging.getLogger(__name__)


class Pooling(StrEnum):
    """What of a layer's states over the prompt's tokens the probe reads."""

    MEAN = "mean"  # Their mean.
    LAST = "last"  # The state where the assistant begins to speak.
    BOTH = "both"  # Both, side by side.


class PromptStates:
    """Hidden states of the frozen base after a task prompt, pooled over its tokens."""

    def __init__(self, model: PreTrainedModel, chat: ChatFormat, source: Path) -> None:
        self._model, self._chat = model.eval(), chat
        self.source = source
        """Folder of the base."""

    @classmethod
    def from_pretrained(cls, base: Path) -> PromptStates:
        """Load the model folder `base`.

        Raises:
            UsageError: no model or no tokenizer with a chat template there.
        """
        chat = ChatFormat.from_pretrained(base)
        try:
            model = AutoModelForCausalLM.from_pretrained(str(base), dtype=torch.float32)
        except (OSError, ValueError) as error:
            raise UsageError(f"base model {str(base)!r} does not load ({error}): give a transformers folder") from error
        return cls(model, chat, Path(base))

    @torch.no_grad()
    def pooled(self, prompts: Sequence[str], batch: int = 64) -> np.ndarray:
        """[N, S, 2, d] float32: mean and last state of every layer over the prompt as a conversation's first turn."""
        ids = [self._chat.prompt_ids((Message(role="user", content=prompt),)) for prompt in prompts]
        order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        rows: list[np.ndarray | None] = [None] * len(ids)
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            for index, row in zip(chosen, self._pool([ids[index] for index in chosen]), strict=True):
                rows[index] = row
        return np.stack([row for row in rows if row is not None])

    def _pool(self, ids: Sequence[Sequence[int]]) -> np.ndarray:
        lengths = torch.tensor([len(row) for row in ids])
        padded = torch.zeros(len(ids), int(lengths.max()), dtype=torch.long)
        for place, row in enumerate(ids):
            padded[place, : len(row)] = torch.tensor(row)
        # Padding stands on the right, where causal attention never looks back from.
        out = self._model.get_decoder()(input_ids=padded, output_hidden_states=True, use_cache=False)
        states = torch.stack(out.hidden_states, 1)
        real = (torch.arange(padded.shape[1]) < lengths[:, None])[:, None, :, None]
        mean = (states * real).sum(2) / lengths[:, None, None]
        last = states[torch.arange(len(ids)), :, lengths - 1]
        return torch.stack([mean, last], 2).numpy()


@dataclass(frozen=True)
class ProbeTraining:
    """How to fit a probe; layer, pooling and penalty are chosen on validation prompts among those given here."""

    layers: tuple[int, ...] | None = None
    """Layer states to try, 0 the embedding; None tries those at a third, two thirds and the end."""
    poolings: tuple[Pooling, ...] = tuple(Pooling)
    l2: tuple[float, ...] = (1e-1, 1e-2, 1e-3)
    """Penalties on the squared weights of standardised features, strongest first."""
    validation: float = 0.2
    """Share of each label's prompts that choose; as many more are held out for the reported accuracy."""
    seed: int = 0


@dataclass(frozen=True)
class Probe:
    """A multinomial logistic regression on one layer's pooled states."""

    labels: tuple[str, ...]
    """[K] capability names; `base` among them where base-class prompts were given."""
    layer: int
    pooling: Pooling
    weight: np.ndarray
    """[K, F] float32, for features as they are (the standardisation is folded in)."""
    bias: np.ndarray
    """[K] float32."""
    made_for: str
    """Fingerprint of the base."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """`accuracy` and `accuracy_by_label` on held-out synthetic prompts, `prompts` by label, `l2`, `grid`."""

    def logprobs(self, pooled: np.ndarray) -> np.ndarray:
        """[N, K] log-probabilities of the labels for `pooled` [N, S, 2, d]."""
        scores = features(pooled, self.layer, self.pooling) @ self.weight.T + self.bias
        scores = scores - scores.max(axis=1, keepdims=True)
        return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))

    def save(self, folder: Path) -> Path:
        """Write `router.json` and `router.safetensors` into `folder`; returns it."""
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / ".router.safetensors.part"
        save_file({"weight": np.ascontiguousarray(self.weight), "bias": self.bias}, part)
        part.replace(folder / "router.safetensors")
        head = {
            "version": 1,
            "router": "probe",
            "labels": list(self.labels),
            "layer": self.layer,
            "pooling": self.pooling.value,
            "made_for": self.made_for,
            "metrics": dict(self.metrics),
        }
        write_atomically(folder / "router.json", json.dumps(head, indent=2) + "\n")
        return folder

    @classmethod
    def load(cls, folder: Path, base: Path) -> Probe:
        """Read a probe for the base model `base`.

        Raises:
            UsageError: no probe there, or one trained on another base.
        """
        try:
            head = json.loads((Path(folder) / "router.json").read_text(encoding="utf-8"))
            tensors = load_file(Path(folder) / "router.safetensors")
        except (OSError, ValueError, SafetensorError) as error:
            raise UsageError(
                f"router {str(folder)!r} does not load ({error}): give a folder that a probe was saved to"
            ) from error
        if head.get("version") != 1 or head.get("router") != "probe":
            found = (head.get("router"), head.get("version"))
            raise UsageError(
                f"router {str(folder)!r} is of kind and version {found!r}: this release reads ('probe', 1)"
            )
        if head["made_for"] != fingerprint(base):
            raise UsageError(
                f"router {str(folder)!r} was trained on another base than {str(base)!r}: train it on this one"
            )
        pooling = Pooling(head["pooling"])
        weight, bias = tensors["weight"], tensors["bias"]
        return cls(tuple(head["labels"]), head["layer"], pooling, weight, bias, head["made_for"], head["metrics"])


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
        pooled = await asyncio.to_thread(self._states.pooled, prompts)
        return [self._route(row) for row in self._probe.logprobs(pooled)]

    def _route(self, logprobs: np.ndarray) -> Route:
        chosen = self._probe.labels[int(logprobs.argmax())]
        capability = None if chosen == BASE else chosen
        scores = dict(zip(self._probe.labels, logprobs.tolist(), strict=True))
        route = Route(model=capability or self._base_model, capability=capability, router="probe", scores=scores)
        logger.info(
            "routed to %s by probe: %s", route.model, {name: round(p, 3) for name, p in route.probabilities.items()}
        )
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
    right = (x[held] @ weight.T + bias).argmax(axis=1) == y[held]
    metrics = {
        "accuracy": float(right.mean()),
        "accuracy_by_label": {label: float(right[y[held] == k].mean()) for k, label in enumerate(labels)},
        "prompts": {label: len(distinct[label]) for label in labels},
        "l2": l2,
        "grid": grid,
    }
    return Probe(labels, layer, pooling, weight, bias, fingerprint(states.source), metrics)


def features(pooled: np.ndarray, layer: int, pooling: Pooling) -> np.ndarray:
    """[N, F] of `pooled` [N, S, 2, d]."""
    states = pooled[:, layer]
    if pooling is Pooling.BOTH:
        return states.reshape(len(states), -1)
    return states[:, 0 if pooling is Pooling.MEAN else 1]


def fit_logistic(x: np.ndarray, y: np.ndarray, labels: int, l2: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights [K, F] and bias [K] of a multinomial logistic regression, every label weighing the same.

    Minimises the balanced mean cross-entropy plus l2/2 times the squared weights of standardised features.
    Deterministic: full batches in float64 from zero.
    """
    mean, deviation = x.mean(axis=0), x.std(axis=0) + 1e-6
    inputs = torch.from_numpy(((x - mean) / deviation).astype(np.float64))
    targets = torch.from_numpy(y)
    share = torch.from_numpy(1.0 / (labels * np.bincount(y, minlength=labels)[y]))
    weight = torch.zeros(labels, x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(labels, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=100, tolerance_grad=1e-6, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(inputs @ weight.T + bias, targets, reduction="none") @ share
        value = value + 0.5 * l2 * weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    folded = weight.detach().numpy() / deviation
    return folded.astype(np.float32), (bias.detach().numpy() - folded @ mean).astype(np.float32)


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
