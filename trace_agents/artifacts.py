"""What a run writes to disk, besides trajectories and analysis: shapes of its JSON files and lines.

A file or line that is an `Artifact` carries its schema version; readers refuse another one.
"""

from __future__ import annotations

import time
from enum import StrEnum
from importlib.metadata import version as installed_version
from typing import Any, Literal

from pydantic import Field

from trace_agents.statistics import Difference, Estimate
from trace_agents.types import Record


class Artifact(Record):
    """Something on disk, with the version of its shape."""

    version: Literal[1] = 1


# run.json and stages.json


class RunFacts(Artifact):
    """`run.json`: what made this run."""

    id: str
    created: float
    """Seconds since the epoch."""
    package: str
    """Version of trace-agents."""
    config: str
    """Digest of the configuration."""

    @classmethod
    def now(cls, run_id: str, config: str) -> RunFacts:
        """Facts of a run that starts now with the installed package."""
        return cls(id=run_id, created=time.time(), package=installed_version("trace-agents"), config=config)


class StageRecord(Record):
    """A stage that ran to its end."""

    name: str
    inputs: str
    """Digest of the configuration and the files that it ran on."""
    begun: float
    """Seconds since the epoch."""
    seconds: float
    """Wall-clock time of the last attempt, the one that ended."""
    peak_memory: int
    """Upper bound in bytes of the memory held by the run's processes up to the stage's end."""
    facts: dict[str, Any] = Field(default_factory=dict)
    """What the stage chose to note (rollouts sampled, tasks evaluated)."""


class Stages(Artifact):
    """`stages.json`: the done stages in the order of their ends."""

    stages: tuple[StageRecord, ...] = ()


# metrics.jsonl and certificates.jsonl


class MetricRow(Artifact):
    """One line of `metrics.jsonl`: one GRPO iteration of one adapter (§3.4, Appendix A)."""

    adapter: str
    """The capability's slug, or the baseline's name."""
    iteration: int
    """From 0."""
    reward_mean: float
    """Mean reward of the iteration's rollouts."""
    reward_std: float = 0.0
    """Standard deviation of the same."""
    success_rate: float
    """Share of the iteration's rollouts that succeeded."""
    validation_success: float | None = None
    """Success rate at temperature 0 on validation seeds; None in iterations that do not validate."""
    validation_reward: float | None = None
    """Mean reward of the same."""
    clip_fraction: float = 0.0
    """Share of sampled tokens whose ratio was clipped."""
    ratio_mean: float = 1.0
    """Mean per-token ratio against the sampler's log-probs."""
    entropy: float | None = None
    """Mean entropy of the policy at the sampled tokens, in nats; None where nothing was trained on."""
    kl: float | None = None
    """Mean estimated divergence from the base at the sampled tokens; None where it is not penalised."""
    sampler_gap: float | None = None
    """Mean absolute difference of the trainer's and the sampler's log-probs before the first step."""
    informative_groups: int = 0
    """Groups whose rewards varied; the others are discarded."""
    groups: int = 0
    """Groups sampled."""
    rollouts: int = 0
    """Rollouts sampled, failures of infrastructure included."""
    infrastructure_failures: int = 0
    """Rollouts left out because infrastructure failed."""
    truncated: int = 0
    """Rollouts ended by a limit on turns or tokens."""
    malformed_calls: int = 0
    """Tool calls that could not be run."""
    loss: float | None = None
    grad_norm: float | None = None
    tokens: int = 0
    """Sampled tokens trained on."""
    rollout_seconds: float = 0.0
    train_seconds: float = 0.0


class Check(Record):
    """One gate of a certificate."""

    name: str
    """What is checked (`oracle`, `idle`, `give-up`, `deterministic`, `schemas`, `variance`, ...)."""
    passed: bool
    value: float | None = None
    """What was measured; None for a yes-or-no check."""
    bar: str = ""
    """What it must reach, in words (`>= 0.99`)."""
    detail: str = ""
    """One line on what was found, most useful where it failed."""


class CertificateRow(Artifact):
    """One line of `certificates.jsonl`: whether a synthetic environment may be trained on."""

    environment: str
    capability: str
    passed: bool
    """All checks passed."""
    checks: tuple[Check, ...]
    seconds: float = 0.0


class ArmKind(StrEnum):
    """What an arm of the evaluation is."""

    BASE = "base"  # The frozen base agent.
    ROUTER = "router"  # One adapter a task, chosen by a router.
    COMPOSITION = "composition"  # Several adapters at once.
    ORACLE = "oracle"  # One adapter a task, chosen with the task's planted truth.
    ADAPTER = "adapter"  # One adapter on every task.
    BASELINE = "baseline"  # Trained on the target directly.


# router.json


class RouterScore(Record):
    """How a router or a composition did on validation tasks."""

    name: str
    kind: ArmKind
    validation: Estimate
    """Pass rate on the validation tasks."""


class RouterArtifact(Artifact):
    """`router.json`: what the routed agent loads."""

    capabilities: tuple[str, ...]
    """Adapters, in label order."""
    picked: str
    """The router or composition that the agent uses, picked on validation."""
    scores: tuple[RouterScore, ...] = ()
    parameters: dict[str, Any] = Field(default_factory=dict)
    """What each router needs to be loaded again, by router name (weights' file names, temperatures)."""


# evaluation.json


class TaskOutcome(Record):
    """How one arm did on one task in one trial."""

    task_id: str
    trial: int = 0
    success: bool | None
    """None where infrastructure failed even after retries."""
    reward: float | None = None
    route: str | None = None
    """Adapter chosen for the task; None where the arm does not choose one, `base` for no adapter."""
    trajectory_id: str | None = None
    """Its trajectory, where that was kept."""


class Arm(Record):
    """One contestant of the evaluation, on the same tasks as all others. `arms.summarise` makes it."""

    name: str
    kind: ArmKind
    title: str = ""
    """How tables call it; `name` where empty."""
    picked: bool = False
    """The router or composition that validation picked."""
    pass_rate: Estimate
    versus_base: Difference | None = None
    """Paired with the base's outcomes; None for the base itself."""
    by_capability: dict[str, Estimate] = Field(default_factory=dict)
    """Pass rate on the tasks that need the capability; key `none` for tasks that need nothing."""
    by_count: dict[str, Estimate] = Field(default_factory=dict)
    """Pass rate by the number of capabilities that the task needs (`0`, `1`, ...)."""
    infrastructure_failures: int = 0
    """Outcomes without a verdict, left out of every rate."""
    training_rollouts: int = 0
    """Rollouts that its training took."""
    outcomes: tuple[TaskOutcome, ...] = ()


class AnalysisScore(Record):
    """The analysis against the planted truth, which it never saw."""

    planted: tuple[str, ...]
    """Deficits planted in the base agent."""
    kept: tuple[str, ...]
    """Capabilities that the analysis kept."""
    matched: dict[str, str] = Field(default_factory=dict)
    """Kept capability -> the planted deficit that it names."""
    precision: float
    recall: float


class RoutingScore(Record):
    """A router's choices on test tasks that need exactly one of the trained capabilities."""

    router: str
    accuracy: Estimate
    confusion: dict[str, dict[str, int]] = Field(default_factory=dict)
    """Needed capability -> route taken -> tasks."""


class Resources(Record):
    """What the run cost."""

    rollouts: dict[str, int] = Field(default_factory=dict)
    """Rollouts per stage, failures of infrastructure included."""
    seconds: dict[str, float] = Field(default_factory=dict)
    """Wall-clock time per stage."""
    peak_memory: int = 0
    """Upper bound in bytes over all processes of the run."""
    infrastructure_failures: int = 0
    """Rollouts recorded as failures of infrastructure, over all stages."""

    @property
    def total_seconds(self) -> float:
        """Wall-clock time of all stages."""
        return sum(self.seconds.values())


class EvaluationArtifact(Artifact):
    """`evaluation.json`: the figures of the run."""

    environment: str
    split: str
    agent: str
    """Base agent."""
    seed: int
    tasks: int
    """Distinct tasks evaluated."""
    trials: int = 1
    """Rollouts of each task and arm."""
    arms: tuple[Arm, ...]
    analysis: AnalysisScore | None = None
    """None where the target plants no truth."""
    routing: tuple[RoutingScore, ...] = ()
    resources: Resources = Resources()
    notes: tuple[str, ...] = ()
    """What a reader must know to read the figures (a cap on tasks, a capability left untrained and why)."""
