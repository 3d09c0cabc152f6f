"""What users read where a file or a request of theirs does not fit: in the words of JSON and TOML, not of Python."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any

_LIST = "a list, in square brackets"
_TABLE = "a table (in JSON an object), in braces"
_WHOLE = "a whole number"
_NUMBER = "a number"
_TRUTH = "true or false, without quotes"
_TEXT = "text, in quotes"
_KINDS: Mapping[str, str] = {
    "tuple_type": _LIST,
    "list_type": _LIST,
    "set_type": _LIST,
    "frozen_set_type": _LIST,
    "dict_type": _TABLE,
    "mapping_type": _TABLE,
    "model_type": _TABLE,
    "model_attributes_type": _TABLE,
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": "a finite number",
    "bool_type": _TRUTH,
    "bool_parsing": _TRUTH,
    "string_type": _TEXT,
}
"""Pydantic's type of an error -> what is wanted."""
_PLACE = re.compile(r" \(at line (\d+), column (\d+)\)$")


def wanted(*problems: Mapping[str, Any]) -> str:
    """What to give instead, after pydantic's errors of one value: several where it may be of several kinds."""
    kinds = dict.fromkeys(_KINDS[one["type"]] for one in problems if one["type"] in _KINDS)
    if all(one["type"] in _KINDS for one in problems):
        return f"give {' or '.join(kinds)}"
    said = next(one["msg"] for one in problems if one["type"] not in _KINDS)
    said = said.removeprefix("Value error, ")
    said = re.sub(r"^(Tuple|List|Set|Frozenset)\b", "The list", said)
    return re.sub(r"^Dictionary\b", "The table", said)


def not_toml(source: str, text: str, error: tomllib.TOMLDecodeError) -> str:
    """That `text` of `source` is no TOML: the line, and what TOML wants there."""
    said, found = str(error), _PLACE.search(str(error))
    lines = text.splitlines() or [""]
    line = lines[int(found[1]) - 1] if found else lines[-1]
    place = f"line {found[1]}, column {found[2]}" if found else "the end"
    problem = re.sub(r" \(at [^()]*\)$", "", said)
    remedy = ": text goes in quotes; true, false and numbers do not" if problem == "Invalid value" else ": mend it"
    return f"{source!r} is not TOML: {lowered(problem)} at {place}, {line.strip()!r:.80}{remedy}"


def lowered(words: str) -> str:
    """A sentence within a sentence."""
    return words[:1].lower() + words[1:]
