"""`helpdesk-1m`, the embedded base agent: its recipe and its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trace_agents.errors import UsageError, unknown

EMBEDDED = {"helpdesk-1m": Path(__file__).with_name("helpdesk-1m")}
"""Models that ship with the package: name → folder of weights, tokenizer, chat template and the recipe's log."""
CARD = "base-agent.json"
"""Beside the weights of a model that was made with deficits: for which environment, and which."""


def find_model(spec: str) -> Path:
    """The model folder that `spec` names: `embedded:NAME`, or a path.

    Raises:
        UsageError: no such embedded model or folder.
    """
    kind, _, name = spec.partition(":")
    if kind == "embedded":
        if name not in EMBEDDED:
            raise unknown("embedded model", name, list(EMBEDDED))
        return EMBEDDED[name]
    if "://" in spec:
        raise UsageError(
            f"model {spec!r} is a URL, and what is trained is a folder of weights: give the folder as model, and the "
            "server's URL as endpoint"
        )
    folder = Path(spec)
    if not (folder / "config.json").is_file():
        raise UsageError(
            f"model folder {spec!r} holds no config.json: give a Hugging Face folder, or 'embedded:helpdesk-1m'"
        )
    return folder


def planted_deficits(model: Path, environment: str) -> tuple[str, ...]:
    """Capabilities of `environment` that the recipe of `model` made rare; empty for a model without a card."""
    facts = _card(model)
    return tuple(facts["planted"]) if facts.get("environment") == environment else ()


def made_for(model: Path) -> str | None:
    """The environment whose tools `model` was trained on by its recipe; None for a model without a card."""
    return _card(model).get("environment")


def _card(model: Path) -> dict[str, Any]:
    path = model / CARD
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
