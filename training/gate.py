"""Training the token-level gate by maximum likelihood on the adapters' own successful synthetic rollouts.

Base and adapters are frozen; only the gate's C·(d + 1) parameters are fitted, to the tokens that the agent
sampled (teacher-forced), every environment with equal weight.

Axes: C members, T tokens of a block, V vocabulary, d hidden width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from peft import PeftModel
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, PreTrainedModel

from trace_agents.errors import UsageError
from training.composition import GateKind, TokenGate, gate_weights, mix
from training.fingerprint import fingerprint


@dataclass(frozen=True)
class GateSample:
    """The tokens of one successful trajectory."""

    environment: str
    """Where it succeeded; every environment weighs the same in the loss."""
    token_ids: Sequence[int]
    sampled: Sequence[bool]
    """Per token: the agent sampled it (an action token), so the mixture shall give it high probability."""


@dataclass(frozen=True)
class GateTraining:
    """How to fit a gate."""

    kind: GateKind = GateKind.SIGMOID
    epochs: int = 12
    lr: float = 0.01
    """Adam's, on standardised hidden states."""
    l2: float = 1e-3
    """Pull of the squared parameters towards 0, that is of the gate towards 1, per parameter."""
    held_out: float = 0.2
    """Share of each environment's trajectories that only choose the epoch."""
    seed: int = 0
    block_tokens: int = 512
    """T: most tokens of one step."""
    cache_bytes: int = 1 << 29
    """Teacher-forced logits are kept up to this size, and recomputed in every epoch beyond it."""


def train_gate(
    base: Path, adapters: Mapping[str, Path], samples: Sequence[GateSample], config: GateTraining | None = None
) -> TokenGate:
    """Fit a token-level gate; the epoch with the best held-out likelihood wins, the untrained gate among them.

    Args:
        base: model folder in transformers format.
        adapters: member name -> PEFT folder; their order is the gate's order of members.
        samples: successful trajectories of the members' synthetic environments.

    Returns:
        The gate, with `metrics`: `nats_plain_sum` and `nats_gate` (held-out loss per token before and after),
        `epoch` (the one kept, 0 for untrained), `tokens` and `held_out_tokens`.

    Raises:
        UsageError: no adapters, no sampled tokens, or adapters that do not fit the base.
    """
    config = config or GateTraining()
    train, held = _split(samples, config)
    teacher = _Teacher.load(base, adapters)
    train_blocks, held_blocks = _Blocks(teacher, train, config), _Blocks(teacher, held, config)
    mean, deviation = _moments(train_blocks)
    fit = _fit(train_blocks, held_blocks, (mean, deviation), config)
    made_for = {name: fingerprint(path) for name, path in {"": base, **adapters}.items()}
    weight = fit.weight / deviation
    return TokenGate(tuple(adapters), config.kind, weight, fit.bias - weight @ mean, made_for, fit.metrics)


@dataclass(frozen=True)
class _Example:
    sample: GateSample
    share: float
    """Weight of each of its sampled tokens: environments, then trajectories, then tokens count alike."""


@dataclass(frozen=True)
class _Block:
    """Teacher-forced quantities at T sampled tokens."""

    base: Tensor
    """[T, V] logits."""
    members: Tensor
    """[C, T, V] logits."""
    hidden: Tensor
    """[T, d] last-layer states of the base, from which it predicts the token."""
    targets: Tensor
    """[T] token ids."""
    shares: Tensor
    """[T]; they add up to 1 over all blocks."""


@dataclass(frozen=True)
class _Fit:
    weight: Tensor
    bias: Tensor
    metrics: dict[str, float] = field(default_factory=dict)


def _split(samples: Sequence[GateSample], config: GateTraining) -> tuple[list[_Example], list[_Example]]:
    by_environment: dict[str, list[GateSample]] = {}
    for sample in samples:
        if len(sample.token_ids) != len(sample.sampled):
            raise UsageError(
                f"a gate sample of {sample.environment!r} has {len(sample.token_ids)} tokens and a mask of "
                f"{len(sample.sampled)}: give one flag per token"
            )
        if any(sample.sampled[1:]):
            by_environment.setdefault(sample.environment, []).append(sample)
    thin = [name for name, group in by_environment.items() if len(group) < 2]
    if not by_environment or thin:
        raise UsageError(
            f"the gate needs two or more successful trajectories of every environment, too few of {thin!r} of "
            f"{sorted(by_environment)!r}: roll out more"
        )
    rng = torch.Generator().manual_seed(config.seed)
    train: dict[str, list[GateSample]] = {}
    held: dict[str, list[GateSample]] = {}
    for name, group in by_environment.items():
        order = torch.randperm(len(group), generator=rng).tolist()
        cut = min(len(group) - 1, max(1, round(config.held_out * len(group))))
        held[name] = [group[index] for index in order[:cut]]
        train[name] = [group[index] for index in order[cut:]]
    return _weighted(train), _weighted(held)


def _weighted(groups: Mapping[str, Sequence[GateSample]]) -> list[_Example]:
    return [
        _Example(sample, 1.0 / (len(groups) * len(group) * sum(sample.sampled[1:])))
        for group in groups.values()
        for sample in group
    ]


class _Teacher:
    """The frozen base and its adapters, for forward passes."""

    def __init__(self, model: PeftModel, names: Sequence[str]) -> None:
        self._model, self._names = model, names
        causal = cast(PreTrainedModel, model.get_base_model())
        self._decoder, self._head = causal.get_decoder(), causal.get_output_embeddings()

    @classmethod
    def load(cls, base: Path, adapters: Mapping[str, Path]) -> _Teacher:
        if not adapters:
            raise UsageError("the gate got no adapters: give at least one")
        try:
            causal = AutoModelForCausalLM.from_pretrained(str(base), dtype=torch.float32)
        except (OSError, ValueError) as error:
            raise UsageError(f"base model {str(base)!r} does not load ({error}): give a transformers folder") from error
        model: PeftModel | None = None
        for index, (name, path) in enumerate(adapters.items()):
            # PEFT keeps adapters in module dictionaries, whose keys may not hold dots: names stay on our side.
            try:
                if model is None:
                    model = PeftModel.from_pretrained(causal, str(path), adapter_name="member0")
                else:
                    model.load_adapter(str(path), adapter_name=f"member{index}")
            except (OSError, ValueError, RuntimeError) as error:
                raise UsageError(
                    f"adapter {name!r} in {str(path)!r} does not fit base {str(base)!r} ({error})"
                ) from error
        assert model is not None  # There is at least one adapter.
        return cls(model.eval(), [f"member{index}" for index in range(len(adapters))])

    @torch.no_grad()
    def block(self, examples: Sequence[_Example]) -> _Block:
        """Everything at the examples' sampled tokens, from one forward pass per model."""
        samples = [example.sample for example in examples]
        length = max(len(sample.token_ids) for sample in samples)
        ids = torch.zeros(len(samples), length, dtype=torch.long)
        wanted = torch.zeros(len(samples), length, dtype=torch.bool)
        for row, sample in enumerate(samples):
            ids[row, : len(sample.token_ids)] = torch.tensor(sample.token_ids)
            # A token is predicted from the state one place before it; the first token has none.
            wanted[row, : len(sample.sampled) - 1] = torch.tensor(sample.sampled[1:], dtype=torch.bool)
        shares = torch.tensor([example.share for example in examples])[:, None].expand_as(wanted)[wanted]
        with self._model.disable_adapter():
            hidden = self._states(ids, wanted)
        members = []
        for name in self._names:
            self._model.set_adapter(name)
            members.append(self._head(self._states(ids, wanted)))
        targets = ids.roll(-1, 1)[wanted]
        return _Block(self._head(hidden), torch.stack(members), hidden, targets, shares)

    def _states(self, ids: Tensor, wanted: Tensor) -> Tensor:
        # Padding stands on the right, where causal attention never looks back from.
        return self._decoder(input_ids=ids, use_cache=False).last_hidden_state[wanted]


class _Blocks:
    """The blocks of a set of examples, kept in memory where they fit."""

    def __init__(self, teacher: _Teacher, examples: Sequence[_Example], config: GateTraining) -> None:
        self._teacher = teacher
        self._groups = _grouped(examples, config.block_tokens)
        self._kept: list[_Block] | None = None
        self.tokens = sum(sum(example.sample.sampled[1:]) for example in examples)
        first = teacher.block(self._groups[0])
        per_token = (
            sum(tensor[..., :1, :].numel() for tensor in (first.base, first.members)) * first.base.element_size()
        )
        if per_token * self.tokens <= config.cache_bytes:
            self._kept = [first, *(teacher.block(group) for group in self._groups[1:])]

    def __iter__(self) -> Iterator[_Block]:
        return iter(self._kept if self._kept is not None else map(self._teacher.block, self._groups))


def _grouped(examples: Sequence[_Example], block_tokens: int) -> list[list[_Example]]:
    """Examples of like length together, each group with at most `block_tokens` sampled tokens (or one example)."""
    groups: list[list[_Example]] = [[]]
    filled = 0
    for example in sorted(examples, key=lambda example: len(example.sample.token_ids)):
        size = sum(example.sample.sampled[1:])
        if groups[-1] and filled + size > block_tokens:
            groups.append([])
            filled = 0
        groups[-1].append(example)
        filled += size
    return groups


def _moments(blocks: _Blocks) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [d] of the hidden states."""
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for block in blocks:
        count += len(block.hidden)
        total = total + block.hidden.sum(0)
        squares = squares + block.hidden.square().sum(0)
    mean = total / count
    return mean, (squares / count - mean.square()).clamp_min(1e-6).sqrt()


def _fit(train: _Blocks, held: _Blocks, moments: tuple[Tensor, Tensor], config: GateTraining) -> _Fit:
    first = next(iter(train))
    weight = torch.zeros(first.members.shape[0], first.hidden.shape[1], requires_grad=True)
    bias = torch.zeros(first.members.shape[0], requires_grad=True)
    optimizer = torch.optim.Adam([weight, bias], lr=config.lr)

    def nats(block: _Block) -> Tensor:
        scores = (block.hidden - moments[0]) / moments[1] @ weight.T + bias
        mixed = mix(block.base, block.members, gate_weights(config.kind, scores))
        return F.cross_entropy(mixed, block.targets, reduction="none") @ block.shares

    def held_out() -> float:
        with torch.no_grad():
            return math.fsum(float(nats(block)) for block in held)

    plain = best = held_out()
    kept, epoch_kept = (weight.detach().clone(), bias.detach().clone()), 0
    for epoch in range(1, config.epochs + 1):
        for block in train:
            penalty = config.l2 * (weight.square().sum() + bias.square().sum())
            # Shares add up to 1 over all blocks: a block's step is scaled to its part of the tokens.
            loss = nats(block) / block.shares.sum() + penalty
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        current = held_out()
        if current < best:
            best, kept, epoch_kept = current, (weight.detach().clone(), bias.detach().clone()), epoch
    metrics = {"nats_plain_sum": plain, "nats_gate": best, "epoch": epoch_kept}
    return _Fit(*kept, metrics | {"tokens": train.tokens, "held_out_tokens": held.tokens})
