"""Keys and values kept for later turns: which rows hold which tokens, and the store of finished sequences."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Tokens = npt.NDArray[np.int32]


class TokenTable:
    """Token sequences under small integer handles, searched for the longest shared prefix.

    The search compares every sequence at once: with a few hundred of them it takes some tens of µs, and unlike a table
    of block hashes it finds a prefix of any length.
    """

    def __init__(self, rows: int = 16, width: int = 128) -> None:
        self._tokens = np.zeros((rows, width), np.int32)
        self._lengths = np.zeros(rows, np.int64)
        self._kinds = np.full(rows, -1, np.int64)

    def put(self, row: int, kind: int, tokens: Tokens) -> None:
        """Let `row` hold `tokens`, of the given kind (only sequences of one kind share prefixes)."""
        self._reserve(row + 1, len(tokens))
        self._tokens[row, : len(tokens)] = tokens
        self._lengths[row] = len(tokens)
        self._kinds[row] = kind

    def clear(self, row: int) -> None:
        """Let `row` hold nothing."""
        self._kinds[row] = -1

    def longest_prefix(self, kind: int, tokens: Tokens) -> tuple[int, int]:
        """The row that shares the longest prefix with `tokens`, and its length; (-1, 0) where none shares any."""
        width = min(len(tokens), self._tokens.shape[1])
        if not width or not len(self._kinds):
            return -1, 0
        differ = self._tokens[:, :width] != tokens[:width]
        first = differ.argmax(1)
        first[~differ[np.arange(len(first)), first]] = width  # No difference at all, which argmax reports as place 0.
        shared = np.where(self._kinds == kind, np.minimum(first, self._lengths), 0)
        best = int(shared.argmax())
        return (best, int(shared[best])) if shared[best] else (-1, 0)

    def _reserve(self, rows: int, width: int) -> None:
        have_rows, have_width = self._tokens.shape
        if rows <= have_rows and width <= have_width:
            return
        more_rows = 0 if rows <= have_rows else max(rows, 2 * have_rows) - have_rows
        more_width = 0 if width <= have_width else max(width, 2 * have_width) - have_width
        self._tokens = np.pad(self._tokens, ((0, more_rows), (0, more_width)))
        self._lengths = np.pad(self._lengths, (0, more_rows))
        self._kinds = np.pad(self._kinds, (0, more_rows), constant_values=-1)


@dataclass(frozen=True)
class Entry:
    """A finished sequence."""

    handle: int
    """Its row in the token table."""
    kind: int
    length: int
    kv: Tensor
    """[layers, 2, K, length, D]."""


class PrefixCache:
    """Finished sequences' keys and values, the least recently used dropped beyond a bound on bytes and number."""

    def __init__(self, max_bytes: int, max_entries: int) -> None:
        self.max_bytes, self.max_entries = max_bytes, max_entries
        self.bytes = 0
        self._table = TokenTable()
        self._entries: OrderedDict[int, Entry] = OrderedDict()
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, kind: int, tokens: Tokens) -> tuple[Entry | None, int]:
        """The entry that shares the longest prefix with `tokens`, and the prefix's length."""
        handle, length = self._table.longest_prefix(kind, tokens)
        if handle < 0:
            return None, 0
        self._entries.move_to_end(handle)
        return self._entries[handle], length

    def add(self, kind: int, tokens: Tokens, kv: Tensor, replaces: Entry | None) -> None:
        """Keep a sequence; `replaces` is an entry that it extends, which it makes needless."""
        if replaces is not None and self._entries.get(replaces.handle) is replaces:
            self._drop(replaces.handle)
        size = kv.numel() * kv.element_size()
        if size > self.max_bytes or not self.max_entries:
            return
        while self._entries and (self.bytes + size > self.max_bytes or len(self._entries) >= self.max_entries):
            self._drop(next(iter(self._entries)))
        handle = self._free.pop() if self._free else len(self._entries)
        self._table.put(handle, kind, tokens)
        self._entries[handle] = Entry(handle, kind, len(tokens), kv.contiguous())
        self.bytes += size

    def forget(self, kinds: Collection[int]) -> None:
        """Drop the sequences of these kinds."""
        for handle in [handle for handle, entry in self._entries.items() if entry.kind in kinds]:
            self._drop(handle)

    def _drop(self, handle: int) -> None:
        entry = self._entries.pop(handle)
        self.bytes -= entry.kv.numel() * entry.kv.element_size()
        self._table.clear(handle)
        self._free.append(handle)


class Workspace:
    """Keys and values of the rows that are being computed, dense from row 0, and grown as needed."""

    def __init__(self, new_kv: Callable[[int, int], Tensor]) -> None:
        """`new_kv(rows, capacity)` makes a zeroed store."""
        self._new_kv = new_kv
        self.kv = new_kv(16, 256)
        """[layers, 2, rows, K, capacity, D]."""

    def fits(self, rows: int, capacity: int) -> bool:
        """There is room for `rows` sequences of `capacity` tokens."""
        return rows <= self.kv.shape[2] and capacity <= self.kv.shape[4]

    def grow(self, rows: int, capacity: int, lengths: Sequence[int]) -> None:
        """Make room, doubling it; `lengths` are the positions in use of the first rows, which are kept."""
        have_rows, have_capacity = self.kv.shape[2], self.kv.shape[4]
        while have_rows < rows:
            have_rows *= 2
        while have_capacity < capacity:
            have_capacity *= 2
        old, self.kv = self.kv, self._new_kv(have_rows, have_capacity)
        # Only what is in use is copied: pages of the rest stay untouched, and take no memory.
        for row, length in enumerate(lengths[: old.shape[2]]):
            self.kv[:, :, row, :, :length] = old[:, :, row, :, :length]

    def read(self, row: int, length: int) -> Tensor:
        """A copy of the first `length` keys and values of `row`: [layers, 2, K, length, D]."""
        return self.kv[:, :, row, :, :length].clone(memory_format=torch.contiguous_format)

    def write(self, row: int, kv: Tensor, length: int) -> None:
        """Begin `row` with the first `length` positions of `kv` [layers, 2, K, at least length, D]."""
        self.kv[:, :, row, :, :length] = kv[:, :, :, :length]

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of a row to another."""
        self.kv[:, :, target, :, :length] = self.kv[:, :, source, :, :length]

    def clear(self, row: int) -> None:
        """Zero a row."""
        self.kv[:, :, row] = 0
