"""The analyst that reads: it words requests to a mind (§3.3), batch by batch, and takes in the answers."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from graphs.analysts.batches import deal, fill
from graphs.analysts.merging import ENTRY_TOKENS, discovered, merged
from graphs.analysts.mind import Mind
from trace_agents.analysis.analyst import Courier, Discovered, RunLabels, check_outcomes
from trace_agents.analysis.compaction import Compaction, compact, shared_rules, tokens, tool_lines
from trace_agents.analysis.requests import (
    LONGEST_ENTRY,
    Request,
    Usage,
    discover_schema,
    label_of,
    label_schema,
    make_request,
    proposals,
)
from trace_agents.analysis.results import Analysis
from trace_agents.errors import UsageError
from trace_agents.files import digest
from trace_agents.prompts import source
from trace_agents.types import Capability, Record, Trajectory

PROMPTS = ("analysis-discover", "analysis-merge", "analysis-label")
LABEL_TOKENS = 16
"""Tokens that one label takes in an answer, its capability's name among them."""
STRONGEST = 8
"""Contrasts of the statistics that the discovery prompt holds."""


class Statement(Record):
    """A contrast that the statistics found, as evidence for discovery."""

    title: str
    description: str
    delta: str
    """Mean contrastive gap over the runs, two decimals."""
    coverage: str
    """Mean coverage of the failures, two decimals."""


class LanguageConfig(Record):
    """How a mind is asked."""

    compaction: Compaction = Compaction()
    context_tokens: int = Field(default=100_000, ge=1000)
    """Tokens of a request and its answer together."""
    candidates: int = Field(default=10, ge=1)
    """Most capabilities that one discovery batch, and the dictionary, may name."""
    least: int = Field(default=10, ge=1)
    """Fewest failed, and fewest successful, trajectories that are worth reading: fewer cannot be contrasted."""
    seed: int = 0
    """Of the order in which each run shows trajectories and capabilities."""
    evidence: tuple[Statement, ...] = ()
    """What the statistics found; empty keeps discovery to reading alone."""


class LanguageAnalyst:
    """Discovers and labels by asking a mind; see `BatchedAnalyst`.

    Labelling does not see the outcomes: a judge who knows that a trajectory failed finds what it lacks, and the
    contrast would measure that knowledge. Each run shows the trajectories, and the dictionary, in an order of its own.
    """

    def __init__(self, mind: Mind, config: LanguageConfig | None = None) -> None:
        self.mind = mind
        self.name = mind.name
        self.config = config or LanguageConfig()
        self._rules: dict[str, str] = {}
        self._tools: list[str] = []
        self._texts: dict[str, str] = {}

    @property
    def settings(self) -> dict[str, Any]:
        """The configuration and the prompts' texts."""
        return self.config.model_dump(mode="json") | {"prompts": digest([source(name) for name in PROMPTS])}

    @property
    def courier(self) -> Courier | None:
        """The mind, where its answers arrive later."""
        return self.mind if isinstance(self.mind, Courier) else None

    def begin(self, trajectories: Sequence[Trajectory], analysis: str, checkpoint: Path | None) -> None:
        """See `BatchedAnalyst`; refuses what cannot be contrasted, or fits no request, before anybody is asked."""
        check_outcomes(trajectories, self.config.least)
        self._rules = shared_rules(trajectories)
        self._tools = tool_lines(trajectories)
        self._texts = {}
        self._check_size(trajectories)
        self.mind.begin(analysis, checkpoint)

    def spent(self) -> Usage:
        """What the answers took."""
        return self.mind.spent()

    # Discovery.

    def discovery_batches(self, trajectories: Sequence[Trajectory]) -> Sequence[Sequence[int]]:
        """Whole tasks, dealt so that every batch mixes outcomes; see `BatchedAnalyst`."""
        costs = [self._discover_cost(one) for one in trajectories]
        budget = self._budget(trajectories, costs, self._around_discovery())
        return deal(trajectories, costs, budget, self.config.seed)

    def _discover_cost(self, one: Trajectory) -> int:
        return tokens(f"{self._text(one)}{one.task_id}") + 40

    def _around_discovery(self) -> int:
        """Tokens of a discovery request without trajectories, and of its answer."""
        return tokens(self._discover_request([]).prompt) + self.config.candidates * ENTRY_TOKENS

    async def discover(self, trajectories: Sequence[Trajectory]) -> Sequence[Discovered]:
        """The candidates of one batch."""
        answer = await self.mind.ask(self._discover_request(trajectories))
        ids = {f"T{number}": one.id for number, one in enumerate(trajectories, start=1)}
        return [
            discovered(name, entry, tuple(ids[key] for key in dict.fromkeys(entry.examples)))
            for name, entry in proposals(answer).items()
        ]

    async def merge(self, parts: Sequence[Sequence[Discovered]]) -> Sequence[Discovered]:
        """The canonical dictionary; see `graphs.analysts.merging`."""
        return await merged(self.mind, parts, self.config.context_tokens, self.config.candidates)

    def _discover_request(self, trajectories: Sequence[Trajectory]) -> Request:
        shown = [
            {"key": f"T{number}", "task": one.task_id, "outcome": _outcome(one), "text": self._text(one)}
            for number, one in enumerate(trajectories, start=1)
        ]
        failures = [row["key"] for row, one in zip(shown, trajectories, strict=True) if not one.success]
        return make_request(
            "discover",
            f"candidates from {len(shown)} trajectories, {len(failures)} of them failed",
            discover_schema(failures or [one["key"] for one in shown], self.config.candidates),
            count=len(shown),
            most=self.config.candidates,
            evidence=[entry.model_dump() for entry in self.config.evidence],
            trajectories=shown,
            **self._background(),
        )

    # Labelling.

    def draw(self, trajectories: Sequence[Trajectory], run: int) -> Sequence[Trajectory]:
        """All trajectories in the run's own order."""
        drawn = list(trajectories)
        random.Random(f"{self.config.seed}-{run}").shuffle(drawn)
        return drawn

    def label_batches(
        self, drawn: Sequence[Trajectory], dictionary: Sequence[Capability], most: int | None
    ) -> Sequence[int]:
        """As few batches as fit the context, of near equal size; see `BatchedAnalyst`."""
        costs = [self._label_cost(one, len(dictionary)) for one in drawn]
        return fill(costs, self._budget(drawn, costs, self._around_labels(dictionary)), most)

    def _label_cost(self, one: Trajectory, entries: int) -> int:
        schema = tokens(json.dumps(label_schema({"T100": 99}, []))) - tokens(json.dumps(label_schema({}, [])))
        return tokens(self._text(one)) + schema + 16 + LABEL_TOKENS * entries

    def _around_labels(self, dictionary: Sequence[Capability]) -> int:
        """Tokens of a labelling request without trajectories."""
        return tokens(self._label_request([], dictionary, 0).prompt)

    async def label(self, trajectories: Sequence[Trajectory], dictionary: Sequence[Capability], run: int) -> RunLabels:
        """The labels of one batch; unsure counts as PRESENT."""
        ids = tuple(one.id for one in trajectories)
        if not dictionary or not trajectories:
            return RunLabels(run=run, trajectory_ids=ids, labels={}, steps={})
        answer = await self.mind.ask(self._label_request(trajectories, dictionary, run))
        rows = [answer["labels"][f"T{number}"] for number in range(1, len(ids) + 1)]
        given = {one.name: [label_of(row[one.name]) for row in rows] for one in dictionary}
        return RunLabels(
            run=run,
            trajectory_ids=ids,
            labels={name: "".join(label.value[0] for label, _ in found) for name, found in given.items()},
            steps={name: tuple(step for _, step in found) for name, found in given.items()},
        )

    def _label_request(self, trajectories: Sequence[Trajectory], dictionary: Sequence[Capability], run: int) -> Request:
        order = list(dictionary)
        random.Random(f"{self.config.seed}-{run}-dictionary").shuffle(order)
        shown = [{"key": f"T{number}", "text": self._text(one)} for number, one in enumerate(trajectories, start=1)]
        last = {f"T{number}": len(one.messages) - 1 for number, one in enumerate(trajectories, start=1)}
        return make_request(
            "label",
            f"run {run + 1}: labels of {len(shown)} trajectories for {len(order)} capabilities",
            label_schema(last, [one.name for one in order]),
            run=run + 1,
            dictionary=[one.model_dump(include={"name", "title", "description"}) for one in order],
            trajectories=shown,
            **self._background(),
        )

    # What both show.

    def _background(self) -> dict[str, Any]:
        most = self.config.compaction.rules_chars
        rules = [
            (text if len(text) <= most else f"{text[:most]}… (+{len(text) - most} characters)", key)
            for text, key in self._rules.items()
        ]
        return {"rules": rules, "tools": self._tools}

    def _text(self, one: Trajectory) -> str:
        if one.id not in self._texts:
            self._texts[one.id] = compact(one, self.config.compaction, self._rules)
        return self._texts[one.id]

    def _check_size(self, trajectories: Sequence[Trajectory]) -> None:
        """Refuse a trajectory that no discovery request could hold, or no labelling one with the longest dictionary."""
        self._budget(trajectories, [self._discover_cost(one) for one in trajectories], self._around_discovery())
        longest = [
            LONGEST_ENTRY.model_copy(update={"name": f"{LONGEST_ENTRY.name[:-3]}{number:03}"})
            for number in range(self.config.candidates)
        ]
        costs = [self._label_cost(one, len(longest)) for one in trajectories]
        self._budget(trajectories, costs, self._around_labels(longest))

    def _budget(self, trajectories: Sequence[Trajectory], costs: Sequence[int], around: int) -> int:
        """Tokens left for trajectories; refuses what does not fit even alone."""
        budget = self.config.context_tokens - around
        largest = max(range(len(costs)), key=costs.__getitem__, default=None)
        if largest is None or costs[largest] <= budget:
            return budget
        raise UsageError(
            f"trajectory {trajectories[largest].id!r} takes about {costs[largest]} tokens and the request around it "
            f"up to {around}, together more than --context-tokens {self.config.context_tokens!r}: give "
            f"{_rounded(costs[largest] + around)} or more (and a model that has as many), or cut more with "
            "--message-chars, --argument-chars, --result-chars and --rules-chars"
        )


def evidence_from(analysis: Analysis) -> tuple[Statement, ...]:
    """The strongest contrasts of a statistical analysis: kept ones first, by coverage."""
    return tuple(
        Statement(
            title=one.capability.title or one.capability.name,
            description=one.capability.description,
            delta=f"{one.selection.delta.mean:.2f}",
            coverage=f"{one.selection.coverage.mean:.2f}",
        )
        for one in analysis.summary.capabilities
        if one.selection.delta.mean is not None and one.selection.coverage.mean is not None
    )[:STRONGEST]


def _outcome(one: Trajectory) -> str:
    reward = "" if one.reward is None else f", reward {one.reward:g}"
    return f"{'succeeded' if one.success else 'FAILED'}{reward}"


def _rounded(number: int) -> int:
    return -(-number // 1000) * 1000


__all__ = ["LanguageAnalyst", "LanguageConfig", "Statement", "evidence_from"]
