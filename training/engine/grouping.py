"""Which sequences have their attention computed together, so that short ones do not pay for long ones."""

from __future__ import annotations

from collections.abc import Sequence

_ALIKE = 0.6
"""Sequences are alike down to this share of the longest one's length..."""
_SLACK = 64
"""...or to this many tokens less."""
_GROUP = 400
"""Keys whose reading takes as long as one more group's fixed work."""


def alike(sizes: Sequence[int]) -> list[list[int]]:
    """Indices of `sizes` in classes of like size, the largest first."""
    classes: list[list[int]] = []
    for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
        largest = sizes[classes[-1][0]] if classes else 0
        if not classes or sizes[index] < min(_ALIKE * largest, largest - _SLACK):
            classes.append([])
        classes[-1].append(index)
    return classes


def split(lengths: Sequence[int], places: int) -> tuple[list[int], list[int]]:
    """How to compute one token each of rows of the given lengths in a store of `places` rows.

    Returns the rows to be computed each on its own, the longest ones, and the rest, to be computed together in place
    with whatever else stands in the store: the choice that reads the fewest keys. Rows are never copied out of the
    store for this; copying a row costs more than reading it.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    best, cut, alone = places * lengths[order[0]], 0, 0
    for count, index in enumerate(order, start=1):
        alone += _GROUP + lengths[index]
        cost = alone + (places * lengths[order[count]] if count < len(order) else 0)
        if cost < best:
            best, cut = cost, count
    return order[:cut], order[cut:]
