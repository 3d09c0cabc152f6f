"""What a run is asked to do, read from TOML: frozen sections, and no key that would be silently ignored."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, StrictBool, ValidationError, model_validator

from trace_agents.errors import UsageError
from trace_agents.refusals import lowered, not_toml, wanted
from trace_agents.toml import toml
from trace_agents.types import Record


class RunSection(Record):
    """[run]: identity of the run."""

    name: str = Field(default="run", pattern=r"^[a-z0-9][a-z0-9._-]*$")
    """Start of the run's id."""
    seed: int = Field(default=0, ge=0)
    """Everything random in the run is drawn from this seed."""


class TargetSection(Record):
    """[target]: the environment to improve in, and how the base agent is rolled out there."""

    environment: str
    """As everywhere: a registered name, `file.py:Class`, `path/benchmark.toml`, `verifiers:NAME`, or a server's URL."""
    train_split: str = "train"
    """Tasks that rollouts, analysis and the baseline may see."""
    validation_split: str = "validation"
    """Tasks on which checkpoints and the composition are picked."""
    test_split: str = "test"
    """Tasks that are only reported on."""
    rollouts_per_task: int = Field(default=8, ge=1)
    """Rollouts of each train task for the analysis."""
    temperature: float = Field(default=1.0, ge=0)
    """Sampling temperature of those rollouts."""
    max_turns: int = Field(default=30, ge=1)
    """Most agent turns of an episode (T of §3.1)."""
    max_tokens: int = Field(default=128, ge=1)
    """Most tokens sampled in one turn."""


class AgentSection(Record):
    """[agent]: the base agent, whose weights stay frozen."""

    model: str = "embedded:helpdesk-1m"
    """`embedded:NAME` for a model that ships with the package, or a local folder in Hugging Face format."""
    endpoint: str | None = None
    """URL of a model endpoint (OpenAI chat and `/inference/v1/generate`); None samples in this process."""

    @property
    def is_embedded(self) -> bool:
        """The model ships with the package."""
        return self.model.startswith("embedded:")


class AnalysisSection(Record):
    """[analysis]: contrastive capability identification (§3.3)."""

    analyst: str = "statistical"
    """`statistical` needs no language model; `handoff` leaves requests in a folder to be answered; otherwise a chat
    model: LangChain's `provider:model`, or a server's `http://HOST:PORT/v1#MODEL`."""
    both: StrictBool = False
    """Show a reader (a chat model or a hand-off) the strongest statistics, and compare with them."""
    handoff: str | None = None
    """Folder of the hand-off's requests and answers; None: `handoff` in the run's folder."""
    context_tokens: int = Field(default=100_000, ge=1000)
    """Tokens of a request to a reader and its answer."""
    batch: int | None = Field(default=None, ge=1)
    """Most trajectories in a labelling request; None: 10 for a chat model, else what fits."""
    concurrency: int = Field(default=4, ge=1)
    """Requests to a chat model under way at once."""
    price_in: float | None = Field(default=None, ge=0)
    """Price of a million tokens read; None counts no cost."""
    price_out: float | None = Field(default=None, ge=0)
    """Price of a million tokens written."""
    runs: int = Field(default=10, ge=1)
    """Independent labelling runs (N)."""
    delta: float = Field(default=0.20, ge=0, le=1)
    """Least contrastive gap of a kept capability (the paper's delta)."""
    rho: float = Field(default=0.10, ge=0, le=1)
    """Least coverage of a kept capability (the paper's rho)."""
    keep_in: int = Field(default=8, ge=1)
    """Runs in which a capability must pass both bars to be kept (K of N)."""
    support: int = Field(default=3, ge=1)
    """Least support: trajectories of each kind (failures and successes that need it, failures that lack it) without
    which a run does not select."""
    max_capabilities: int = Field(default=8, ge=1)
    """Most capabilities kept, by coverage."""

    @model_validator(mode="after")
    def _keep_in_at_most_runs(self) -> Self:
        if self.keep_in > self.runs:
            raise ValueError(f"keep_in = {self.keep_in} can never be met in runs = {self.runs}: lower keep_in")
        return self

    @model_validator(mode="after")
    def _a_reader_for_what_only_readers_need(self) -> Self:
        if self.both and self.analyst == "statistical":
            raise ValueError("both = true compares a reader with the statistics: set analyst to 'handoff' or a model")
        if self.handoff is not None and self.analyst != "handoff":
            raise ValueError(f"handoff = {self.handoff!r} needs analyst = 'handoff', which is {self.analyst!r}")
        return self


class SynthesisSection(Record):
    """[synthesis]: building and certifying one environment per kept capability."""

    generator: str = "template"
    """`template` needs no language model; otherwise a LangChain chat-model spec."""
    families: tuple[str, ...] = ()
    """Generator families of the target besides the registered ones: `file.py:Class` or `package.module:Class`."""
    certification_seeds: int = Field(default=24, ge=1)
    """Seeds on which an environment must prove itself before training."""
    certification_groups: int = Field(default=8, ge=1)
    """Groups of base rollouts that check whether rewards vary within a group."""


class TrainingSection(Record):
    """[training]: GRPO LoRA, one adapter per capability (§3.4, Appendix A)."""

    group_size: int = Field(default=8, ge=2)
    """Rollouts of one seed (K of Appendix A)."""
    groups: int = Field(default=8, ge=1)
    """Groups an iteration (G of Appendix A)."""
    iterations: int = Field(default=40, ge=1)
    """Most iterations per capability."""
    lr: float = Field(default=1e-3, gt=0)
    """AdamW's learning rate."""
    rank: int = Field(default=8, ge=1)
    """LoRA rank."""
    alpha: float = Field(default=16.0, gt=0)
    """LoRA alpha; the update is scaled by alpha / rank."""
    clip: float = Field(default=0.2, gt=0, lt=1)
    """Clipping threshold of the per-token ratio (epsilon of Appendix A)."""
    epochs: int = Field(default=2, ge=1)
    """Passes over one iteration's rollouts."""
    minibatches: int = Field(default=2, ge=1)
    """Optimiser steps a pass."""
    temperature: float = Field(default=1.0, gt=0)
    """Sampling temperature of training rollouts."""
    validation_seeds: int = Field(default=48, ge=1)
    """Held-out seeds of the synthetic environment on which checkpoints are picked."""
    validate_every: int = Field(default=2, ge=1)
    """Iterations between validations."""
    patience: int = Field(default=4, ge=1)
    """Validations without a better success rate after which training stops."""
    workers: int = Field(default=2, ge=1)
    """Adapters trained at once, each in a process of its own."""
    device: str = "cpu"
    """torch's name of the device to train on, such as `cuda`."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of matrix products; adapters stay float32. On a GPU the frozen base is held in it."""
    batch_tokens: int = Field(default=2048, ge=1)
    """Most padded tokens of one forward pass; bounds memory."""
    gradient_checkpointing: StrictBool = False
    """Recompute activations in the backward pass, for models whose activations do not fit."""


class RoutingSection(Record):
    """[routing]: how tasks reach adapters (§3.5), and how adapters are composed."""

    routers: tuple[Literal["zero-shot", "probe"], ...] = ("zero-shot", "probe")
    """`zero-shot`: the base's label logits (§3.5). `probe`: a linear probe trained on synthetic prompts."""
    compositions: tuple[Literal["sum", "gate"], ...] = ("sum", "gate")
    """`sum`: the sum of the adapters' deltas. `gate`: a token-level gate over them."""
    rotations: int = Field(default=4, ge=1)
    """Label orders over which the zero-shot router averages."""
    probe_tasks: int = Field(default=200, ge=1)
    """Synthetic tasks per capability that train the probe and the gate."""


class EvaluationSection(Record):
    """[evaluation]: the figures reported at the end."""

    max_tasks: int | None = Field(default=None, ge=1)
    """Most test tasks evaluated, in the split's order; None takes all."""
    max_validation_tasks: int | None = Field(default=None, ge=1)
    """Most validation tasks used to pick a router and a composition; None takes all."""
    temperature: float = Field(default=0.0, ge=0)
    """0 is greedy."""
    trials: int = Field(default=1, ge=1)
    """Rollouts of each task and arm."""


class BaselineSection(Record):
    """[baseline]: GRPO directly on the target's train tasks with the same number of rollouts."""

    enabled: StrictBool = True


class RunConfig(Record):
    """A whole run. `RunConfig.load(path)` reads it from TOML."""

    version: Literal[1] = 1
    """Schema version of the file."""
    run: RunSection = RunSection()
    target: TargetSection
    agent: AgentSection = AgentSection()
    analysis: AnalysisSection = AnalysisSection()
    synthesis: SynthesisSection = SynthesisSection()
    training: TrainingSection = TrainingSection()
    routing: RoutingSection = RoutingSection()
    evaluation: EvaluationSection = EvaluationSection()
    baseline: BaselineSection = BaselineSection()

    @classmethod
    def load(cls, path: Path | str) -> RunConfig:
        """The configuration in the TOML file at `path`.

        Raises:
            UsageError: no such file, not TOML, an unknown key, a missing key or a bad value.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (FileNotFoundError, IsADirectoryError) as error:
            raise UsageError(f"configuration {str(path)!r} does not exist: give the path of a TOML file") from error
        except UnicodeDecodeError as error:
            raise UsageError(f"configuration {str(path)!r} is not UTF-8 text: give a TOML file") from error
        return cls.parse(text, str(path))

    @classmethod
    def parse(cls, text: str, source: str = "the configuration") -> RunConfig:
        """The configuration in TOML `text`; `source` names it in errors. Raises as `load` does."""
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise UsageError(not_toml(source, text, error)) from error
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise UsageError(_explain(error, source)) from error

    def with_seed(self, seed: int | None) -> RunConfig:
        """The same run from another seed; None keeps the one it has."""
        if seed is None:
            return self
        if seed < 0:
            raise UsageError(f"seed {seed!r} is negative: give a whole number of 0 or more")
        return self.model_copy(update={"run": self.run.model_copy(update={"seed": seed})})

    def to_toml(self) -> str:
        """TOML that `parse` reads back to an equal configuration, defaults written out."""
        data = self.model_dump(mode="json", exclude_none=True)
        lines = [f"version = {data.pop('version')}"]
        for section, values in data.items():
            lines += ["", f"[{section}]", *(f"{key} = {toml(value)}" for key, value in values.items())]
        return "\n".join(lines) + "\n"


def _explain(error: ValidationError, source: str) -> str:
    """The first problem in one line: where, what was given, and what is allowed there."""
    # A misspelt name explains a missing one, so it goes first.
    problem = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    location = [part for part in problem["loc"] if isinstance(part, str)]
    section = location[0] if len(location) > 1 or problem["type"] == "value_error" else None
    key = location[-1] if location else ""
    where = f"[{section}] of {source!r}" if section else f"{source!r}"
    if problem["type"] == "extra_forbidden":
        known = _SECTIONS[section].model_fields if section else RunConfig.model_fields
        kind = "key" if section or not isinstance(problem["input"], dict) else "section"
        return f"unknown {kind} {key!r} in {where}: use one of {', '.join(repr(name) for name in sorted(known))}"
    if problem["type"] == "missing":
        return f"missing {'section' if len(location) == 1 else 'key'} {key!r} in {where}: add it"
    if problem["type"] == "value_error":
        return f"{where}: {problem['ctx']['error']}"
    return f"{key} = {problem['input']!r} in {where}: {lowered(wanted(problem))}"


_SECTIONS: dict[str | None, type[Record]] = {
    name: field.annotation  # type: ignore[misc]
    for name, field in RunConfig.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Record)
}
