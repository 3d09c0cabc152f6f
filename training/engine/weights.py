"""A causal language model's weights, fused and laid out for batched generation on a CPU.

Axes: d width, D head size, Q query heads, K key/value heads, I inner width of the feed-forward, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging as hf_logging

from trace_agents.errors import UsageError

ARCHITECTURES = ("Qwen3ForCausalLM", "Qwen2ForCausalLM", "LlamaForCausalLM")
"""Transformers classes whose decoder layer is the one that `decoder.Decoder` computes."""

_FIXED_ROPE = ("default", "linear", "llama3", "yarn")
"""Rotary variants whose frequencies do not depend on the length of the sequence."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a model."""

    layers: int
    width: int
    query_heads: int
    kv_heads: int
    head: int
    """Elements of one attention head."""
    inner: int
    """Inner width of the feed-forward block."""
    vocab: int
    max_context: int
    """Positions that the model was built for."""
    eps: float
    """Of every RMS norm."""
    qk_norm: bool
    """Queries and keys are RMS-normalised per head (Qwen3)."""

    @property
    def kv_bytes(self) -> int:
        """Elements of keys and values that one token takes over all layers."""
        return 2 * self.layers * self.kv_heads * self.head

    @property
    def modules(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of each linear module of a layer that an adapter may target."""
        q, kv = self.query_heads * self.head, self.kv_heads * self.head
        return {
            "q_proj": (self.width, q),
            "k_proj": (self.width, kv),
            "v_proj": (self.width, kv),
            "o_proj": (q, self.width),
            "gate_proj": (self.width, self.inner),
            "up_proj": (self.width, self.inner),
            "down_proj": (self.inner, self.width),
        }


FUSED: dict[str, tuple[str, ...]] = {
    "qkv": ("q_proj", "k_proj", "v_proj"),
    "o": ("o_proj",),
    "gate_up": ("gate_proj", "up_proj"),
    "down": ("down_proj",),
}
"""Modules that read the same input are one matrix product; the order is the order of the outputs."""


@dataclass(frozen=True)
class Linear:
    """`x @ weight + bias`, with the weight stored [in, out]: on a CPU that order saves a fifth of small products."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        y = matmul(x, self.weight)
        return y if self.bias is None else y.add_(self.bias)


def matmul(x: Tensor, weight: Tensor) -> Tensor:
    """`x @ weight` for ragged batches.

    In float32 a row's result does not depend on how many rows there are: a single one, which would take another
    kernel and be rounded differently, is computed twice. In bfloat16 rows are padded to a multiple of 16, because
    each new shape costs the library more than the product.
    """
    rows = x.shape[0]
    if x.dtype == torch.float32:
        return torch.mm(x, weight) if rows > 1 else torch.mm(torch.cat((x, x)), weight)[:1]
    return torch.mm(F.pad(x, (0, 0, 0, -rows % 16)), weight)[:rows]


@dataclass(frozen=True)
class Layer:
    """One decoder layer."""

    attention_norm: Tensor
    linears: dict[str, Linear]
    """By fused name: qkv [d, (Q + 2K)·D], o, gate_up [d, 2I], down."""
    head_gain: Tensor
    """[Q + K, D]: gains of the query and key norms, the attention scale folded into the queries'."""
    mlp_norm: Tensor


@dataclass(frozen=True)
class Weights:
    """A whole model."""

    name: str
    """Name under which requests address the model."""
    aliases: frozenset[str]
    """Names under which an adapter's configuration may speak of it: this one, and those of its folder and origin."""
    shape: Shape
    dtype: torch.dtype
    embedding: Tensor
    """[V, d]."""
    layers: tuple[Layer, ...]
    norm: Tensor
    head: Tensor
    """[d, V]: the output projection."""
    cos: Tensor
    """[max_context, 1, D]: rotary cosines."""
    sin: Tensor
    """[max_context, 1, D]: rotary sines, negated on the first half, for `x·cos + roll(x, D/2)·sin`."""


def load_weights(path: str | Path, dtype: torch.dtype, name: str | None = None) -> Weights:
    """Read a model folder in transformers format.

    Raises:
        UsageError: no model there, or an architecture that the engine does not compute.
    """
    folder = Path(path)
    if not (folder / "config.json").is_file():
        raise UsageError(f"model folder {str(path)!r} has no config.json: give a folder in transformers format")
    check_supported(AutoConfig.from_pretrained(str(folder)), str(path))
    try:
        with _no_progress_bar():
            model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32)
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"model folder {str(path)!r} does not load ({error}): check its safetensors files") from error
    return fuse(model, dtype, name or folder.resolve().name, folder)


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    shown = hf_logging.is_progress_bar_enabled()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            hf_logging.enable_progress_bar()


def check_supported(config: Any, source: str) -> None:
    """Refuse, by name, what the decoder would compute wrongly.

    Raises:
        UsageError: the architecture, or an option of it, is not supported.
    """
    architecture = (getattr(config, "architectures", None) or ["unstated"])[0]
    if architecture not in ARCHITECTURES:
        raise UsageError(
            f"model {source!r} has architecture {architecture!r}: the embedded engine runs {', '.join(ARCHITECTURES)}; "
            "serve another one with vLLM and give its URL"
        )
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    refused = {
        "rope_type": (rope, rope in _FIXED_ROPE),
        "hidden_act": (config.hidden_act, config.hidden_act == "silu"),
        "sliding attention": (True, "sliding_attention" not in (getattr(config, "layer_types", None) or ())),
    }
    for option, (value, fine) in refused.items():
        if not fine:
            raise UsageError(
                f"model {source!r} has {option} {value!r}, which the embedded engine lacks: serve it with vLLM"
            )


def fuse(model: PreTrainedModel, dtype: torch.dtype, name: str, folder: Path | None = None) -> Weights:
    """Copy `model`'s weights into the engine's layout; the model may be freed or trained on afterwards."""
    config = model.config
    check_supported(config, name)
    origins = [path.resolve().name for path in (folder, Path(model.name_or_path or name)) if path is not None]
    shape = _shape(config)
    rotary = model.model.rotary_emb
    angles = torch.arange(shape.max_context).float()[:, None] * rotary.inv_freq.float()
    cos = torch.cat((angles, angles), -1).cos() * rotary.attention_scaling
    sin = torch.cat((-angles, angles), -1).sin() * rotary.attention_scaling

    def copy(tensor: Tensor) -> Tensor:
        return tensor.detach().to(dtype, copy=True).contiguous()

    with torch.no_grad():
        return Weights(
            name=name,
            aliases=frozenset((name, *origins)),
            shape=shape,
            dtype=dtype,
            embedding=copy(model.model.embed_tokens.weight),
            layers=tuple(_layer(layer, shape, copy) for layer in model.model.layers),
            norm=copy(model.model.norm.weight),
            head=copy(model.get_output_embeddings().weight.t()),
            cos=copy(cos[:, None]),
            sin=copy(sin[:, None]),
        )


def _shape(config: Any) -> Shape:
    return Shape(
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        query_heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        inner=config.intermediate_size,
        vocab=config.vocab_size,
        max_context=config.max_position_embeddings,
        eps=config.rms_norm_eps,
        qk_norm=config.architectures[0] == "Qwen3ForCausalLM",
    )


def _layer(layer: Any, shape: Shape, copy: Callable[[Tensor], Tensor]) -> Layer:
    modules = {
        name: getattr(owner, name)
        for owner in (layer.self_attn, layer.mlp)
        for name in shape.modules
        if hasattr(owner, name)
    }
    attention, scale = layer.self_attn, shape.head**-0.5
    ones = torch.ones(shape.head)
    query_gain, key_gain = (attention.q_norm.weight, attention.k_norm.weight) if shape.qk_norm else (ones, ones)
    gain = torch.cat((query_gain.expand(shape.query_heads, -1) * scale, key_gain.expand(shape.kv_heads, -1)))
    return Layer(
        attention_norm=copy(layer.input_layernorm.weight),
        linears={name: _fused([modules[part] for part in parts], copy) for name, parts in FUSED.items()},
        head_gain=copy(gain),
        mlp_norm=copy(layer.post_attention_layernorm.weight),
    )


def _fused(parts: list[torch.nn.Linear], copy: Callable[[Tensor], Tensor]) -> Linear:
    weights: list[Tensor] = [part.weight for part in parts]
    weight = copy(torch.cat(weights).t())
    if all(part.bias is None for part in parts):
        return Linear(weight, None)
    biases: list[Tensor] = [
        part.weight.new_zeros(part.out_features) if part.bias is None else part.bias for part in parts
    ]
    return Linear(weight, copy(torch.cat(biases)))
