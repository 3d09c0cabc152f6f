"""PEFT adapter folders that know the base they were trained on: written atomically, refused for another base."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from trace_agents.errors import UsageError
from trace_agents.files import write_atomically
from training.fingerprint import fingerprint

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
BASE_KEY = "trace_agents_base"
"""Metadata key of the weights file: the fingerprint of the base that the adapter was trained on."""


@dataclass(frozen=True)
class AdapterFolder:
    """An adapter read from disk."""

    path: Path
    config: Mapping[str, Any]
    """PEFT's `adapter_config.json`."""
    tensors: Mapping[str, torch.Tensor]
    """PEFT's state dict: `base_model.model.<module>.lora_A.weight` and so on."""
    base: str | None
    """Fingerprint of the base it was trained on; None where another tool wrote the folder."""


def save_adapter(folder: Path, tensors: Mapping[str, torch.Tensor], config: LoraConfig, base: Path | str) -> Path:
    """Write the adapter to `folder` in PEFT's format, with the identity of `base`; returns the folder.

    Args:
        tensors: PEFT's state dict (`get_peft_model_state_dict`).
        config: the adapter's configuration.
        base: model folder that it was trained on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    flat = {key: tensor.detach().to("cpu").contiguous() for key, tensor in sorted(tensors.items())}
    # The weights first: a folder with a configuration is a whole adapter.
    write_atomically(folder / WEIGHTS, _with_metadata(save(flat), {"format": "pt", BASE_KEY: fingerprint(base)}))
    write_atomically(folder / CONFIG, json.dumps(peft_config(config, base), indent=2, sort_keys=True) + "\n")
    return folder


def _with_metadata(payload: bytes, metadata: Mapping[str, str]) -> bytes:
    """A safetensors file with this metadata: the library writes several keys in an order that differs by process,
    and the same adapter is to be the same file."""
    length = int.from_bytes(payload[:8], "little")
    header = json.dumps({"__metadata__": dict(metadata), **json.loads(payload[8 : 8 + length])}, separators=(",", ":"))
    padded = header.encode() + b" " * (-len(header) % 8)
    return len(padded).to_bytes(8, "little") + padded + payload[8 + length :]


def peft_config(config: LoraConfig, base: Path | str) -> dict[str, Any]:
    """`config` as PEFT writes it to disk, naming the base by its folder's name and its modules in order."""
    with tempfile.TemporaryDirectory() as scratch:
        config.save_pretrained(scratch)
        options = json.loads((Path(scratch) / CONFIG).read_text(encoding="utf-8"))
    if isinstance(options.get("target_modules"), list):
        options["target_modules"].sort()
    return options | {"base_model_name_or_path": Path(base).name, "inference_mode": True}


def read_adapter(folder: Path | str, base: Path | str | None = None) -> AdapterFolder:
    """Read the adapter in `folder`; with `base`, only where it was trained on that very model.

    Raises:
        UsageError: not a PEFT adapter, damaged, or trained on another base than the model folder `base`.
    """
    folder = Path(folder)
    missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise UsageError(f"adapter folder {str(folder)!r} has no {missing[0]!r}: give a folder in PEFT's format")
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        with safe_open(folder / WEIGHTS, "pt") as stream:
            tensors = {key: stream.get_tensor(key) for key in stream.keys()}  # noqa: SIM118 - not a mapping
            made_for = (stream.metadata() or {}).get(BASE_KEY)
    except (ValueError, SafetensorError) as error:
        raise UsageError(f"adapter {str(folder)!r} is damaged ({error}): train or copy it again") from error
    if base is not None and made_for is not None and made_for != fingerprint(base):
        raise UsageError(
            f"adapter {str(folder)!r} was trained on another base (fingerprint {made_for[:12]}) than "
            f"{str(base)!r} ({fingerprint(base)[:12]}): use the base it was trained on, or train it again"
        )
    return AdapterFolder(folder, config, tensors, made_for)
