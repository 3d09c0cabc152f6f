"""What `verifiers:NAME?…` says: a taskset, its settings, and how it is to be an environment."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from pydantic import Field, field_validator

from trace_agents.errors import UsageError
from trace_agents.types import Record

SCHEME = "verifiers:"
OURS = ("success", "env", "deal")
"""Settings that are not the taskset's."""


class Options(Record):
    """A specification, read."""

    spec: str
    """As it was given; the environment's name."""
    taskset: str
    """The id by which verifiers finds the taskset."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Settings of the taskset."""
    success: float = Field(1.0, gt=0.0, le=1.0)
    """Least reward of a success."""
    env: str = ""
    """Id of the verifiers environment that plays the taskset, where it is not the taskset's own."""
    deal: tuple[int, ...] = ()
    """Shares of the train, validation and test split, where the tasks are to be dealt; empty leaves the taskset's."""

    @field_validator("deal")
    @classmethod
    def _three(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if value and (len(value) != 3 or min(value) < 0 or not sum(value)):
            raise ValueError("give three shares, of train, validation and test, such as 3,1,1")
        return value


def read_options(spec: str) -> Options:
    """What `spec` says; a folder in place of a name is put on the import path.

    Raises:
        UsageError: it is not of the form `verifiers:NAME?setting=value&…`.
    """
    named, _, query = spec.removeprefix(SCHEME).partition("?")
    if not named:
        raise UsageError(f"environment {spec!r} names no taskset: give 'verifiers:NAME' or 'verifiers:path/to/folder'")
    config: dict[str, Any] = {}
    ours: dict[str, Any] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key in OURS:
            ours[key] = value
        else:
            _put(config, key.split("."), _value(value), spec)
    if "deal" in ours:
        ours["deal"] = tuple(_value(share) for share in ours["deal"].split(","))
    try:
        return Options(spec=spec, taskset=_found(named), config=config, **ours)
    except ValueError as error:
        raise UsageError(f"environment {spec!r} cannot be opened: {problems(error)}") from error


def problems(error: ValueError) -> str:
    """What is wrong, in one line, of a validation or other error."""
    faults: Sequence[Any] = error.errors() if hasattr(error, "errors") else []
    said = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults]
    return "; ".join(said) or " ".join(str(error).split())


def _found(named: str) -> str:
    """The taskset's id; where `named` is a folder that holds its package, as verifiers lays it out, the package's."""
    folder = Path(named)
    if not folder.is_dir() or ("/" not in named and (Path.cwd() / named / "__init__.py").is_file()):
        return named
    package = folder.resolve().name.replace("-", "_")
    parent = folder if (folder / package / "__init__.py").is_file() else folder.parent
    if not (parent / package / "__init__.py").is_file():
        raise UsageError(f"folder {named!r} holds no taskset: it needs {str(folder / package / '__init__.py')!r}")
    if str(parent.resolve()) not in sys.path:
        sys.path.insert(0, str(parent.resolve()))
    return package


def _put(config: dict[str, Any], keys: Sequence[str], value: Any, spec: str) -> None:
    for key in keys[:-1]:
        config = config.setdefault(key, {})
        if not isinstance(config, dict):
            raise UsageError(f"environment {spec!r} sets {key!r} twice, as a value and as a group of settings")
    config[keys[-1]] = value


def _value(text: str) -> Any:
    """JSON where it is some, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text
