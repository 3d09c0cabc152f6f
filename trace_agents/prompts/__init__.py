"""Prompts are files beside this one, rendered strictly: a value missing, or one that no prompt reads, is an error."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined, Template, meta

from trace_agents.errors import unknown

_JINJA = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=False)


def prompt_names() -> list[str]:
    """Names that `render` knows."""
    return sorted(
        entry.name.removesuffix(".jinja") for entry in files(__name__).iterdir() if entry.name.endswith(".jinja")
    )


def render(name: str, /, **values: Any) -> str:
    """The prompt `name` with `values`.

    Raises:
        UsageError: no prompt has this name.
        TypeError: `values` lack a name that the prompt reads, or hold one that it does not.
    """
    template, wanted = _load(name)
    if wanted != set(values):
        missing, extra = sorted(wanted - set(values)), sorted(set(values) - wanted)
        raise TypeError(f"prompt {name!r} reads {sorted(wanted)}: missing {missing}, not read {extra}")
    return template.render(**values).strip()


def source(name: str) -> str:
    """The template of the prompt `name`, for telling whether it changed. Raises as `render` does."""
    path = files(__name__) / f"{name}.jinja"
    if not path.is_file():
        raise unknown("prompt", name, prompt_names())
    return path.read_text(encoding="utf-8")


@lru_cache(maxsize=64)
def _load(name: str) -> tuple[Template, set[str]]:
    text = source(name)
    return _JINJA.from_string(text), meta.find_undeclared_variables(_JINJA.parse(text))
