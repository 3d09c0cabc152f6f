"""LoRA layers of small models as one matrix product: W + s·B·A is cheap to form where W is small.

PEFT computes x·W + s·(x·A)·B, whose extra passes over the activations cost a tiny model a third of its time. The
function and its gradients are the same up to rounding; in bfloat16 the sum would round the update away, so only
float32 is folded.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from peft import PeftModel
from peft.tuners.lora import Linear
from torch import Tensor, nn

_SMALL = 1 << 18
"""Entries of W up to which folding pays (512 x 512)."""


def fold(model: PeftModel) -> int:
    """Let every foldable LoRA layer of `model` compute one product from now on; returns how many there are."""
    layers = [module for module in model.modules() if isinstance(module, Linear) and _is_foldable(module)]
    for layer in layers:
        layer.forward = _Folded(layer)
    return len(layers)


class _Folded:
    """The forward pass of one folded layer."""

    def __init__(self, layer: Linear) -> None:
        self.layer = layer
        self.name = layer.active_adapters[0]

    def __call__(self, x: Tensor) -> Tensor:
        layer, base = self.layer, self.layer.base_layer
        if layer.disable_adapters:
            return base(x)
        update = layer.lora_B[self.name].weight @ layer.lora_A[self.name].weight
        return F.linear(x, torch.add(base.weight, update, alpha=layer.scaling[self.name]), base.bias)


def _is_foldable(layer: Linear) -> bool:
    base, names = layer.base_layer, layer.active_adapters
    if type(base) is not nn.Linear or base.weight.numel() > _SMALL or base.weight.dtype is not torch.float32:
        return False
    if len(names) != 1 or layer.fan_in_fan_out or layer.lora_variant or layer.lora_bias[names[0]]:
        return False
    return isinstance(layer.lora_dropout[names[0]], nn.Identity)
