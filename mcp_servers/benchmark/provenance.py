"""Hashes of what is played on: known ones pass, others are refused unless they are accepted by name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from trace_agents.errors import UsageError
from trace_agents.types import canonical

ALTERED = "altered, accepted"
"""Follows the hash of something that differs from upstream's and was accepted."""


def tools_hash(tools: Sequence[Mapping[str, Any]]) -> str:
    """SHA-256 of tools as upstream states them, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(canonical(list(tools))).encode()).hexdigest()


def accepted(found: str, accept: Sequence[str], differing: str, variable: str) -> str:
    """`found` and that it differs, where it was accepted.

    Args:
        found: the hash of what differs.
        accept: hashes that may differ.
        differing: what differs from what.
        variable: the environment variable that accepts a hash.

    Raises:
        UsageError: it was not accepted.
    """
    if found in accept:
        return f"{found} ({ALTERED})"
    option = f"{variable}={found}"
    raise UsageError(f"{differing}: use upstream's, or accept this one with {option} or 'install --accept {found}'")
