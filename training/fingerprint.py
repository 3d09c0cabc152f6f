"""Telling whether a base model or an adapter is the very one that a router or a gate was trained with."""

from __future__ import annotations

import hashlib
from pathlib import Path

from trace_agents.errors import UsageError

_ENDS = 1 << 20
"""Bytes read at either end of each weights file: training changes every tensor, and a large base stays quick."""


def fingerprint(folder: str | Path) -> str:
    """Hexadecimal digest of the weights in a model or adapter folder; where the folder lies does not matter.

    Raises:
        UsageError: there is no safetensors file in `folder`.
    """
    found = sorted(Path(folder).glob("*.safetensors"))
    if not found:
        raise UsageError(f"folder {str(folder)!r} holds no safetensors file: give a model or adapter folder")
    digest = hashlib.sha256()
    for path in found:
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}\n".encode())
        with path.open("rb") as stream:
            digest.update(stream.read(_ENDS))
            stream.seek(max(_ENDS, size - _ENDS))
            digest.update(stream.read())
    return digest.hexdigest()
