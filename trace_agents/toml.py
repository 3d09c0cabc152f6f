"""Values written as TOML, which the standard library only reads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")
"""Keys that need no quotation marks."""


def toml(value: Any) -> str:
    """A JSON value but null, on one line, so that `tomllib` reads an equal one."""
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{_key(str(key))} = {toml(one)}" for key, one in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    # JSON's strings, whole numbers and booleans are TOML's; floats need care only for the exponent.
    if isinstance(value, float):
        text = repr(value)
        return text if any(mark in text for mark in ".en") else f"{text}.0"
    # The one character that JSON writes bare and TOML forbids.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else toml(name)
