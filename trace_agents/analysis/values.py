"""Values as text: leaves of JSON, normal forms, mentions in prose, identifiers and error signatures."""

from __future__ import annotations

import calendar
import json
import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

_TOKEN = re.compile(r"[^\W_]+")
_COMMA = re.compile(r"(?<=\d),(?=\d{3}\b)")
_ZERO_CENTS = re.compile(r"(?<=\d)\.0+(?!\d)")
_DATE = re.compile(r"^(\d{4})-(\d\d)-(\d\d)(?:[t ].*)?$")
_TIME = re.compile(r"^(\d\d):(\d\d)(?::\d\d)?(?:\+\d+)?$")
_MONTHS = tuple(name.casefold() for name in calendar.month_name)[1:]
_ERROR_TEXT = re.compile(
    r"^\W*(\w*(error|exception)|traceback|failed|failure|permission error|invalid)\b", re.IGNORECASE
)
# Begins where a run of text does, else long runs without a space (Chinese, Japanese) would be read again at each place.
_IDENTIFIER = re.compile(r"(?<!\S)[^\s\d@_]*[\d@_]\S*")
_NAME = re.compile(r"(?<=[a-z,;:)] )[A-Z]\w*")
_STOP_TEXT = """
    a an and are as at be but by can could did do for from had has have he her here him his how i if in into is it its
    just me my no not of on or our please she should so some that the their them then there these they this to was we
    were what when which who will with would yes you your am any all ok okay hi hello hey thanks thank
"""
_STOP_WORDS = frozenset(_STOP_TEXT.split())
_LONG = 6
"""Digits from which a number names something rather than counts it."""
MAX_LEAVES = 400
"""Leaves read of one JSON value; a longer one is a listing whose tail decides nothing."""


class Leaf(NamedTuple):
    """One scalar inside a JSON value."""

    path: str
    """Field path: `a.b`, list elements as `[]`, keys that are data themselves (an id) as `*`."""
    value: str
    """Normal form; see `normal`."""
    record: str
    """Path of the innermost list element or keyed record that holds it, indices kept; empty at the top."""


def leaves(value: Any) -> list[Leaf]:
    """Scalars of a JSON value in document order, at most `MAX_LEAVES`; None and empty strings are left out."""
    found: list[Leaf] = []
    for leaf in _walk(value, "", ""):
        found.append(leaf)
        if len(found) == MAX_LEAVES:
            break
    return found


def _walk(value: Any, path: str, record: str, here: str = "") -> Iterator[Leaf]:
    if isinstance(value, dict):
        for key, item in value.items():
            name = str(key)
            data = any(char.isdigit() or char in "@#" for char in name)
            inner = f"{here}.{name}"
            yield from _walk(item, _join(path, "*" if data else name), inner if data else record, inner)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            inner = f"{here}[{index}]"
            yield from _walk(item, path + "[]", inner, inner)
    elif value is not None and (text := normal(value)):
        yield Leaf(path, text, record)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def normal(value: Any) -> str:
    """Scalars in one normal form: case folded, spaces single, `12.0` as `12`, booleans as `true` and `false`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}" if value != int(value) else str(int(value))
    return " ".join(str(value).casefold().split())


def is_telling(value: str) -> bool:
    """Whether a value can tie two calls together: longer than two characters, or letters with digits."""
    return len(value) > 2 or not (value.isdigit() or value.isalpha())


def parse(text: str | None) -> Any:
    """The JSON value of a tool result; the text itself where it is not JSON."""
    try:
        return json.loads(text or "")
    except ValueError:
        return text or ""


def words(text: str) -> list[str]:
    """Lower-case word tokens of prose; `1,234.00` gives `1234`."""
    return _TOKEN.findall(_ZERO_CENTS.sub("", _COMMA.sub("", text.casefold())))


def padded(text: str) -> str:
    """`text` as tokens between single spaces, for whole-word search with `in`."""
    return f" {' '.join(words(text))} "


@lru_cache(maxsize=200_000)
def spoken(value: str) -> tuple[str, ...]:
    """The padded forms in which prose may mention a normalised value: as it is, a date by month, a time by clock."""
    forms = [padded(value)]
    if date := _DATE.match(value):
        _, month, day = (int(part) for part in date.groups())
        name = _MONTHS[month - 1] if 1 <= month <= 12 else ""
        for spelt in (name, name[:3]):
            forms += [f" {spelt} {day}{end} " for end in ("", "st", "nd", "rd", "th")]
            forms += [f" {day}{end} {spelt} " for end in ("", "st", "nd", "rd", "th")]
        forms.append(padded(value[:10]))
    elif time := _TIME.match(value):
        hour, minute = int(time[1]), time[2]
        forms += [f" {hour:02d} {minute} ", f" {hour % 12 or 12} {minute} ", f" {hour % 12 or 12:02d} {minute} "]
    return tuple(form for form in dict.fromkeys(forms) if form.strip())


def mentions(prose: str, value: str) -> bool:
    """Whether padded `prose` mentions the normalised `value` as whole words."""
    return any(form in prose for form in spoken(value))


@lru_cache(maxsize=100_000)
def stem(word: str) -> str:
    """A light stem: plural, `-ing` and `-ed` endings go where enough is left."""
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)].rstrip("e")
    return word.rstrip("e") if len(word) > 3 else word


def terms(text: str) -> frozenset[str]:
    """Stems and pairs of neighbouring words of prose: what may tell one kind of request from another.

    Stop words alone, identifiers, and names (capitals inside a sentence) are left out.
    """
    tokens = words(_NAME.sub(" ", _IDENTIFIER.sub(" ", text)))
    single = {stem(token) for token in tokens if len(token) > 2 and token.isalpha() and token not in _STOP_WORDS}
    pairs = {
        f"{a} {b}"
        for a, b in pairwise(tokens)
        if a.isalpha() and b.isalpha() and not (a in _STOP_WORDS and b in _STOP_WORDS)
    }
    return frozenset(single | pairs)


def error_signature(content: str, is_error: bool) -> str | None:
    """What kind of error a tool result is: its text without the values in it; None for a result that is no error."""
    value = parse(content)
    text = None
    if isinstance(value, dict):
        told = next((value[key] for key in ("error", "errors", "exception") if value.get(key)), None)
        text = None if told is None else _told(told)
    elif isinstance(value, str) and _ERROR_TEXT.match(value):
        text = value
    if text is None:
        if not is_error:
            return None
        text = content
    return signature(text)


def _told(error: Any) -> str:
    """The words of an error that is an object or a list: what it calls its message, else its longest text."""
    if not isinstance(error, dict | list):
        return str(error)
    found = [(path.rpartition(".")[2], value) for path, value, _ in leaves(error)]
    named = [value for key in ("message", "detail", "reason") for name, value in found if name == key]
    return named[0] if named else max((value for _, value in found), key=len, default="")


def signature(text: str) -> str:
    """`text` with quoted values, numbers and identifiers as `…`, first line, at most 14 words."""
    line = next((part for part in text.splitlines() if part.strip()), "")
    line = re.sub(r"^\W*(error|exception)\s*:\s*", "", line, flags=re.IGNORECASE)
    line = re.sub(r"'[^']*'|\"[^\"]*\"", "…", line)
    line = _IDENTIFIER.sub("…", line)
    tokens = re.sub(r"(…\W*)+", "… ", line).casefold().split()
    return " ".join(tokens[:14]).strip(" .,:;") or "error"


def identifier_pattern(values: set[str]) -> str | None:
    """A regular expression for values that look like one family of identifiers; None where they do not.

    Values keep their case. Identifiers hold a digit, or are capitals of one length with digits in some; dates,
    times and plain numbers are none, unless they are long and all of one length, as account numbers are.
    """
    if len(values) < 3 or any(" " in value or _DATE.match(value) or _TIME.match(value) for value in values):
        return None
    if not any(any(char.isdigit() for char in value) for value in values):
        return None
    shapes: dict[str, list[list[str]]] = {}
    for value in sorted(values):
        runs = _RUN.findall(value)
        shapes.setdefault("".join(_run_class(run)[:1] for run in runs), []).append(runs)
    if any(set(shape) <= set("9-+.") for shape in shapes):
        sizes = {len(value) for value in values}
        return f"\\d{{{sizes.pop()}}}" if set(shapes) == {"9"} and len(sizes) == 1 and min(sizes) >= _LONG else None
    if len(shapes) <= 2:
        return "|".join(_runs_pattern(examples) for _, examples in sorted(shapes.items()))
    sizes = {len(value) for value in values}
    if len(sizes) == 1 and all(re.fullmatch(r"[A-Z0-9]+", value) for value in values):
        return f"[A-Z0-9]{{{sizes.pop()}}}"
    return None


_RUN = re.compile(r"[A-Z]+|[a-z]+|\d+|.")
_CLASSES = (("A", "[A-Z]+"), ("a", "[a-z]+"), ("9", r"\d+"))


def _run_class(run: str) -> str:
    """`A`, `a` or `9` and the pattern of a run of capitals, small letters or digits; anything else is itself."""
    return next((mark + pattern for mark, pattern in _CLASSES if re.fullmatch(pattern, run)), run)


def _runs_pattern(examples: list[list[str]]) -> str:
    """One pattern for values of one shape: runs of letters that never vary are kept as they are."""
    found = []
    for column in zip(*examples, strict=True):
        kind = _run_class(column[0])
        fixed = len(set(column)) == 1 and not column[0].isdigit()
        found.append(re.escape(column[0]) if fixed or len(kind) == 1 else kind[1:])
    return "".join(found)


def named_identifiers(pattern: str, text: str) -> list[str]:
    """Identifiers of a family in prose, in order, each once, in normal form."""
    found = re.findall(rf"(?<![\w@.-])(?:{pattern})(?![\w@-])", text)
    return list(dict.fromkeys(normal(value) for value in found))
