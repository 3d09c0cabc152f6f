"""Everything that the page shows, gathered from a run's files."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trace_agents.arms import NONE
from trace_agents.artifacts import (
    Arm,
    CertificateRow,
    EvaluationArtifact,
    MetricRow,
    RouterArtifact,
    RunFacts,
    StageRecord,
)
from trace_agents.config import RunConfig
from trace_agents.report.conversations import Browsable, browse
from trace_agents.report.findings import Finding, Labels, read_findings, read_labels
from trace_agents.runstore import RunStore
from trace_agents.statistics import Estimate

TRACES = ("trajectories.jsonl", "evaluation-trajectories.jsonl")
"""Files of a run that hold trajectories."""


@dataclass(frozen=True)
class Contents:
    """A run as the page reads it. What the run has not reached is empty or None."""

    facts: RunFacts
    config: RunConfig
    stages: tuple[StageRecord, ...]
    evaluation: EvaluationArtifact | None
    findings: tuple[Finding, ...]
    labels: Labels
    metrics: dict[str, tuple[MetricRow, ...]]
    """Iterations by adapter."""
    certificates: tuple[CertificateRow, ...]
    router: RouterArtifact | None
    trajectories: Browsable

    @property
    def base(self) -> Arm | None:
        """The base agent's arm."""
        return next((arm for arm in self.arms if arm.versus_base is None), None)

    @property
    def picked(self) -> Arm | None:
        """The arm that validation picked."""
        return next((arm for arm in self.arms if arm.picked), None)

    @property
    def arms(self) -> Sequence[Arm]:
        """Arms of the evaluation, in its order."""
        return self.evaluation.arms if self.evaluation else ()

    @property
    def heat(self) -> list[tuple[str, int, list[Estimate | None]]]:
        """Rows of the heat map: what the tasks need, how many there are, the rate of each arm."""
        keys = sorted({key for arm in self.arms for key in arm.by_capability} - {NONE})
        keys += [NONE] if any(NONE in arm.by_capability for arm in self.arms) else []
        rows = []
        for key in keys:
            rates = [arm.by_capability.get(key) for arm in self.arms]
            tasks = max(rate.trials for rate in rates if rate is not None)
            rows.append(("no capability" if key == NONE else key, tasks, rates))
        return rows

    @property
    def planted(self) -> frozenset[str]:
        """Capabilities that were planted as deficits, where the target says."""
        score = self.evaluation.analysis if self.evaluation else None
        return frozenset(score.planted if score else ())

    @property
    def checks(self) -> list[str]:
        """Names of the certificate checks, in the order of the first certificate that has them."""
        return list(dict.fromkeys(check.name for row in self.certificates for check in row.checks))

    @property
    def browser(self) -> dict[str, Any]:
        """What the page's script reads."""
        found = self.trajectories
        shown = {conversation["id"] for conversation in found.conversations}
        return {
            "trajectories": found.conversations,
            "systems": found.systems,
            "capabilities": {finding.name: finding.title for finding in self.findings},
            "labels": {key: value for key, value in self.labels.by_trajectory.items() if key in shown},
        }

    @property
    def browsable(self) -> frozenset[str]:
        """Ids of the trajectories that the page embeds."""
        return frozenset(conversation["id"] for conversation in self.trajectories.conversations)


def gather(run_dir: Path) -> Contents:
    """Read the run in `run_dir`.

    Raises:
        UsageError: not a run, or a malformed file.
    """
    store = RunStore.open(run_dir, write=False)
    findings = read_findings(store.path("capabilities.json"))
    pointers = [pointer for finding in findings for pointer in finding.evidence]
    evidence = {one for pointer in pointers for one in (pointer.trajectory, pointer.contrast)}
    has = store.has
    return Contents(
        facts=store.read_json("run.json", RunFacts),
        config=store.config,
        stages=tuple(store.stages.values()),
        evaluation=store.read_json("evaluation.json", EvaluationArtifact) if has("evaluation.json") else None,
        findings=findings,
        labels=read_labels(store.path("labels.jsonl")),
        metrics=_metrics(store),
        certificates=tuple(store.read_jsonl("certificates.jsonl", CertificateRow)) if has("certificates.jsonl") else (),
        router=store.read_json("router.json", RouterArtifact) if has("router.json") else None,
        trajectories=_trajectories(store, evidence),
    )


def _metrics(store: RunStore) -> dict[str, tuple[MetricRow, ...]]:
    rows: dict[str, list[MetricRow]] = {}
    if store.has("metrics.jsonl"):
        for row in store.read_jsonl("metrics.jsonl", MetricRow):
            rows.setdefault(row.adapter, []).append(row)
    return {name: tuple(sorted(found, key=lambda row: row.iteration)) for name, found in rows.items()}


def _trajectories(store: RunStore, evidence: Collection[str]) -> Browsable:
    """Rollouts of the base agent, then those kept from the evaluation."""
    return browse([store.path(name) for name in TRACES if store.has(name)], evidence)
