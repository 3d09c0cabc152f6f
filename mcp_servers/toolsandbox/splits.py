"""Upstream's categories as splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trace_agents.types import TaskInstance

BASE = "base"
"""The scenarios with no more tools than they need."""
OFFLINE = "offline"
"""Those of `base` that need no RapidAPI."""
ALL = "all"
PLAIN = "NO_DISTRACTION_TOOLS"
"""Upstream's category of the base scenarios."""
DISTRACTIONS = ("THREE_DISTRACTION_TOOLS", "TEN_DISTRACTION_TOOLS", "ALL_TOOLS_AVAILABLE")
SCRAMBLES = (
    "TOOL_NAME_SCRAMBLED",
    "TOOL_DESCRIPTION_SCRAMBLED",
    "ARG_NAME_SCRAMBLED",
    "ARG_DESCRIPTION_SCRAMBLED",
    "ARG_TYPE_SCRAMBLED",
)
"""Categories of tools told differently. Those scenarios have three distractions besides, and do not count as such."""


def slug(category: str) -> str:
    """A category as the name of a split."""
    return category.lower().replace("_", "-")


def counted(categories: Sequence[str]) -> list[str]:
    """The categories that a scenario counts in, as upstream's summary does."""
    scrambled = any(scramble in categories for scramble in SCRAMBLES)
    return [each for each in categories if not (scrambled and each == DISTRACTIONS[0])]


def split_of(categories: Sequence[str]) -> str:
    """The one split of a scenario that says how its tools are told."""
    named = [each for each in (*SCRAMBLES, *DISTRACTIONS) if each in categories]
    return slug(named[0]) if named else BASE


def splits_of(tasks: Sequence[TaskInstance]) -> Mapping[str, Sequence[str]]:
    """Split -> names of its scenarios. A category of what is asked is one of base scenarios."""
    found: dict[str, list[str]] = {BASE: [], OFFLINE: [], ALL: []}
    for task in tasks:
        found[ALL].append(task.id)
        if task.split != BASE:
            found.setdefault(str(task.split), []).append(task.id)
            continue
        found[BASE].append(task.id)
        if not task.data["needs_rapid_api"]:
            found[OFFLINE].append(task.id)
        for category in task.data["categories"]:
            if category != PLAIN:
                found.setdefault(slug(category), []).append(task.id)
    return found
