"""What an agent's written instructions say about the facts of a guard: which they name, where, and the cut points."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from trace_agents.analysis.english import words_of
from trace_agents.analysis.grammar import Fact
from trace_agents.analysis.values import mentions, padded, stem, words
from trace_agents.analysis.views import View, leaf_name

_PASSAGE = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*•]|\d+[.)])\s)")
_INSTANT = re.compile(r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?)?\b")
_DURATION = re.compile(r"\b((\d{1,4})[ -](minute|hour|day|week)s?)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Instructions:
    """The instructions of a set of trajectories."""

    passages: tuple[str, ...]
    """Paragraphs and items of lists, each as padded words; none where nothing is written."""
    cuts: Mapping[datetime, str]
    """Instants that dates are to be compared with → the padded words that state them: the instants that are written,
    and those that lie a written span of time before or after."""

    def speak_of(self, fact: Fact) -> bool:
        """Whether a fact is named, by its field or by its value."""
        return any(_names(passage, fact) for passage in self.passages)

    def beside(self, tool: str, facts: Iterable[Fact]) -> tuple[Fact, ...]:
        """Those of `facts` that a passage names which names the tool too, by all the words of its name."""
        named = [stem(word) for word in words_of(tool)]
        about = [passage for passage in self.passages if all(f" {word}" in passage for word in named)]
        return tuple(
            fact for fact in facts if any(_names(passage, fact) or self._dates(passage, fact) for passage in about)
        )

    def splitting(self, dates: Sequence[str]) -> list[str]:
        """The cuts that part `dates` (ISO, in order), written as these are."""
        longest = max(dates, key=len)
        texts = [_written_as(longest, instant) for instant in self.cuts]
        return [text for text in dict.fromkeys(texts) if dates[0] <= text <= dates[-1]]

    def _dates(self, passage: str, fact: Fact) -> bool:
        """Whether the passage states the span that the fact's cut comes from."""
        return fact.op in (">=", "<=") and any(
            span in passage for instant, span in self.cuts.items() if _written_as(fact.value, instant) == fact.value
        )


def instructions_of(views: Sequence[View]) -> Instructions:
    """What the system messages of the trajectories say."""
    written = {m.content for view in views for m in view.trajectory.messages if m.role == "system" and m.content}
    passages = [padded(part) for text in sorted(written) for part in _PASSAGE.split(text)]
    cuts: dict[datetime, str] = {}
    for text in sorted(written):
        cuts.update(_cuts(text))
    return Instructions(tuple(dict.fromkeys(passage for passage in passages if passage.strip())), cuts)


def _cuts(text: str) -> dict[datetime, str]:
    """Instants of a text, and what lies its spans before and after them."""
    found: dict[datetime, str] = {}
    spans = {(int(number), unit.lower()): said for said, number, unit in _DURATION.findall(text)}
    for written in dict.fromkeys(_INSTANT.findall(text)):
        try:
            instant = datetime.fromisoformat(written)
        except ValueError:  # The 30th of February, say: no instant.
            continue
        found[instant] = padded(written)
        for (number, unit), said in spans.items():
            for length in (timedelta(**{f"{unit}s": sign * number}) for sign in (-1, 1)):
                with suppress(OverflowError):  # A month after 9999-12-31, which means never: no instant either.
                    found[instant + length] = padded(said)
    return found


def _written_as(date: str, instant: datetime) -> str:
    return f"{instant:%Y-%m-%d}" if len(date) <= 10 else instant.isoformat(sep=date[10])[: len(date)]


def _names(text: str, fact: Fact) -> bool:
    """By its value where that is a word of its own, else by all words of its field."""
    value = fact.value.replace("_", " ").replace(" ", "")
    if value.isalpha() and len(value) > 3 and value not in ("true", "false"):
        return mentions(text, fact.value)
    named = [word for word in words(leaf_name(fact.field)) if len(word) > 2]
    return bool(named) and all(f" {word}" in text for word in named)
