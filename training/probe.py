"""A linear probe: multinomial logistic regression on the frozen base's hidden states of a prompt.

Axes: N prompts, K labels, S layer states (embedding first), d hidden width, F features.
"""

from __future__ import annotations

import json
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

from trace_agents.errors import UsageError
from trace_agents.files import write_atomically
from trace_agents.routing import BASE
from trace_agents.types import Message
from training.chat import ChatFormat
from training.fingerprint import fingerprint


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
    base_threshold: float = 0.0
    """Probability that the label `base` needs to be chosen, besides being the highest."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """`accuracy` and `accuracy_by_label` on held-out synthetic prompts, `prompts` by label, `l2`, `grid`."""

    def logprobs(self, pooled: np.ndarray) -> np.ndarray:
        """[N, K] log-probabilities of the labels for `pooled` [N, S, 2, d]."""
        scores = features(pooled, self.layer, self.pooling) @ self.weight.T + self.bias
        scores = scores - scores.max(axis=1, keepdims=True)
        return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))

    def choose(self, logprobs: np.ndarray) -> np.ndarray:
        """[N] index of the label that each row of `logprobs` [N, K] is routed by."""
        if BASE not in self.labels:
            return logprobs.argmax(axis=1)
        base = self.labels.index(BASE)
        unsure = np.exp(logprobs[:, base]) < self.base_threshold
        return np.where(unsure[:, None] & (np.arange(len(self.labels)) == base), -np.inf, logprobs).argmax(axis=1)

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
            "base_threshold": self.base_threshold,
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
        return cls(
            tuple(head["labels"]),
            head["layer"],
            Pooling(head["pooling"]),
            tensors["weight"],
            tensors["bias"],
            head["made_for"],
            head["base_threshold"],
            head["metrics"],
        )


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
