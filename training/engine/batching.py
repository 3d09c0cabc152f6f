"""Composing one step's batch from the rows in the workspace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from training.engine.decoder import Batch, Decoder, Group, decode_group, prompt_group
from training.engine.grouping import alike, split
from training.engine.requests import Request, Row

Place = tuple[Request, Row]
"""A row of the workspace that is in use, and whose it is."""


@dataclass(frozen=True)
class Reading:
    """A row that reads in a part of its prompt."""

    request: Request
    row: Row
    stop: int
    """Position that it reads up to; it begins at the row's length."""

    @property
    def count(self) -> int:
        """New tokens."""
        return self.stop - self.row.length


@dataclass(frozen=True)
class Plan:
    """One step's work."""

    batch: Batch
    reading: Sequence[Reading]
    """In the order of the batch's first tokens."""
    feeding: Sequence[Place]
    """Rows fed one token, in the order of the batch's last tokens."""


def plan(places: Sequence[Place], max_prompt_tokens: int, decoder: Decoder) -> Plan:
    """The batch of the next step of the rows in `places`, which stand in the workspace in this order.

    Rows read in their prompts up to the last token, as many tokens as `max_prompt_tokens` allows. A request of which
    every row has read, or reads in this step, is fed its last token: its keys are in place before any is looked up.
    """
    reading = _reading(places, max_prompt_tokens)
    until = {id(each.row): each.stop for each in reading}
    ready = {
        id(request)
        for request, _ in places
        if all(until.get(id(row), row.length) >= request.position for row in request.rows)
    }
    reading, groups = _prompt_groups(reading, decoder)
    feeding = [place for place in places if id(place[0]) in ready]
    feeding, feeding_groups = _feeding_groups(feeding, len(places), sum(each.count for each in reading), decoder)
    return Plan(_batch(reading, feeding, [*groups, *feeding_groups]), reading, feeding)


def _batch(reading: Sequence[Reading], feeding: Sequence[Place], groups: Sequence[Group]) -> Batch:
    tokens = [each.request.prompt[each.row.length : each.stop] for each in reading]
    rows = [np.full(each.count, each.row.index) for each in reading]
    positions = [np.arange(each.row.length, each.stop) for each in reading]
    fed = [(request.last, row.index, request.position) for request, row in feeding]
    last = np.array(fed, np.int64).reshape(-1, 3)
    return Batch(
        tokens=torch.from_numpy(np.concatenate([*tokens, last[:, 0]])),
        rows=torch.from_numpy(np.concatenate([*rows, last[:, 1]])),
        positions=torch.from_numpy(np.concatenate([*positions, last[:, 2]])),
        groups=groups,
    )


def _reading(places: Sequence[Place], budget: int) -> list[Reading]:
    reading = []
    for request, row in places:
        stop = min(len(request.prompt) - 1, row.length + budget)
        if not request.tokens and stop > row.length:
            reading.append(Reading(request, row, stop))
            budget -= stop - row.length
    return reading


def _prompt_groups(reading: Sequence[Reading], decoder: Decoder) -> tuple[list[Reading], list[Group]]:
    """`reading` reordered, and its groups: rows with like numbers of new tokens and of keys."""
    ordered: list[Reading] = []
    groups: list[Group] = []
    for by_new in alike([each.count for each in reading]):
        for by_keys in alike([reading[index].stop for index in by_new]):
            members = sorted((reading[by_new[index]] for index in by_keys), key=lambda each: each.row.index)
            spans = [(each.row.length, each.stop) for each in members]
            first = groups[-1].last if groups else 0
            rows = [each.row.index for each in members]
            groups.append(prompt_group(first, rows, spans, decoder.queries, decoder.weights.dtype))
            ordered += members
    return ordered, groups


def _feeding_groups(
    feeding: Sequence[Place], store: int, first: int, decoder: Decoder
) -> tuple[list[Place], list[Group]]:
    """`feeding` reordered, and its groups: long rows one by one, all others together in place."""
    if not feeding:
        return [], []
    ordered: list[Place] = []
    groups: list[Group] = []
    apart, together = split([request.position + 1 for request, _ in feeding], store)
    for indices in [*([index] for index in apart), together]:
        if indices:
            members = sorted((feeding[index] for index in indices), key=lambda place: place[1].index)
            rows = [row.index for _, row in members]
            positions = [request.position for request, _ in members]
            in_place = store if indices is together else None
            groups.append(decode_group(first + len(ordered), rows, positions, in_place, decoder.weights.dtype))
            ordered += members
    return ordered, groups
