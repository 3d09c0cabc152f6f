"""What a language-model analyst asks: requests with a JSON schema, and answers checked against it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError as SchemaError
from pydantic import Field

from trace_agents.artifacts import Artifact
from trace_agents.files import digest
from trace_agents.prompts import render
from trace_agents.types import Capability, Label, Record

Kind = Literal["discover", "merge", "label"]

LONGEST_ENTRY = Capability(name="x" * 60, title="x" * 80, description="x" * 800)
"""As many characters as an answer may give an entry of the dictionary."""
SLUG = "^[a-z0-9]+(-[a-z0-9]+)*$"
NAMED_REASONS = 3
"""Faults of an answer that its refusal names."""
UNSURE = "UNSURE"
"""A label that an answer may hold; it counts as PRESENT."""


class Request(Artifact):
    """One question to whoever judges; its id is a digest of what is asked, so an answer fits it for ever."""

    id: str
    kind: Kind
    about: str
    """What is asked, in one line."""
    prompt: str
    """All that is needed to answer, the schema included."""
    answer_schema: dict[str, Any]
    """JSON schema of the answer."""


class Usage(Record):
    """What answers took, summed over requests."""

    answered: int = 0
    """Requests with a valid answer."""
    refused: int = 0
    """Answers that did not fit their schema; the request was asked again with the reason."""
    retried: int = 0
    """Calls repeated because infrastructure failed."""
    input_tokens: int = 0
    output_tokens: int = 0
    unmetered: int = 0
    """Answers whose tokens the model did not count."""

    def __add__(self, other: Usage) -> Usage:
        mine, theirs = self.model_dump(), other.model_dump()
        return Usage(**{name: mine[name] + theirs[name] for name in mine})


class Prices(Record):
    """What a model's tokens cost, in any one currency."""

    input_per_million: float = Field(default=0.0, ge=0)
    output_per_million: float = Field(default=0.0, ge=0)

    def cost(self, usage: Usage) -> float:
        """Cost of the metered tokens."""
        return (usage.input_tokens * self.input_per_million + usage.output_tokens * self.output_per_million) / 1_000_000


def prices_of(price_in: float | None, price_out: float | None) -> Prices | None:
    """The prices where either is given; None without."""
    if price_in is None and price_out is None:
        return None
    return Prices(input_per_million=price_in or 0.0, output_per_million=price_out or 0.0)


class Proposed(Record):
    """One entry of a discovery answer."""

    title: str
    description: str
    examples: tuple[str, ...] = ()
    """Keys of trajectories that lack it."""
    merges: tuple[int, ...] = ()
    """Numbers of the candidates that it stands for, in an answer that merges."""


def make_request(kind: Kind, about: str, answer_schema: dict[str, Any], **values: Any) -> Request:
    """The request whose prompt is the template `analysis-<kind>` with `values` and the schema."""
    prompt = render(f"analysis-{kind}", schema=json.dumps(answer_schema, ensure_ascii=False), **values)
    identity = f"{kind}-{digest([prompt, answer_schema])[:12]}"
    return Request(id=identity, kind=kind, about=about, prompt=prompt, answer_schema=answer_schema)


# Schemas. Their descriptions are what a refusal quotes.


def discover_schema(keys: Sequence[str], most: int) -> dict[str, Any]:
    """Of the candidates in a batch: slug → title, description, examples among the failed trajectories' `keys`."""
    examples = {
        "type": "array",
        "items": {
            "enum": list(keys),
            "description": f"a key of a failed trajectory above, such as {next(iter(keys), None)}",
        },
        "minItems": 1,
        "maxItems": 4,
        "description": "keys of one to four failed trajectories that lack the capability",
    }
    return _dictionary_schema(most, {"examples": examples})


def merge_schema(count: int, most: int) -> dict[str, Any]:
    """Of the canonical dictionary over `count` numbered candidates."""
    number = {
        "type": "integer",
        "minimum": 1,
        "maximum": count,
        "description": f"a candidate's number, 1 to {count}",
    }
    merges = {
        "type": "array",
        "items": number,
        "minItems": 1,
        "uniqueItems": True,
        "description": "numbers of the candidates that the entry stands for, each once",
    }
    return _dictionary_schema(most, {"merges": merges})


def _dictionary_schema(most: int, more: dict[str, Any]) -> dict[str, Any]:
    entry = {
        "type": "object",
        "properties": {
            "title": {
                "type": "string",
                "minLength": 3,
                "maxLength": len(LONGEST_ENTRY.title),
                "description": "a title of 3 to 80 characters",
            },
            "description": {
                "type": "string",
                "minLength": 20,
                "maxLength": len(LONGEST_ENTRY.description),
                "description": "two or three sentences, 20 to 800 characters",
            },
            **more,
        },
        "required": ["title", "description", *more],
        "additionalProperties": False,
        "description": f"an object with title, description and {' and '.join(more)}",
    }
    slug = {
        "pattern": SLUG,
        "maxLength": len(LONGEST_ENTRY.name),
        "description": "a slug: lower-case words joined by single hyphens",
    }
    entries = {
        "type": "object",
        "propertyNames": slug,
        "additionalProperties": entry,
        "maxProperties": most,
        "description": f"an object of at most {most} capabilities by slug",
    }
    return _only({"capabilities": entries})


def label_schema(last: Mapping[str, int], names: Sequence[str]) -> dict[str, Any]:
    """Of the labels: trajectory key → capability → label.

    Args:
        last: the key of each trajectory → the index of its last message.
        names: the dictionary.
    """
    row = {
        "type": "object",
        "required": list(names),
        "propertyNames": {"enum": list(names), "description": "a name of the dictionary"},
        "description": "an object with a label for every capability of the dictionary",
    }
    words = {"enum": [Label.PRESENT.value, Label.LACKING.value, UNSURE]}
    judged = {"type": "array", "prefixItems": [words, {"type": "integer", "minimum": 0}], "items": False, "minItems": 2}
    labels = {
        "type": "object",
        "properties": {key: _row(max(index, 0)) for key, index in last.items()},
        "required": list(last),
        "additionalProperties": False,
        "description": "an object with an entry for every trajectory",
    }
    return {"$defs": {"row": row, "judged": judged}, **_only({"labels": labels})}


def _row(last: int) -> dict[str, Any]:
    judged = {"$ref": "#/$defs/judged", "prefixItems": [{}, {"maximum": last}]}
    wanted = f'"NA", or ["PRESENT" | "LACKING" | "UNSURE", step 0 to {last}]'
    label = {"anyOf": [{"const": Label.NA.value}, judged], "description": wanted}
    return {"$ref": "#/$defs/row", "additionalProperties": label}


def _only(properties: dict[str, Any]) -> dict[str, Any]:
    names = list(properties)
    return {
        "type": "object",
        "properties": properties,
        "required": names,
        "additionalProperties": False,
        "description": f"a JSON object with {' and '.join(repr(name) for name in names)} and nothing else",
    }


# Answers.


class BadAnswer(ValueError):
    """An answer that cannot be taken; says what is wrong with it."""


def parse_json(text: str) -> Any:
    """The JSON object in a model's answer, alone, fenced, or after some thinking.

    Raises:
        BadAnswer: there is none, or an object names a key twice.
    """
    said = text.rpartition("</think>")[2].strip()
    start, stop = said.find("{"), said.rfind("}")
    if start < 0 or stop < start:
        raise BadAnswer(f"no JSON object in {_short(said)}: answer with one JSON object and nothing else")
    try:
        return json.loads(said[start : stop + 1], object_pairs_hook=_pairs)
    except json.JSONDecodeError as error:
        raise BadAnswer(f"the answer is not JSON ({error.msg} at line {error.lineno}, column {error.colno})") from error
    except BadAnswer:
        raise
    except (ValueError, RecursionError) as error:  # What a model that repeats itself ends in.
        raise BadAnswer("the answer has a number too long to read, or objects nested without end") from error


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise BadAnswer(f"key {twice!r} occurs twice in one object: name it once")
    return dict(pairs)


def check_answer(request: Request, answer: Any) -> None:
    """`answer` fits the request's schema.

    Raises:
        BadAnswer: it does not; names the first faults with what was wanted there.
    """
    _check_text(answer)
    faults = sorted(Draft202012Validator(request.answer_schema).iter_errors(answer), key=_place)
    if not faults:
        return
    reasons = list(dict.fromkeys(_fault(fault) for fault in faults))
    more = f"; and {len(reasons) - NAMED_REASONS} more faults" if len(reasons) > NAMED_REASONS else ""
    raise BadAnswer("; ".join(reasons[:NAMED_REASONS]) + more)


def _check_text(answer: Any) -> None:
    """Text that no file can hold is refused: half of a surrogate pair, as cut escapes leave it."""
    try:
        json.dumps(answer, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        near = error.object[max(error.start - 20, 0) : error.start]
        raise BadAnswer(f"half a character (an unpaired surrogate) after {near!r}: write whole characters") from error


def _place(fault: SchemaError) -> list[str]:
    return [str(part) for part in fault.absolute_path]


def _fault(fault: SchemaError) -> str:
    where = ".".join(_place(fault)) or "the answer"
    if fault.validator in ("required", "additionalProperties") and isinstance(fault.instance, dict):
        return f"{where}: {_keys(fault)}"
    schema = fault.schema if isinstance(fault.schema, dict) else {}
    wanted = schema.get("description") or fault.message
    return f"{where}: {_short(json.dumps(fault.instance, ensure_ascii=False))} where {wanted} is wanted"


def _keys(fault: SchemaError) -> str:
    """Names what is missing or too much, not the whole object."""
    schema = fault.schema if isinstance(fault.schema, dict) else {}
    if fault.validator == "required":
        absent = [name for name in schema["required"] if name not in fault.instance]
        return f"{', '.join(repr(name) for name in absent[:5])} {'is' if len(absent) == 1 else 'are'} missing"
    extra = [name for name in fault.instance if name not in schema.get("properties", {})]
    return f"{', '.join(repr(name) for name in extra[:5])} {'is' if len(extra) == 1 else 'are'} not asked for"


def _short(text: str, most: int = 80) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


def proposals(answer: Mapping[str, Any]) -> dict[str, Proposed]:
    """The entries of a checked discovery or merge answer, by slug."""
    return {name: Proposed.model_validate(entry) for name, entry in answer["capabilities"].items()}


def label_of(given: Any) -> tuple[Label, int | None]:
    """Label and deciding step of one entry of a checked labelling answer; unsure counts as PRESENT."""
    if given == Label.NA.value:
        return Label.NA, None
    word, step = given
    return (Label.PRESENT if word == UNSURE else Label(word)), int(step)
