"""What a user's words ask to be compared or added up, in English: superlatives, their rank, totals."""

from __future__ import annotations

import re
from collections.abc import Collection

_NOT_TEXT = """
    arrest chest contest digest divest east est fest forest guest harvest honest interest invest jest lest manifest
    midwest modest nest northeast northwest pest priest protest quest request rest southeast southwest suggest test
    vest west zest
"""
_NO_SUPERLATIVES = frozenset(_NOT_TEXT.split())
_SUPERLATIVE = re.compile(r"(?<= )(?:(?<! at )(?:most|least) ([a-z]{4,})|([a-z]+est)|minimum|maximum)(?= )")
_ORDINALS = {"second": 2, "2nd": 2, "third": 3, "3rd": 3, "fourth": 4, "4th": 4}
_TOTALS = (" total ", " in all ", " altogether ", " sum of ", " combined ", " overall ", " add up ", " all together ")


def superlatives(padded: str) -> frozenset[str]:
    """Superlatives in padded words, in English: `cheapest`, `most expensive`, `maximum`."""
    found = (match for match in _SUPERLATIVE.finditer(padded))
    return frozenset(match[0] for match in found if match[2] not in _NO_SUPERLATIVES)


def asked_rank(padded: str, terms: Collection[str]) -> int | None:
    """1 where padded words ask for the first by one of the superlatives, 2 for "the second cheapest"; None for none."""
    for term in terms:
        before, said, _ = padded.partition(f" {term} ")
        if said:
            return _ORDINALS.get(before.rpartition(" ")[2], 1)
    return None


def asks_for_total(padded: str) -> bool:
    """Whether padded words ask for a sum, in English."""
    return any(word in padded for word in _TOTALS)
