"""Arguments drawn at random that fit a tool's JSON schema, strings from what was said where they fit."""

from __future__ import annotations

import math
import random
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jsonschema import Draft202012Validator
from referencing.exceptions import Unresolvable

from trace_agents.types import Message

TRIES = 20
"""Draws after which a schema counts as too hard to meet by chance."""
LARGEST = 10_000
"""Items or characters that a draw gives up above."""
DEEPEST = 8
"""Levels of a schema that refers to itself, below which a draw gives up."""
_HEARD = re.compile(r"[\w.+-]+@[\w.-]+\w|[\w-]*\d[\w-]*")
_FORMATS = {
    "date": "2024-05-15",
    "date-time": "2024-05-15T12:00:00Z",
    "time": "12:00:00Z",
    "email": "someone@example.com",
    "uri": "https://example.com/",
    "uuid": "5f0c1f2e-8a4e-4a0e-9a53-0d3c1a7b2c11",
}


def values_in(messages: Iterable[Message]) -> list[str]:
    """Email addresses, numbers and identifiers that were said or returned, in order."""
    return [found for message in messages for found in _HEARD.findall(message.content or "")]


def draw_arguments(schema: Mapping[str, Any], heard: Sequence[str], rng: random.Random) -> dict[str, Any] | None:
    """Arguments that fit `schema`; None where no draw does.

    Args:
        schema: of the tool's arguments.
        heard: strings to fill in where they fit (`values_in`).
        rng: draws; the same state draws the same.
    """
    validator = Draft202012Validator(schema)
    draw = _Draw(schema, list(dict.fromkeys(heard)), rng)
    for _ in range(TRIES):
        drawn = draw.value({"type": "object", **schema}, 0)
        if isinstance(drawn, dict) and _fits(validator, drawn):
            return drawn
    return None


def _fits(validator: Draft202012Validator, drawn: Mapping[str, Any]) -> bool:
    """`drawn` fits; not where the schema cannot be followed: a pattern of another dialect, a reference to nowhere."""
    try:
        return validator.is_valid(drawn)
    except (re.error, Unresolvable, RecursionError):
        return False


class _Draw:
    """Draws values for one schema and what it refers to."""

    def __init__(self, root: Mapping[str, Any], heard: Sequence[str], rng: random.Random) -> None:
        self._root, self._heard, self._rng = root, heard, rng

    def value(self, schema: Any, depth: int) -> Any:
        """A value for `schema`; one that does not fit where only a check of the whole can tell."""
        schema = _as_mapping(schema)
        if depth > DEEPEST:
            return None
        if "$ref" in schema:
            return self.value(self._referred(schema["$ref"]), depth + 1)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._rng.choice(schema["enum"]) if schema["enum"] else None
        for key in ("anyOf", "oneOf"):
            if key in schema:
                rest = {name: value for name, value in schema.items() if name != key}
                return self.value(rest | _as_mapping(self._rng.choice(schema[key])), depth + 1)
        if "allOf" in schema:
            rest = {name: value for name, value in schema.items() if name != "allOf"}
            return self.value(self._joined([rest, *schema["allOf"]]), depth + 1)
        return self._of_kind(schema, depth)

    def _of_kind(self, schema: Mapping[str, Any], depth: int) -> Any:
        kind = schema.get("type", "object" if "properties" in schema else "string")
        if isinstance(kind, list):
            kind = self._rng.choice(kind) if kind else "null"
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, depth)
        if kind in ("integer", "number"):
            return self._number(schema, kind == "integer")
        if kind == "boolean":
            return self._rng.random() < 0.5
        return None if kind == "null" else self._text(schema)

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        required = set(schema.get("required", ()))
        given = schema.get("properties", {})
        names = [name for name in given if name in required or self._rng.random() < 0.5]
        return {name: self.value(given[name], depth + 1) for name in names}

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        least = schema.get("minItems", 0)
        if least > LARGEST:
            return []
        count = self._rng.randint(max(least, 1), max(schema.get("maxItems", least + 2), least, 1))
        return [self.value(schema.get("items", {"type": "string"}), depth + 1) for _ in range(count)]

    def _number(self, schema: Mapping[str, Any], whole: bool) -> int | float:
        low = max(schema.get("minimum", -math.inf), schema.get("exclusiveMinimum", -math.inf))
        high = min(schema.get("maximum", math.inf), schema.get("exclusiveMaximum", math.inf))
        low = low if math.isfinite(low) else min(0, high - 9) if math.isfinite(high) else 0
        high = high if math.isfinite(high) else low + 9
        step = schema.get("multipleOf")
        if step:
            return step * self._rng.randint(math.ceil(low / step), max(math.ceil(low / step), math.floor(high / step)))
        if whole:
            return self._rng.randint(math.ceil(low), max(math.ceil(low), math.floor(high)))
        return round(self._rng.uniform(low, high), 2)

    def _text(self, schema: Mapping[str, Any]) -> str:
        least, most = schema.get("minLength", 0), schema.get("maxLength", math.inf)
        pattern = schema.get("pattern", "")
        fitting = [one for one in self._heard if least <= len(one) <= most and _matches(pattern, one)]
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        if fitting:
            return self._rng.choice(fitting)
        return "".join(self._rng.choices(string.ascii_lowercase, k=int(max(min(least, LARGEST), min(8, most)))))

    def _referred(self, reference: str) -> Any:
        """What a reference within the schema names; None for any other, which no draw can follow."""
        found: Any = self._root
        if not reference.startswith("#"):
            return None
        for part in reference.removeprefix("#").strip("/").split("/"):
            key = part.replace("~1", "/").replace("~0", "~")
            if key:
                found = found.get(key) if isinstance(found, Mapping) else None
        return found

    def _joined(self, schemas: Sequence[Any]) -> dict[str, Any]:
        """One schema for several that must all hold: properties and requirements of each."""
        found: dict[str, Any] = {}
        for each in schemas:
            stated = _as_mapping(each)
            given = _as_mapping(self._referred(stated["$ref"]) if "$ref" in stated else stated)
            properties = found.get("properties", {}) | given.get("properties", {})
            required = [*found.get("required", ()), *given.get("required", ())]
            found |= given
            if properties:
                found |= {"properties": properties, "required": required}
        return found


def _as_mapping(schema: Any) -> dict[str, Any]:
    """A schema that is a truth value as the mapping that says the same; anything else that is none as the empty one."""
    if isinstance(schema, Mapping):
        return dict(schema)
    return {"not": {}} if schema is False else {}


def _matches(pattern: str, text: str) -> bool:
    """Of a pattern that Python does not read, nothing can be said before the draw is checked."""
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return True
