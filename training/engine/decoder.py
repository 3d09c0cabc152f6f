"""The forward pass: ragged batches of new tokens over a preallocated key/value store.

Axes: N new tokens of the whole batch, R rows (sequences) of one attention group, L padded new tokens per row,
T keys, M queries per key/value head, G query heads per key/value head; d, D, Q, K, V as in `weights`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from training.engine.lora import LoraBatch
from training.engine.weights import Layer, Weights, matmul

KEY_STEP = 16
"""Keys are read in multiples of this, so that a row's result does not depend on the lengths of its neighbours."""

_ALIGNED = 64
"""Bytes to which key/value stores are aligned: a cache line."""


@dataclass(frozen=True)
class Group:
    """Rows whose attention is computed together: all that decode, or some that read in a prompt."""

    first: int
    last: int
    """Their new tokens are `first:last` of the batch."""
    rows: slice | Tensor
    """Their rows of the key/value store."""
    keys: int
    """T: keys read, a bound on every row's length."""
    mask: Tensor
    """[R, 1, M or 1, T], added to the scores: 0 where the query may look, else minus infinity."""
    scatter: Tensor | None = None
    """[last - first]: the place of each new token in the padded [R·L]; None where there is one for every row."""
    padded: int = 1
    """L."""


@dataclass(frozen=True)
class Batch:
    """New tokens of many sequences, and where they go."""

    tokens: Tensor
    """[N] token ids."""
    positions: Tensor
    """[N] positions, from 0."""
    rows: Tensor
    """[N] row of the key/value store."""
    groups: Sequence[Group]
    """They cover the tokens, in order."""


class Decoder:
    """Computes hidden states and logits of a `Weights`. Holds no sequence state."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.shape = weights.shape
        self.queries = self.shape.query_heads // self.shape.kv_heads

    def new_kv(self, rows: int, capacity: int) -> Tensor:
        """A key/value store [layers, 2, rows, K, capacity, D], zeroed: masked keys must at least be finite."""
        shape, dtype = self.shape, self.weights.dtype
        size = (shape.layers, 2, rows, shape.kv_heads, capacity, shape.head)
        count = math.prod(size) * dtype.itemsize
        # NumPy's zeros, unlike torch's, are pages that take no memory until they are written.
        pages = np.zeros(count + _ALIGNED, np.uint8)
        start = -pages.ctypes.data % _ALIGNED
        return torch.from_numpy(pages[start : start + count]).view(dtype).view(size)

    def hidden(self, batch: Batch, kv: Tensor, lora: LoraBatch | None, wanted: slice) -> Tensor:
        """Final-norm hidden states [W, d] of the `wanted` tokens; writes every new token's keys and values to `kv`."""
        weights, eps = self.weights, self.shape.eps
        x = weights.embedding[batch.tokens]
        cos, sin = weights.cos[batch.positions], weights.sin[batch.positions]
        for index, layer in enumerate(weights.layers):
            normed = F.rms_norm(x, (self.shape.width,), layer.attention_norm, eps)
            heads = self._heads(self._linear(layer, index, "qkv", normed, lora), layer, cos, sin)
            attended = self._attention(heads, batch, kv[index])
            x = x + self._linear(layer, index, "o", attended, lora)
            normed = F.rms_norm(x, (self.shape.width,), layer.mlp_norm, eps)
            inner = self._linear(layer, index, "gate_up", normed, lora)
            gate, up = inner.split(self.shape.inner, -1)
            x = x + self._linear(layer, index, "down", F.silu(gate).mul_(up), lora)
        return F.rms_norm(x[wanted], (self.shape.width,), weights.norm, eps)

    def logits(self, hidden: Tensor) -> Tensor:
        """float32 [W, V] of `hidden` [W, d]."""
        return matmul(hidden, self.weights.head).float()

    @staticmethod
    def _linear(layer: Layer, index: int, name: str, x: Tensor, lora: LoraBatch | None) -> Tensor:
        y = layer.linears[name](x)
        return y if lora is None else lora.add(index, name, x, y)

    def _heads(self, qkv: Tensor, layer: Layer, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [N, Q, D] (scaled), keys and values [N, K, D], normalised and rotated."""
        shape = self.shape
        heads = qkv.view(qkv.shape[0], -1, shape.head)
        turned, values = heads.split((shape.query_heads + shape.kv_heads, shape.kv_heads), 1)
        if shape.qk_norm:
            turned = F.rms_norm(turned, (shape.head,), None, shape.eps)
        turned = turned * layer.head_gain
        turned = torch.addcmul(turned * cos, torch.roll(turned, shape.head // 2, -1), sin)
        queries, keys = turned.split((shape.query_heads, shape.kv_heads), 1)
        return queries, keys, values

    def _attention(self, heads: tuple[Tensor, Tensor, Tensor], batch: Batch, kv: Tensor) -> Tensor:
        """[N, Q·D]; `kv` is this layer's [2, rows, K, capacity, D]."""
        queries, keys, values = heads
        kv[0][batch.rows, :, batch.positions] = keys
        kv[1][batch.rows, :, batch.positions] = values
        # All of the batch's keys are in place before any is read, so a prompt's last token may sit in another group.
        outs = [self._attend(queries[group.first : group.last], group, kv) for group in batch.groups]
        return outs[0] if len(outs) == 1 else torch.cat(outs)

    def _attend(self, queries: Tensor, group: Group, kv: Tensor) -> Tensor:
        shape, per = self.shape, self.queries
        keys, values = kv[0][group.rows, :, : group.keys], kv[1][group.rows, :, : group.keys]
        if group.scatter is None:
            q = queries.reshape(-1, shape.kv_heads, per, shape.head)
            return self._softmax_average(q, keys, values, group.mask).reshape(queries.shape[0], -1)
        rows, length = keys.shape[0], group.padded
        padded = queries.new_zeros(rows * length, shape.query_heads, shape.head).index_copy_(0, group.scatter, queries)
        q = padded.view(rows, length, shape.kv_heads, per, shape.head).permute(0, 2, 3, 1, 4)
        q = q.reshape(rows, shape.kv_heads, per * length, shape.head)
        out = self._softmax_average(q, keys, values, group.mask).view(rows, shape.kv_heads, per, length, shape.head)
        return out.permute(0, 3, 1, 2, 4).reshape(rows * length, -1)[group.scatter]

    def _softmax_average(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Attention over [R, K, M, D] queries, already scaled, and [R, K, T, D] keys and values."""
        if queries.dtype != torch.float32:
            return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=1.0)
        # In float32 the plain products are faster than the fused kernel at these sizes.
        scores = torch.bmm(queries.flatten(0, 1), keys.flatten(0, 1).transpose(1, 2))
        scores.view(*queries.shape[:3], -1).add_(mask)
        return torch.bmm(torch.softmax(scores, -1), values.flatten(0, 1)).view(queries.shape)


def decode_group(
    first: int, rows: Sequence[int], positions: Sequence[int], store: int | None, dtype: torch.dtype
) -> Group:
    """The group of `rows`, in rising order, that get one token each, at `positions`.

    With `store`, the number of rows in the store, they are computed in place: the other rows in between are computed
    too, and left out of the result, which is cheaper than to copy these.
    """
    where = torch.tensor(positions)
    keys = _round_up(max(positions) + 1)
    last = first + len(rows)
    if store is None or store == len(rows):
        return Group(first, last, _index(rows), keys, _mask(where[:, None], keys, dtype))
    scatter = torch.tensor(rows)
    everywhere = torch.zeros(store, dtype=torch.long).index_copy_(0, scatter, where)
    return Group(first, last, slice(0, store), keys, _mask(everywhere[:, None], keys, dtype), scatter)


def _index(rows: Sequence[int]) -> slice | Tensor:
    """Rising row numbers as a slice where they have no gaps: a slice is read in place."""
    if rows[-1] - rows[0] == len(rows) - 1:
        return slice(rows[0], rows[-1] + 1)
    return torch.tensor(rows)


def prompt_group(
    first: int, rows: Sequence[int], spans: Sequence[tuple[int, int]], queries: int, dtype: torch.dtype
) -> Group:
    """The group of `rows`, in rising order, that read in the positions `spans` (start, stop) of their prompts.

    `queries` is G, the query heads that share a key/value head.
    """
    lengths = torch.tensor([stop - start for start, stop in spans])
    padded = max(2, int(lengths.max()))  # One query takes another matrix kernel, which rounds differently.
    starts = torch.tensor([start for start, _ in spans])
    offsets = torch.arange(padded)
    within = offsets[None] < lengths[:, None]
    positions = starts[:, None] + torch.minimum(offsets[None], lengths[:, None] - 1)
    keys = _round_up(max(stop for _, stop in spans))
    mask = _mask(positions, keys, dtype).repeat(1, 1, queries, 1)
    scatter = torch.nonzero(within.flatten()).flatten()
    return Group(first, first + len(scatter), _index(rows), keys, mask, scatter, padded)


def _mask(positions: Tensor, keys: int, dtype: torch.dtype) -> Tensor:
    """[R, 1, L, T] additive causal mask of queries at `positions` [R, L]."""
    allowed = torch.arange(keys) <= positions[..., None]
    return torch.zeros((), dtype=dtype).where(allowed, float("-inf"))[:, None]


def _round_up(keys: int) -> int:
    return -(-keys // KEY_STEP) * KEY_STEP
