"""LoRA layers of small models as one matrix product: W + s·B·A is cheap to form where W is small.

PEFT computes W·x + s·B·(A·x), whose extra passes over the activations cost a tiny model a fifth of its time. The
function and its gradients are the same up to rounding; in bfloat16 the sum would round the update away, so only
float32 is folded.
"""

from __future__ import annotations

from typing import Any

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
        layer.forward = _Folded(layer)  # type: ignore[method-assign]
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
        down, up = layer.lora_A[self.name].weight, layer.lora_B[self.name].weight
        y = _Product.apply(x, base.weight, down, up, layer.scaling[self.name])
        return y if base.bias is None else y + base.bias


class _Product(torch.autograd.Function):
    """x ↦ (W + s·B·A)·x with W frozen. The factors' gradients go through the rank, so that no gradient of the size
    of W is ever formed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
        """x [..., in], W [out, in], A [r, in], B [out, r] -> [..., out]."""
        folded = torch.addmm(weight, up, down, alpha=scale)
        ctx.save_for_backward(x, folded, down, up)
        ctx.scale = scale
        return F.linear(x, folded)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, Tensor, Tensor, None]:
        """Gradients of x, A and B."""
        x, folded, down, up = ctx.saved_tensors
        rows, g = x.flatten(0, -2), gradient.flatten(0, -2)
        for_x = gradient @ folded if ctx.needs_input_grad[0] else None
        for_down = (g @ up).t() @ rows
        for_up = g.t() @ (rows @ down.t())
        return for_x, None, ctx.scale * for_down, ctx.scale * for_up, None


def _is_foldable(layer: Linear) -> bool:
    base, names = layer.base_layer, layer.active_adapters
    if type(base) is not nn.Linear or base.weight.numel() > _SMALL or base.weight.dtype is not torch.float32:
        return False
    if len(names) != 1 or layer.fan_in_fan_out or layer.lora_variant or layer.lora_bias[names[0]]:
        return False
    return isinstance(layer.lora_dropout[names[0]], nn.Identity)
