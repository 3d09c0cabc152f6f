"""LoRA adapters: read from PEFT, checked against the base, and applied to batches that mix them row by row."""

from __future__ import annotations

import itertools
import json
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from trace_agents.errors import UsageError
from training.engine.weights import FUSED, Shape, Weights, matmul

_KEY = re.compile(
    r"(?:base_model\.model\.)?(?P<module>model\.layers\.(?P<layer>\d+)\.(?:self_attn|mlp)\.(?P<name>\w+_proj))"
    r"\.lora_(?P<factor>[AB])(?:\.\w+)?\.weight"
)
_REFUSED = (
    "use_dora",
    "lora_bias",
    "modules_to_save",
    "trainable_token_indices",
    "layer_replication",
    "alora_invocation_tokens",
    "use_qalora",
    "fan_in_fan_out",
)
"""Options of PEFT's LoRA that change the mathematics and that the engine does not compute."""

_KEPT_STACKS = 8

_serial = itertools.count(1)


@dataclass(frozen=True)
class Adapter:
    """One loaded adapter. Loading again under the same name makes a new one; requests in flight keep theirs."""

    name: str
    factors: Mapping[tuple[int, str], tuple[Tensor, Tensor]]
    """By (layer, module): A [in, r] and B [r, out], the LoRA scale folded into B."""
    ranks: Mapping[str, int]
    """By fused name: the rank taken in a batch, the sum over its modules of the largest rank of any layer."""
    uid: int = field(default_factory=lambda: next(_serial))
    """Keys of cached sequences name adapters by this."""


@dataclass(frozen=True)
class Recipe:
    """What a row's weights are: the base plus a weighted sum of adapters' deltas. No parts: the base."""

    parts: tuple[tuple[Adapter, float], ...] = ()

    @cached_property
    def key(self) -> tuple[tuple[int, float], ...]:
        """Equal for rows whose keys and values are interchangeable."""
        return tuple((adapter.uid, weight) for adapter, weight in self.parts)


def read_adapter(name: str, path: str | Path, base: Weights) -> Adapter:
    """Read a PEFT adapter folder for the model `base`.

    Raises:
        UsageError: not a PEFT adapter, made for another base, or with keys that match no layer.
    """
    folder = Path(path)
    config_file, weights_file = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    for file in (config_file, weights_file):
        if not file.is_file():
            raise UsageError(f"adapter folder {str(path)!r} has no {file.name}: give a folder that PEFT saved")
    try:
        config = json.loads(config_file.read_text())
        state = load_file(weights_file)
    except (json.JSONDecodeError, SafetensorError, OSError) as error:
        raise UsageError(f"adapter {str(path)!r} is damaged ({error}): save it again") from error
    return make_adapter(name, state, config, base)


def make_adapter(
    name: str, state: Mapping[str, Tensor], config: PeftConfig | Mapping[str, Any], base: Weights
) -> Adapter:
    """An adapter from PEFT's state dict and configuration; the tensors are copied.

    Raises:
        UsageError: as `read_adapter`.
    """
    options = config.to_dict() if isinstance(config, PeftConfig) else dict(config)
    _check_config(name, options, base)
    pairs = _pairs(name, state, base.shape)
    factors = {}
    for (layer, module), (path, a, b) in pairs.items():
        down = a.detach().to(base.dtype).t().clone(memory_format=torch.contiguous_format)
        up = (b.detach().float() * _scale(options, path, a.shape[0])).to(base.dtype).t()
        factors[layer, module] = (down, up.clone(memory_format=torch.contiguous_format))
    return Adapter(name, factors, _ranks(factors))


def _check_config(name: str, options: Mapping[str, Any], base: Weights) -> None:
    kind = str(getattr(options.get("peft_type"), "value", options.get("peft_type")))
    if kind != "LORA":
        raise UsageError(f"adapter {name!r} has peft_type {kind!r}: the engine applies LORA adapters")
    for option in _REFUSED:
        if options.get(option):
            raise UsageError(
                f"adapter {name!r} sets {option}={options[option]!r}, which the engine does not apply: train without it"
            )
    if options.get("bias", "none") != "none":
        raise UsageError(f"adapter {name!r} sets bias={options['bias']!r}: train with bias='none'")
    made_for = options.get("base_model_name_or_path")
    if made_for and Path(made_for).name not in base.aliases:
        raise UsageError(
            f"adapter {name!r} was made for base {made_for!r}, not for {base.name!r}: train it on this base, "
            "or load the base from a folder of that name"
        )


def _pairs(name: str, state: Mapping[str, Tensor], shape: Shape) -> dict[tuple[int, str], tuple[str, Tensor, Tensor]]:
    """By (layer, module): the module's path and PEFT's A [r, in] and B [out, r], every shape checked."""
    found: dict[tuple[int, str], dict[str, Tensor]] = {}
    paths: dict[tuple[int, str], str] = {}
    unmatched = []
    for key, tensor in state.items():
        match = _KEY.fullmatch(key)
        if match is None or match["name"] not in shape.modules or int(match["layer"]) >= shape.layers:
            unmatched.append(key)
            continue
        place = (int(match["layer"]), match["name"])
        found.setdefault(place, {})[match["factor"]] = tensor
        paths[place] = match["module"]
    if unmatched or not found:
        shown = ", ".join(repr(key) for key in unmatched[:3]) or "no keys at all"
        raise UsageError(
            f"adapter {name!r} has {len(unmatched)} keys that match no layer of the base ({shown}): it may target "
            f"{', '.join(shape.modules)} of {shape.layers} layers"
        )
    return {place: (paths[place], *_pair(name, place, factors, shape)) for place, factors in found.items()}


def _pair(name: str, place: tuple[int, str], factors: Mapping[str, Tensor], shape: Shape) -> tuple[Tensor, Tensor]:
    layer, module = place
    if set(factors) != {"A", "B"}:
        raise UsageError(f"adapter {name!r} has only lora_{min(factors)} of layer {layer}'s {module}: save it again")
    a, b = factors["A"], factors["B"]
    inputs, outputs = shape.modules[module]
    if a.shape[1:] != (inputs,) or b.shape != (outputs, a.shape[0]):
        raise UsageError(
            f"adapter {name!r} was made for another base: layer {layer}'s {module} maps {inputs} to {outputs}, "
            f"its factors are A {tuple(a.shape)} and B {tuple(b.shape)}"
        )
    if not bool(a.isfinite().all() and b.isfinite().all()):
        # In a batch with others a value that is not finite would reach rows that have no share of this adapter.
        raise UsageError(f"adapter {name!r} has values that are not finite in layer {layer}'s {module}: train it again")
    return a, b


def _scale(options: Mapping[str, Any], path: str, rank: int) -> float:
    """alpha / r, or alpha / sqrt(r) for rsLoRA, with PEFT's per-module alphas."""
    patterns = options.get("alpha_pattern") or {}
    named = (alpha for pattern, alpha in patterns.items() if re.match(rf"(.*\.)?({pattern})$", path))
    alpha = next(named, options.get("lora_alpha", LoraConfig().lora_alpha))
    return float(alpha) / (rank**0.5 if options.get("use_rslora") else rank)


def _ranks(factors: Mapping[tuple[int, str], tuple[Tensor, Tensor]]) -> dict[str, int]:
    widest = {module: 0 for parts in FUSED.values() for module in parts}
    for (_, module), (a, _) in factors.items():
        widest[module] = max(widest[module], a.shape[1])
    return {fused: sum(widest[module] for module in parts) for fused, parts in FUSED.items()}


class Stack:
    """Several adapters side by side: one A and one B per layer and fused module, columns of all adapters in turn.

    A row's share of each adapter is a weight on its columns of `x @ A`, so one product serves a batch that mixes
    adapters, sums of adapters and the base, whose rows get an exact zero.
    """

    def __init__(self, adapters: Sequence[Adapter], base: Weights) -> None:
        self.adapters = tuple(adapters)
        self.column = {adapter.uid: index for index, adapter in enumerate(adapters)}
        shape = base.shape
        self.owners: dict[str, Tensor] = {}
        """By fused name: for each column, its adapter's index."""
        self.factors: dict[tuple[int, str], tuple[Tensor, Tensor]] = {}
        for fused, parts in FUSED.items():
            ranks = torch.tensor([adapter.ranks[fused] for adapter in adapters])
            if not int(ranks.sum()):
                continue
            self.owners[fused] = torch.arange(len(adapters)).repeat_interleave(ranks)
            for layer in range(shape.layers):
                self.factors[layer, fused] = self._join(layer, parts, int(ranks.sum()), base)

    def _join(self, layer: int, parts: tuple[str, ...], rank: int, base: Weights) -> tuple[Tensor, Tensor]:
        sizes = base.shape.modules
        a = torch.zeros(sizes[parts[0]][0], rank, dtype=base.dtype)
        b = torch.zeros(rank, sum(sizes[part][1] for part in parts), dtype=base.dtype)
        start = 0
        for adapter in self.adapters:
            column, output = start, 0
            for part in parts:
                pair = adapter.factors.get((layer, part))
                if pair is not None:
                    width = pair[0].shape[1]
                    a[:, column : column + width] = pair[0]
                    b[column : column + width, output : output + sizes[part][1]] = pair[1]
                    column += width
                output += sizes[part][1]
            start += adapter.ranks[next(name for name, modules in FUSED.items() if modules == parts)]
        return a, b

    def batch(self, recipes: Sequence[Recipe], which: Tensor, dtype: torch.dtype) -> LoraBatch:
        """The shares of a batch: token n has the recipe `recipes[which[n]]`."""
        shares = torch.zeros(len(recipes), len(self.adapters), dtype=dtype)
        for row, recipe in enumerate(recipes):
            for adapter, weight in recipe.parts:
                shares[row, self.column[adapter.uid]] += weight
        per_token = shares[which]
        return LoraBatch(self, {fused: per_token[:, owners] for fused, owners in self.owners.items()})


@dataclass(frozen=True)
class LoraBatch:
    """A stack and the shares of one batch's tokens."""

    stack: Stack
    shares: Mapping[str, Tensor]
    """By fused name: [N, columns]."""

    def add(self, layer: int, fused: str, x: Tensor, y: Tensor) -> Tensor:
        """`y` [N, out] plus every token's share of the adapters' deltas on `x` [N, in], in place."""
        factors = self.stack.factors.get((layer, fused))
        if factors is None:
            return y
        low = matmul(x, factors[0]).mul_(self.shares[fused])
        return y.add_(matmul(low, factors[1]))


class Stacks:
    """Stacks of the adapters that are in use, made when needed; few are kept, since adapters come and go."""

    def __init__(self, base: Weights) -> None:
        self._base = base
        self._kept: OrderedDict[frozenset[int], Stack] = OrderedDict()

    def batch(self, recipes: Sequence[Recipe], counts: Sequence[int]) -> LoraBatch | None:
        """The shares of a batch in which each recipe has the next so many tokens; None for the base alone."""
        adapters = {adapter.uid: adapter for recipe in recipes for adapter, _ in recipe.parts}
        if not adapters:
            return None
        distinct = {recipe.key: recipe for recipe in recipes}
        number = {key: index for index, key in enumerate(distinct)}
        which = torch.tensor([number[recipe.key] for recipe in recipes]).repeat_interleave(torch.tensor(counts))
        return self._stack(adapters).batch(list(distinct.values()), which, self._base.dtype)

    def _stack(self, adapters: Mapping[int, Adapter]) -> Stack:
        wanted = frozenset(adapters)
        # A stack of a few adapters more serves too: neighbours' sets differ from step to step.
        fitting = [have for have in self._kept if wanted <= have and len(have) <= 2 * len(wanted)]
        key = min(fitting, key=len, default=wanted)
        if key not in self._kept:
            self._kept[key] = Stack([adapters[uid] for uid in sorted(key)], self._base)
        self._kept.move_to_end(key)
        if len(self._kept) > _KEPT_STACKS:
            self._kept.popitem(last=False)
        return self._kept[key]
