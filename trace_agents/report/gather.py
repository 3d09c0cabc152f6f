"""Everything that a page shows, gathered from the files of a run or of an analysis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path

from trace_agents.analysis.results import EVIDENCE_FILE
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
from trace_agents.report.findings import Findings, read_findings
from trace_agents.runstore import RunStore
from trace_agents.statistics import Estimate

TRACES = ("trajectories.jsonl", "evaluation-trajectories.jsonl")
"""Files of a run that hold trajectories: the base agent's rollouts, then those kept from the evaluation."""


@dataclass(frozen=True)
class Contents:
    """A run as the page reads it. What the run has not reached is empty or None."""

    facts: RunFacts
    config: RunConfig
    stages: tuple[StageRecord, ...]
    evaluation: EvaluationArtifact | None
    found: Findings
    metrics: dict[str, tuple[MetricRow, ...]]
    """Iterations by adapter."""
    certificates: tuple[CertificateRow, ...]
    router: RouterArtifact | None

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


@dataclass(frozen=True)
class AnalysisContents:
    """An analysis on its own, as the page reads it."""

    found: Findings
    package: str
    """Version of trace-agents."""

    @property
    def subject(self) -> str:
        """Who was analysed and where, in front of other facts; empty where the trajectories do not say."""
        said = [{str(one[key]) for one in self.found.trajectories.conversations} for key in ("agent", "env")]
        return "".join(f"{next(iter(names))} · " for names in said if len(names) == 1 and names != {""})


def gather(run_dir: Path) -> Contents:
    """Read the run in `run_dir`.

    Raises:
        UsageError: not a run, or a malformed file.
    """
    store = RunStore.open(run_dir, write=False)
    has = store.has
    return Contents(
        facts=store.read_json("run.json", RunFacts),
        config=store.config,
        stages=tuple(store.stages.values()),
        evaluation=store.read_json("evaluation.json", EvaluationArtifact) if has("evaluation.json") else None,
        found=read_findings(store.root, TRACES),
        metrics=_metrics(store),
        certificates=tuple(store.read_jsonl("certificates.jsonl", CertificateRow)) if has("certificates.jsonl") else (),
        router=store.read_json("router.json", RouterArtifact) if has("router.json") else None,
    )


def _metrics(store: RunStore) -> dict[str, tuple[MetricRow, ...]]:
    rows: dict[str, list[MetricRow]] = {}
    if store.has("metrics.jsonl"):
        for row in store.read_jsonl("metrics.jsonl", MetricRow):
            rows.setdefault(row.adapter, []).append(row)
    return {name: tuple(sorted(found, key=lambda row: row.iteration)) for name, found in rows.items()}


def gather_analysis(folder: Path) -> AnalysisContents:
    """Read the analysis in `folder`.

    Raises:
        UsageError: a malformed file.
    """
    return AnalysisContents(read_findings(folder, [EVIDENCE_FILE]), installed_version("trace-agents"))
