"""Turning identifiers into English: `cancel_order` into "cancelling the order", `paid_with` into "paid with"."""

from __future__ import annotations

import re

_DOUBLED = {
    "cancel": "cancelling",
    "travel": "travelling",
    "label": "labelling",
    "refer": "referring",
    "submit": "submitting",
    "transfer": "transferring",
}
_ACRONYMS = frozenset(("id", "url", "api", "sms", "dob", "sql", "ip"))


def words_of(identifier: str) -> list[str]:
    """`getOrderStatus`, `get_order-status` → `get order status`."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", identifier)
    return [word.lower() for word in re.split(r"[\W_]+", spaced) if word]


def phrase(identifier: str) -> str:
    """An identifier or field path as plain words: `payment_history[].payment_id` → `payment history payment id`."""
    return " ".join(word.upper() if word in _ACRONYMS else word for word in words_of(identifier))


def noun(family: str) -> str:
    """What an identifier names: `reservation_id` → `reservation`, `isbn` → `isbn`."""
    parts = words_of(family)
    while len(parts) > 1 and parts[-1] in ("id", "ids", "number", "no", "code", "key"):
        parts.pop()
    return " ".join(parts)


def gerund(verb: str) -> str:
    """`cancel` → `cancelling`, `move` → `moving`, `get` → `getting`."""
    if verb.endswith("ing") and len(verb) > 5:
        return verb
    if verb in _DOUBLED:
        return _DOUBLED[verb]
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")):
        return verb[:-1] + "ing"
    short = 3 <= len(verb) <= 4 and re.fullmatch(r"[^aeiou]+[aeiou][^aeiouwxy]", verb)
    return verb + verb[-1] + "ing" if short else verb + "ing"


def doing(tool: str) -> str:
    """A tool as an activity: `cancel_order` → `cancelling the order`."""
    verb, rest = _split(tool)
    return _with_object(gerund(verb), rest)


def do(tool: str) -> str:
    """A tool as a deed: `cancel_order` → `cancel the order`."""
    return _with_object(*_split(tool))


def _split(tool: str) -> tuple[str, list[str]]:
    space, _, name = tool.rpartition(".")  # A name space, as in `Trips.Estimate`, says what the deed is done to.
    parts = [*words_of(name), *words_of(space)] or ["use"]
    return parts[0], parts[1:]


def _with_object(head: str, rest: list[str]) -> str:
    if not rest:
        return head
    if rest[0] in ("to", "for", "by", "from", "all", "in", "on", "up", "out"):
        return f"{head} {' '.join(rest)}"
    return f"{head} the {' '.join(rest)}"


def listed(items: list[str], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {last} {items[-1]}" if items else ""


def slug(title: str, most: int = 60) -> str:
    """Lower case with hyphens, articles left out, at most `most` characters, cut at a word."""
    parts = [word for word in re.findall(r"[a-z0-9]+", title.lower()) if word not in ("the", "a", "an", "that")]
    out = ""
    for part in parts:
        if len(out) + 1 + len(part) > most:
            break
        out = f"{out}-{part}" if out else part
    return out or "capability"
