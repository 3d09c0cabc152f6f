"""Cutting trajectories into batches that fit a context."""

from __future__ import annotations

import random
from collections.abc import Sequence
from math import ceil

from trace_agents.types import Trajectory


def fill(costs: Sequence[int], budget: int, most: int | None) -> list[int]:
    """Sizes of consecutive batches of near equal cost, each of at most `budget` and `most` members.

    Every cost must be within the budget.
    """
    sizes = _greedy(costs, budget, most)
    even = ceil(len(costs) / len(sizes)) if sizes else 0
    levelled = _greedy(costs, budget, min(even, most or even)) if even else []
    return levelled if len(levelled) == len(sizes) else sizes


def _greedy(costs: Sequence[int], budget: int, most: int | None) -> list[int]:
    sizes: list[int] = []
    held = size = 0
    for cost in costs:
        if size and (held + cost > budget or (most is not None and size >= most)):
            sizes.append(size)
            held = size = 0
        held, size = held + cost, size + 1
    return [*sizes, size] if size else sizes


def deal(trajectories: Sequence[Trajectory], costs: Sequence[int], budget: int, seed: int) -> list[list[int]]:
    """Indices of batches within the budget that keep the trials of a task together and mix outcomes alike.

    Tasks go round the batches by falling pass rate, so that each batch has easy and hard ones. A task that does not fit
    one batch is cut. Every cost must be within the budget.
    """
    pieces = _pieces(trajectories, costs, budget, seed)
    number = max(1, ceil(sum(costs) / budget))
    while True:
        batches: list[list[int]] = [[] for _ in range(number)]
        held = [0] * number
        for piece in pieces:
            cost = sum(costs[index] for index in piece)
            place = min(range(number), key=lambda one: (held[one] + cost > budget, len(batches[one]), one))
            batches[place] += piece
            held[place] += cost
        if all(load <= budget for load in held):
            return [sorted(batch) for batch in batches if batch]
        number += 1


def _pieces(trajectories: Sequence[Trajectory], costs: Sequence[int], budget: int, seed: int) -> list[list[int]]:
    tasks: dict[str, list[int]] = {}
    for index, trajectory in enumerate(trajectories):
        tasks.setdefault(trajectory.task_id, []).append(index)
    order = sorted(tasks)
    random.Random(seed).shuffle(order)
    order.sort(key=lambda task: sum(bool(trajectories[index].success) for index in tasks[task]) / len(tasks[task]))
    pieces: list[list[int]] = []
    for task in order:
        start = 0
        for size in _greedy([costs[index] for index in tasks[task]], budget, None):
            pieces.append(tasks[task][start : start + size])
            start += size
    return pieces
