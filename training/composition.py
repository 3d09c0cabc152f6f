"""Several adapters at once: the sum of their deltas as one PEFT folder, and the token-level gate's shape.

Axes: C members (adapters), B rows, V vocabulary, d hidden width.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from peft.utils.other import get_pattern_key
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from trace_agents.errors import UsageError
from trace_agents.files import write_atomically
from training.fingerprint import fingerprint

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_UNSUMMABLE = ("use_dora", "lora_bias", "modules_to_save", "trainable_token_indices", "layer_replication", "use_qalora")
"""Options of PEFT's LoRA under which the delta is not B·A alone, so that concatenated factors would not be the sum."""


def sum_adapters(adapters: Mapping[str, Path], weights: Mapping[str, float], out: Path) -> Path:
    """Write the adapter whose delta is Σ_c w_c·s_c·B_c·A_c to the folder `out`; returns it.

    The factors are concatenated along the rank, so the sum is exact and any PEFT or vLLM server can serve it
    (vLLM's `--max-lora-rank` must reach the summed rank). Modules that only some members adapt are padded
    with zeros, since servers want one rank throughout.

    Args:
        adapters: member name -> PEFT folder, all for one base.
        weights: member name -> w_c; 1 where absent.
        out: replaced whole if it exists.

    Raises:
        UsageError: no members, a weight for no member, a folder that is not a plain LoRA adapter, or adapters for
            different bases.
    """
    if not adapters:
        raise UsageError("the sum of adapters got no adapters: give at least one folder")
    strangers = sorted(set(weights) - set(adapters))
    if strangers:
        raise UsageError(f"weights name {strangers!r}, which are no members: use {sorted(adapters)!r}")
    members = [_Member.read(name, Path(path), weights.get(name, 1.0)) for name, path in adapters.items()]
    bases = sorted({str(member.config.get("base_model_name_or_path")) for member in members})
    if len({Path(base).name for base in bases}) > 1:
        raise UsageError(f"adapters {list(adapters)!r} are for different bases {bases!r}: sum adapters of one base")
    rank = max(sum(member.rank(module) for member in members) for module in _modules(members))
    state: dict[str, Tensor] = {}
    for module in _modules(members):
        state |= _sum_module(module, members, rank)
    config = dict(members[0].config) | {"r": rank, "lora_alpha": rank, "rank_pattern": {}, "alpha_pattern": {}}
    config |= {"use_rslora": False, "lora_dropout": 0.0, "inference_mode": True}
    layers = {json.dumps(member.config.get("layers_to_transform")) for member in members}
    config["layers_to_transform"] = json.loads(layers.pop()) if len(layers) == 1 else None
    config["target_modules"] = sorted({module.rpartition(".")[2] for module in _modules(members)})
    return _write_folder(out, json.dumps(config, indent=2), state)


@dataclass(frozen=True)
class _Member:
    """One adapter of a sum."""

    name: str
    weight: float
    config: Mapping[str, Any]
    pairs: Mapping[str, tuple[Tensor, Tensor]]
    """Module path, as PEFT prefixes it -> A [r, in] and B [out, r]."""

    @classmethod
    def read(cls, name: str, path: Path, weight: float) -> _Member:
        try:
            config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
            state = load_file(path / WEIGHTS)
        except (OSError, ValueError, SafetensorError) as error:
            raise UsageError(
                f"adapter {name!r} in {str(path)!r} does not load ({error}): give a PEFT folder"
            ) from error
        odd = [option for option in _UNSUMMABLE if config.get(option)]
        if config.get("peft_type") != "LORA" or config.get("bias", "none") != "none" or odd:
            raise UsageError(
                f"adapter {name!r} is no plain LoRA (peft_type {config.get('peft_type')!r}, bias "
                f"{config.get('bias')!r}, {odd!r} set): its delta cannot be summed by its factors; train it without"
            )
        return cls(name, weight, config, _pairs(name, state))

    def rank(self, module: str) -> int:
        """Rank in `module`; 0 where it is not adapted."""
        return self.pairs[module][0].shape[0] if module in self.pairs else 0

    def scale(self, module: str) -> float:
        """s_c: alpha / r, or alpha / sqrt(r) for rsLoRA, by PEFT's per-module pattern."""
        patterns = self.config.get("alpha_pattern") or {}
        path = module.removeprefix("base_model.model.")
        alpha = patterns.get(get_pattern_key(list(patterns), path), self.config["lora_alpha"])
        rank = self.rank(module)
        return float(alpha) / (math.sqrt(rank) if self.config.get("use_rslora") else rank)


def _pairs(name: str, state: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    modules = {key.removesuffix(".lora_A.weight") for key in state if key.endswith(".lora_A.weight")}
    expected = {f"{module}.lora_{factor}.weight" for module in modules for factor in "AB"}
    if not modules or expected != set(state):
        odd = sorted(expected.symmetric_difference(state))[:3]
        raise UsageError(f"adapter {name!r} has keys that are no pairs of LoRA factors ({odd!r}): save it with PEFT")
    return {module: (state[f"{module}.lora_A.weight"], state[f"{module}.lora_B.weight"]) for module in modules}


def _modules(members: Sequence[_Member]) -> list[str]:
    return sorted(set().union(*(member.pairs for member in members)))


def _sum_module(module: str, members: Sequence[_Member], rank: int) -> dict[str, Tensor]:
    """The factors of one module, padded with zeros to `rank`."""
    having = [member for member in members if module in member.pairs]
    shapes = {member.name: (member.pairs[module][0].shape[1], member.pairs[module][1].shape[0]) for member in having}
    if len(set(shapes.values())) > 1:
        raise UsageError(f"adapters are for different bases: {module!r} maps {shapes!r} inputs to outputs")
    inputs, outputs = next(iter(shapes.values()))
    # float32, since weights and scales fold into B and must not cost precision.
    a = torch.cat([member.pairs[module][0].float() for member in having])
    b = torch.cat([member.pairs[module][1].float() * (member.weight * member.scale(module)) for member in having], 1)
    padding = rank - a.shape[0]
    return {
        f"{module}.lora_A.weight": torch.cat([a, a.new_zeros(padding, inputs)]).contiguous(),
        f"{module}.lora_B.weight": torch.cat([b, b.new_zeros(outputs, padding)], 1).contiguous(),
    }


def _write_folder(out: Path, config: str, state: dict[str, Tensor]) -> Path:
    """Write the adapter beside `out`, then put it in place, so that `out` is never half an adapter."""
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        folder.chmod(0o755)
        save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
        (folder / CONFIG).write_text(config, encoding="utf-8")
        if out.exists():
            shutil.rmtree(out)
        folder.replace(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return out


class GateKind(StrEnum):
    """How gate scores become weights; with all parameters 0 every weight is exactly 1, the plain sum."""

    SIGMOID = "sigmoid"  # g_c = 2·σ(s_c), in (0, 2), each member for itself.
    SOFTMAX = "softmax"  # g = (C + 1)·softmax([0, s]) without the base's share: members compete with the base.


@dataclass(frozen=True)
class TokenGate:
    """The token-level gate: logits = base + Σ_c g_c(h)·(logits_c - base), with h the base's hidden state.

    A light form of the MoE gate that the paper's later version names beside routing; see `training.gate` for
    its training. A callable of the shape that the engine's `add_mixture` takes.
    """

    members: tuple[str, ...]
    """Adapter names, in the order of the C axis."""
    kind: GateKind
    weight: Tensor
    """[C, d] float32."""
    bias: Tensor
    """[C] float32."""
    made_for: Mapping[str, str] = field(default_factory=dict)
    """Fingerprints of what it was trained with: each member's by name, and the base's under the empty name."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Training figures; see `training.gate.train_gate`."""

    @classmethod
    def plain_sum(cls, members: Sequence[str], width: int, kind: GateKind = GateKind.SIGMOID) -> TokenGate:
        """The untrained gate, g = 1: the plain sum of logit deltas. `width` is d."""
        return cls(tuple(members), kind, torch.zeros(len(members), width), torch.zeros(len(members)))

    def weights(self, hidden: Tensor) -> Tensor:
        """g [B, C] float32 for the base's last-layer states `hidden` [B, d]."""
        return gate_weights(self.kind, hidden.float() @ self.weight.T + self.bias)

    def __call__(self, base_logits: Tensor, member_logits: Tensor, hidden: Tensor) -> Tensor:
        """Mixed logits [B, V] of `base_logits` [B, V], `member_logits` [C, B, V] and `hidden` [B, d]."""
        if member_logits.shape[0] != len(self.members):
            raise UsageError(
                f"the gate is for {len(self.members)} members {list(self.members)!r}, not for {member_logits.shape[0]}"
            )
        return mix(base_logits, member_logits, self.weights(hidden).to(base_logits.dtype))

    def save(self, folder: Path) -> Path:
        """Write `gate.json` and `gate.safetensors` into `folder`; returns it."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = folder / "gate.safetensors"
        part = tensors.with_name(f".{tensors.name}.part")
        save_file({"weight": self.weight.contiguous(), "bias": self.bias.contiguous()}, part)
        part.replace(tensors)
        head = {
            "version": 1,
            "kind": self.kind.value,
            "members": list(self.members),
            "made_for": dict(self.made_for),
            "metrics": dict(self.metrics),
        }
        write_atomically(folder / "gate.json", json.dumps(head, indent=2) + "\n")
        return folder

    @classmethod
    def load(cls, folder: Path, base: Path, members: Mapping[str, Path]) -> TokenGate:
        """Read a gate for the base model `base` and adapters `members` (name -> PEFT folder).

        Raises:
            UsageError: no gate there, or one trained with other members, other weights of them, or another base.
        """
        head_file = Path(folder) / "gate.json"
        try:
            head = json.loads(head_file.read_text(encoding="utf-8"))
            tensors = load_file(head_file.with_suffix(".safetensors"))
        except (OSError, ValueError, SafetensorError) as error:
            raise UsageError(
                f"gate {str(folder)!r} does not load ({error}): give a folder that a gate was saved to"
            ) from error
        if head.get("version") != 1:
            raise UsageError(f"gate {str(folder)!r} has version {head.get('version')!r}: this release reads version 1")
        if sorted(head["members"]) != sorted(members):
            raise UsageError(
                f"gate {str(folder)!r} is for members {head['members']!r}, not for {sorted(members)!r}: train it again"
            )
        for name, path in {"": base, **members}.items():
            if head["made_for"].get(name) != fingerprint(path):
                what = f"adapter {name!r}" if name else "the base"
                raise UsageError(
                    f"gate {str(folder)!r} was trained with other weights of {what} than {str(path)!r} holds: "
                    "train the gate again"
                )
        return cls(
            tuple(head["members"]),
            GateKind(head["kind"]),
            tensors["weight"],
            tensors["bias"],
            head["made_for"],
            head["metrics"],
        )


def gate_weights(kind: GateKind, scores: Tensor) -> Tensor:
    """g [..., C] of gate scores s [..., C]; all 1 where all scores are 0."""
    if kind is GateKind.SIGMOID:
        return 2.0 * torch.sigmoid(scores)
    padded = torch.cat([scores.new_zeros(*scores.shape[:-1], 1), scores], -1)
    return padded.shape[-1] * torch.softmax(padded, -1)[..., 1:]


def mix(base_logits: Tensor, member_logits: Tensor, weights: Tensor) -> Tensor:
    """base + Σ_c g_c·(member_c - base): [B, V] of [B, V], [C, B, V] and g [B, C]."""
    mixed = torch.einsum("bc,cbv->bv", weights, member_logits)
    return mixed + base_logits * (1.0 - weights.sum(-1, keepdim=True))
