"""From traces to tensors: the exact tokens that the model saw, and which of them it sampled.

Axes: B rows, S positions, N action tokens of the batch in row-major order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import verifiers.v1 as vf
from torch import Tensor


@dataclass(frozen=True)
class Row:
    """One token sequence of a trajectory: a branch of its trace, up to its last action token."""

    token_ids: list[int]
    is_action: list[bool]
    """The model sampled the token here (and not in a row before this one)."""
    logprobs: list[float]
    """The sampler's log-probability of each action token, in order."""


@dataclass(frozen=True)
class Experience:
    """A trajectory to learn from."""

    rows: tuple[Row, ...]
    """One, unless a prompt did not extend the tokens before it."""
    advantage: float
    """Â of eq. 1."""

    @property
    def actions(self) -> int:
        """T of eq. 2: action tokens of the trajectory."""
        return sum(len(row.logprobs) for row in self.rows)


@dataclass(frozen=True)
class Batch:
    """Some rows of a minibatch, padded on the right."""

    token_ids: Tensor
    """[B, S]; what pads a row is never attended to, and never a target."""
    is_target: Tensor
    """[B, S - 1]: the next token is an action."""
    targets: Tensor
    """Action tokens [N]."""
    sampled: Tensor
    """The sampler's log-probabilities [N]."""
    advantages: Tensor
    """[N]."""
    weights: Tensor
    """1 / (|B| · T) of each action token [N]; see `grpo_loss`."""


def rows_of(trace: vf.Trace) -> tuple[Row, ...]:
    """The rows of a trace; a sampled message that two branches share is an action in the first only."""
    rows: list[Row] = []
    counted: set[int] = set()
    for branch in trace.branches:
        row = Row([], [], [])
        for node in branch.nodes:
            is_new = node.sampled and id(node) not in counted
            counted.add(id(node))
            row.token_ids.extend(node.token_ids)
            row.is_action.extend(node.mask if is_new else [False] * len(node.token_ids))
            row.logprobs.extend(node.logprobs if is_new else ())
        if row.logprobs:
            end = len(row.is_action) - row.is_action[::-1].index(True)
            rows.append(Row(row.token_ids[:end], row.is_action[:end], row.logprobs))
    return tuple(rows)


def batches(minibatch: Sequence[Experience], most_tokens: int, device: torch.device) -> Iterator[Batch]:
    """The rows of a minibatch in batches of at most `most_tokens` padded tokens, rows of like length together."""
    weighted = [
        (row, experience.advantage, 1.0 / (len(minibatch) * experience.actions))
        for experience in minibatch
        for row in experience.rows
    ]
    weighted.sort(key=lambda item: len(item[0].token_ids))
    batch: list[tuple[Row, float, float]] = []
    for item in weighted:
        if batch and len(item[0].token_ids) * (len(batch) + 1) > most_tokens:
            yield _padded(batch, device)
            batch = []
        batch.append(item)
    if batch:
        yield _padded(batch, device)


def _padded(rows: Sequence[tuple[Row, float, float]], device: torch.device) -> Batch:
    width = max(len(row.token_ids) for row, _, _ in rows)
    token_ids = torch.zeros(len(rows), width, dtype=torch.long)
    is_action = torch.zeros(len(rows), width, dtype=torch.bool)
    for place, (row, _, _) in enumerate(rows):
        token_ids[place, : len(row.token_ids)] = torch.tensor(row.token_ids)
        is_action[place, : len(row.is_action)] = torch.tensor(row.is_action)
    is_target = is_action[:, 1:]
    return Batch(
        token_ids=token_ids.to(device),
        is_target=is_target.to(device),
        targets=token_ids[:, 1:][is_target].to(device),
        sampled=_spread((row.logprobs for row, _, _ in rows), device),
        advantages=_spread(([advantage] * len(row.logprobs) for row, advantage, _ in rows), device),
        weights=_spread(([weight] * len(row.logprobs) for row, _, weight in rows), device),
    )


def _spread(values: Iterable[Iterable[float]], device: torch.device) -> Tensor:
    return torch.tensor([value for row in values for value in row], dtype=torch.float32).to(device)
