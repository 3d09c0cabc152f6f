"""Which sequences have their attention computed together, so that short ones do not pay for long ones."""

from __future__ import annotations

from collections.abc import Sequence

_ALIKE = 0.6
"""Sequences are alike down to this share of the longest one's length..."""
_SLACK = 64
"""...or to this many tokens less."""
_COPYING = 3
"""Cost per key of rows that are copied out of the store first, where rows read in place cost 1."""
_GROUP = 1000
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


def split(lengths: Sequence[int], places: int) -> tuple[list[list[int]], list[int]]:
    """How to compute one token each of rows of the given lengths in a store of `places` rows.

    Returns classes of long rows, to be copied out and computed apart, and the rest, to be computed in place together
    with whatever else stands in the store: a choice of the least keys read.
    """
    classes = alike(lengths)
    tops = [lengths[members[0]] for members in classes]
    apart, costs = 0, []
    for members, top in zip(classes, tops, strict=True):
        costs.append(apart + places * top)
        apart += _GROUP + _COPYING * len(members) * top
    costs.append(apart)
    cut = min(range(len(costs)), key=costs.__getitem__)
    return classes[:cut], [index for members in classes[cut:] for index in members]
