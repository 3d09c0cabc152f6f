"""The statistical analyst: no language model, only the contrast between failed and successful trajectories."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from trace_agents.analysis.analyst import Discovered, RunLabels, check_outcomes
from trace_agents.analysis.discovery import Discovery, DiscoveryConfig, discover, outcomes_of
from trace_agents.analysis.hardness import evidence
from trace_agents.analysis.matrix import label_all
from trace_agents.analysis.significance import within_tasks
from trace_agents.analysis.statements import Finding, Statement, statement_from
from trace_agents.analysis.views import View, read
from trace_agents.analysis.wording import capability_of, word
from trace_agents.errors import UsageError
from trace_agents.types import Capability, Trajectory


@dataclass(frozen=True)
class StatisticalConfig:
    """The statistical analyst's settings."""

    discovery: DiscoveryConfig = field(default_factory=DiscoveryConfig)
    share: float = 0.8
    """Share of each task's trials that a run labels, rounded at random: a lone trial is in with this probability."""
    least: int = 10
    """Failed, and successful, trajectories needed."""
    seed: int = 0
    """Of the runs' samples; the seed of discovery is `discovery.seed`."""

    @classmethod
    def seeded(cls, seed: int) -> StatisticalConfig:
        """The defaults with all randomness drawn from `seed`."""
        return cls(discovery=DiscoveryConfig(seed=seed), seed=seed)


class StatisticalAnalyst:
    """Mines checkable statements, contrasts, and labels by evaluating them.

    Evaluating a statement always gives the same label, so asking N times would give N equal runs. What is uncertain
    here is the sample, not the judge: each run labels its own random share of the trials of every task, without
    replacement, and the selection frequency says how often such a sample selects the capability.
    """

    name = "statistical"

    def __init__(self, config: StatisticalConfig | None = None, seed: int = 0) -> None:
        self.config = config or StatisticalConfig.seeded(seed)
        self._statements: dict[str, Statement] = {}
        self._found: dict[int, tuple[Trajectory, dict[str, Finding]]] = {}

    async def discover(self, trajectories: Sequence[Trajectory]) -> Sequence[Discovered]:
        """See `Analyst`; deterministic in the trajectories and the configuration's seed."""
        return await asyncio.to_thread(self._discover, trajectories)

    def draw(self, trajectories: Sequence[Trajectory], run: int) -> Sequence[Trajectory]:
        """The run's share of each task's trials, in the given order."""
        rng = random.Random(f"{self.config.seed}-{run}")
        trials: dict[str, list[int]] = {}
        for index, trajectory in enumerate(trajectories):
            trials.setdefault(trajectory.task_id, []).append(index)
        chosen: set[int] = set()
        for task in sorted(trials):
            size = int(self.config.share * len(trials[task]) + rng.random())
            chosen.update(rng.sample(trials[task], size))
        return [trajectories[index] for index in sorted(chosen)]

    async def label(self, trajectories: Sequence[Trajectory], dictionary: Sequence[Capability], run: int) -> RunLabels:
        """Evaluate each capability's statement on each trajectory.

        Raises:
            UsageError: a capability without a statement.
        """
        return await asyncio.to_thread(self._label, trajectories, dictionary, run)

    def _label(self, trajectories: Sequence[Trajectory], dictionary: Sequence[Capability], run: int) -> RunLabels:
        keys = {capability.name: self._statement(capability) for capability in dictionary}
        found = [self._findings(trajectory, keys.values()) for trajectory in trajectories]
        return RunLabels(
            run=run,
            trajectory_ids=tuple(one.id for one in trajectories),
            labels={name: "".join(one[key].label.value[0] for one in found) for name, key in keys.items()},
            steps={name: tuple(one[key].at for one in found) for name, key in keys.items()},
        )

    def _statement(self, capability: Capability) -> str:
        """The key of a capability's statement, which is kept for the runs to come."""
        if capability.statement is None:
            raise UsageError(f"capability {capability.name!r} has no statement: label it with a language model")
        statement = statement_from(capability.statement)
        key = statement.model_dump_json()
        self._statements.setdefault(key, statement)
        return key

    def _findings(self, trajectory: Trajectory, keys: Collection[str]) -> dict[str, Finding]:
        """The verdicts of some statements on a trajectory, kept for the runs to come, where its reading is not."""
        held = self._found.get(id(trajectory))
        if held is None or held[0] is not trajectory:
            held = self._found[id(trajectory)] = (trajectory, {})
        if not all(key in held[1] for key in keys):
            view = read(trajectory)
            held[1].update({key: self._statements[key].evaluate(view) for key in keys})
        return held[1]

    def _discover(self, trajectories: Sequence[Trajectory]) -> list[Discovered]:
        check_outcomes(trajectories, self.config.least)
        views = [read(trajectory) for trajectory in self._sample(trajectories)]
        found = discover(views, self.config.discovery)
        return _described(found, views)

    def _sample(self, trajectories: Sequence[Trajectory]) -> Sequence[Trajectory]:
        """At most `most_trajectories`, by whole tasks in random order."""
        most = self.config.discovery.most_trajectories
        if len(trajectories) <= most:
            return trajectories
        by_task: dict[str, list[Trajectory]] = {}
        for trajectory in trajectories:
            by_task.setdefault(trajectory.task_id, []).append(trajectory)
        tasks = sorted(by_task)
        random.Random(self.config.seed).shuffle(tasks)
        kept: list[Trajectory] = []
        for task in tasks:
            if len(kept) + len(by_task[task]) > most and kept:
                break
            kept += by_task[task]
        return kept


def _described(found: Discovery, views: Sequence[View]) -> list[Discovered]:
    statements = [entry.statement for entry in found.entries]
    outcomes, matrix = outcomes_of(views), label_all(statements, views)
    gains = evidence(matrix.labels_ST, outcomes, matrix.abstains_S)
    within = within_tasks(matrix.labels_ST, outcomes, matrix.abstains_S)
    taken: set[str] = set()
    described = []
    for row, entry in enumerate(found.entries):
        capability = capability_of(entry.statement, taken)
        titles = dict.fromkeys(word(statement).title for statement in entry.merged)
        figures = {
            "explained_nats": round(float(gains[row]), 3),
            "within_task_z": round(float(within.z[row]), 3),
            "within_tasks": float(within.tasks[row]),
            "failures_explained_first": float(entry.fresh_failures),
            "statements_tested": float(found.tested),
        }
        merged = tuple(title for title in titles if title != capability.title)[:8]
        described.append(Discovered(capability=capability, figures=figures, merged=merged))
    return described
