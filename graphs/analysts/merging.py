"""Merging what discovery found in its parts into one dictionary: in rounds, where one request is too small."""

from __future__ import annotations

from collections.abc import Sequence

from graphs.analysts.batches import fill
from graphs.analysts.mind import Mind
from trace_agents.analysis.analyst import Discovered
from trace_agents.analysis.compaction import CHARS_PER_TOKEN, cut, tokens
from trace_agents.analysis.requests import Proposed, Request, make_request, merge_schema, proposals
from trace_agents.types import Capability

ENTRY_TOKENS = 250
"""Tokens that a dictionary entry takes in an answer."""
FRAME_TOKENS = 24
"""Tokens of a candidate in a merging request besides its title and description, and of what is said of a cut."""
EXAMPLES = 4
"""Example trajectories kept for a capability."""
LEAST_CHARS = 40
"""Characters kept of a candidate's description, however small the context."""

Part = Sequence[Discovered]


async def merged(mind: Mind, parts: Sequence[Part], context_tokens: int, most: int) -> Part:
    """The canonical dictionary of at most `most` entries; what a single part gave is canonical as it is.

    Parts that are too many for one request of `context_tokens` are merged in groups, and the outcomes merged again.
    """
    parts = [part for part in parts if part] or [[]]
    while len(parts) > 1:
        budget = context_tokens - _around(most)
        parts = [await _one(mind, group, budget, most) for group in _groups(parts, budget)]
    return list(parts[0])


def _groups(parts: Sequence[Part], budget: int) -> list[Sequence[Part]]:
    """Consecutive parts that fit one request: two at least, but for a last one alone, which the next round takes."""
    costs = [min(sum(_cost(entry, None) for entry in part), budget // 2) for part in parts]
    groups, start = [], 0
    for size in fill(costs, budget, None):
        groups.append(parts[start : start + size])
        start += size
    return groups


async def _one(mind: Mind, parts: Sequence[Part], budget: int, most: int) -> Part:
    if len(parts) == 1:
        return parts[0]
    found = [entry for part in parts for entry in part]
    answer = await mind.ask(_request(parts, _chars(found, budget), most))
    return [
        _joined(name, entry, [found[number - 1] for number in entry.merges])
        for name, entry in proposals(answer).items()
    ]


def _request(parts: Sequence[Part], chars: int | None, most: int) -> Request:
    found = [(number, entry) for number, part in enumerate(parts, start=1) for entry in part]
    candidates = [
        {
            "title": entry.capability.title,
            "description": _shown(entry, chars),
            "part": number,
            "examples": len(entry.examples),
        }
        for number, entry in found
    ]
    about = f"one dictionary from {len(found)} candidates of {len(parts)} parts"
    schema = merge_schema(len(found), most)
    return make_request("merge", about, schema, candidates=candidates, parts=len(parts), most=most)


def _around(most: int) -> int:
    """Tokens of a merging request without its candidates, and of its answer."""
    empty = make_request("merge", "", merge_schema(999, most), candidates=[], parts=999, most=most)
    return tokens(empty.prompt) + most * ENTRY_TOKENS


def _chars(found: Sequence[Discovered], budget: int) -> int | None:
    """Most characters of a description with which the candidates fit the budget; None where all fit whole."""
    if sum(_cost(entry, None) for entry in found) <= budget:
        return None
    free = budget - sum(_cost(entry, 0) for entry in found)
    return max(LEAST_CHARS, free // len(found) * CHARS_PER_TOKEN)


def _cost(entry: Discovered, chars: int | None) -> int:
    return FRAME_TOKENS + tokens(entry.capability.title) + tokens(entry.capability.description[:chars])


def _shown(entry: Discovered, chars: int | None) -> str:
    return entry.capability.description if chars is None else cut(entry.capability.description, chars)


def discovered(name: str, entry: Proposed, examples: tuple[str, ...]) -> Discovered:
    """A dictionary entry as a mind proposed it."""
    capability = Capability(name=name, title=entry.title, description=entry.description)
    return Discovered(capability=capability, examples=examples)


def _joined(name: str, entry: Proposed, found: Sequence[Discovered]) -> Discovered:
    examples = dict.fromkeys(one for turn in _in_turn(found) for one in turn)
    titles = dict.fromkeys(title for one in found for title in (one.capability.title, *one.merged))
    number = sum(one.figures.get("candidates_merged", 1.0) for one in found)
    made = discovered(name, entry, tuple(examples)[:EXAMPLES])
    others = tuple(title for title in titles if title != entry.title)
    return made.model_copy(update={"merged": others, "figures": {"candidates_merged": number}})


def _in_turn(found: Sequence[Discovered]) -> list[list[str]]:
    """First examples of all, then second ones, and so on."""
    longest = max((len(one.examples) for one in found), default=0)
    return [[one.examples[place] for one in found if place < len(one.examples)] for place in range(longest)]
