"""GRPO training of one adapter: sample on-policy, update, validate, keep the best, stop on a plateau."""

from __future__ import annotations

import hashlib
import inspect
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from peft import LoraConfig
from torch import Tensor

from trace_agents.artifacts import MetricRow
from trace_agents.endpoint import ModelEndpoint
from trace_agents.errors import InfrastructureError, UsageError
from trace_agents.types import TaskInstance
from training.adapters import CONFIG, peft_config, save_adapter
from training.chat import ChatFormat
from training.checkpoints import RandomState, load_checkpoint, save_checkpoint
from training.fingerprint import fingerprint
from training.grpo.config import GRPOConfig
from training.grpo.policy import Policy
from training.grpo.sources import TaskSource
from training.grpo.state import RunState, TrainResult, Validation
from training.grpo.update import StepFigures, Updater, experiences
from training.rollouts.driver import OnTrace, collect_trials
from training.rollouts.tasks import EpisodeTrace
from training.rollouts.trajectories import count_rollouts

CHECKPOINT = "checkpoint.pt"
_CURRENT = "current"
"""Folder through which an endpoint in another process gets the adapter in training."""

OnIteration = Callable[[MetricRow], None]
"""Told of each iteration as it ends."""


@runtime_checkable
class TakesWeights(Protocol):
    """An endpoint in this process, which takes an adapter's weights without a detour over the disk."""

    def load_adapter_weights(self, name: str, state: dict[str, Tensor], config: LoraConfig | dict[str, Any]) -> Any:
        """Load, or replace, the adapter `name`."""


async def train(
    source: TaskSource,
    endpoint: ModelEndpoint,
    base: Path | str,
    config: GRPOConfig,
    out: Path | str,
    *,
    on_iteration: OnIteration | None = None,
    on_trace: OnTrace | None = None,
    resume: bool = True,
) -> TrainResult:
    """Train a LoRA adapter on the frozen model folder `base` with GRPO (Appendix A).

    The best checkpoint is in `out` in PEFT's format from its first validation on; `out` also holds the checkpoint
    from which a killed run goes on, bit by bit as if it had not been killed. A run that has ended returns its result.

    Args:
        source: where task instances come from.
        endpoint: samples for the base and, under the folder name of `out`, for the adapter in training.
        base: model folder in Hugging Face format, with tokenizer and chat template.
        config: all settings.
        out: folder of the adapter; its name is the adapter's.
        on_iteration: told of each iteration.
        on_trace: told of each rollout, training and validation alike.
        resume: go on from the checkpoint in `out`, if there is one; False starts anew.

    Raises:
        UsageError: bad input, or a checkpoint of a run that was another.
        InfrastructureError: not one rollout of an iteration came through; resuming tries again.
    """
    run = _Run(source, endpoint, Path(base), config, Path(out))
    run.on_trace = on_trace
    run.restore() if resume else run.forget()
    if not run.state.validations:
        await run.validate()
    while not run.is_over():
        row = await run.iterate()
        run.save()
        if on_iteration is not None:
            on_iteration(row)
    await run.finish()
    return TrainResult.of(run.out, run.state)


class _Run:
    """A training run under way."""

    on_trace: OnTrace | None = None

    def __init__(self, source: TaskSource, endpoint: ModelEndpoint, base: Path, config: GRPOConfig, out: Path) -> None:
        self.source, self.endpoint, self.base, self.config, self.out = source, endpoint, base, config, out
        self.chat = ChatFormat.from_pretrained(base)
        self.held_out = list(source.validation())
        self.state = RunState()
        self.identity = {
            # How long to train may change between a run and its resumption.
            "configuration": config.model_dump(mode="json", exclude={"iterations", "patience"}),
            "base": fingerprint(base),
            "source": _digest([source.name, [task.id for task in self.held_out], source.training(0).id]),
        }
        device = _device(config)
        self.random = RandomState(config.seed, device)
        self.policy = Policy(base, config, self.random)
        self.updater = Updater(self.policy, config, self.random)

    # One iteration

    async def iterate(self) -> MetricRow:
        """Sample, update and, when it is time, validate."""
        clock = time.perf_counter()
        groups = await self._sample()
        sampled = time.perf_counter()
        trajectories, informative = experiences(groups, self.config.advantage_eps)
        figures = self.updater.update(trajectories) if trajectories else StepFigures()
        trained = time.perf_counter()
        self.state.iteration += 1
        is_due = self.state.iteration % self.config.validate_every == 0
        is_last = self.state.iteration == self.config.iterations
        found = await self.validate() if is_due or is_last else None
        seconds = {"rollout_seconds": sampled - clock, "train_seconds": trained - sampled}
        row = _row(groups, figures, found).model_copy(
            update={
                "tokens": sum(experience.actions for experience in trajectories),
                "adapter": self.out.name,
                "iteration": self.state.iteration - 1,
                "informative_groups": informative,
                **seconds,
            }
        )
        self.state.rows.append(row.model_dump())
        return row

    async def _sample(self) -> list[list[EpisodeTrace]]:
        """The iteration's groups, each K rollouts of one task instance by the present adapter."""
        count, size = self.config.groups, self.config.group_size
        first = self.state.iteration * count
        tasks = [self.source.training(first + place) for place in range(count)]
        # Trials are numbered through, so that a task that comes twice is not sampled twice the same.
        pairs = [(task, place * size + k) for place, task in enumerate(tasks) for k in range(size)]
        temperature = self.config.rollout.sampling.temperature
        traces = await self._collect(pairs, temperature, f"train-{self.state.iteration}")
        self.state.rollouts += len(traces)
        return [traces[start : start + size] for start in range(0, len(traces), size)]

    async def validate(self) -> Validation:
        """How the present adapter does on the held-out tasks; the best adapter so far goes to disk."""
        pairs = [(task, 0) for task in self.held_out]
        traces = await self._collect(pairs, self.config.validation_temperature, "validate")
        self.state.validation_rollouts += len(traces)
        sound = [trace for trace in traces if trace.ok]
        found = Validation(
            iteration=self.state.iteration,
            success=float(np.mean([trace.metrics["success"] for trace in sound])),
            reward=float(np.mean([trace.reward for trace in sound])),
        )
        if self.state.validated(found, self.policy.adapter()):
            save_adapter(self.out, self.state.best_adapter, self.policy.lora_config, self.base)
        return found

    async def _collect(
        self, pairs: Sequence[tuple[TaskInstance, int]], temperature: float, stream: str
    ) -> list[EpisodeTrace]:
        await self._synchronise(self.policy.adapter())
        rollout = self.config.rollout
        sampling = rollout.sampling.model_copy(update={"temperature": temperature})
        seed = int(_digest([self.config.seed, stream])[:15], 16)
        config = rollout.model_copy(update={"model": self.out.name, "models": {}, "sampling": sampling, "seed": seed})
        traces = await collect_trials(self.source, pairs, self.endpoint, self.chat, config, self.on_trace)
        failed = [trace for trace in traces if not trace.ok]
        self.state.failures += len(failed)
        if len(failed) == len(traces):
            raise InfrastructureError(f"all {len(traces)} rollouts failed; the last: {failed[-1].last_error.message}")
        return traces

    async def _synchronise(self, weights: dict[str, Tensor]) -> None:
        """Let the endpoint sample from the adapter with these weights."""
        config = self.policy.lora_config
        if isinstance(self.endpoint, TakesWeights):
            loaded = self.endpoint.load_adapter_weights(self.out.name, weights, peft_config(config, self.base))
            if inspect.isawaitable(loaded):
                await loaded
            return
        folder = save_adapter(self.out / _CURRENT, weights, config, self.base)
        await self.endpoint.load_adapter(self.out.name, str(folder.resolve()))

    # The whole run

    def is_over(self) -> bool:
        """Whether to stop; the reason is kept in the state."""
        state = self.state
        state.stop = None
        solved = Validation(**state.validations[state.best_at]).rank >= (1.0, 1.0)
        if solved and self.config.stop_when_solved:
            state.stop = "solved"
        elif state.stale >= self.config.patience:
            state.stop = "plateau"
        elif state.iteration >= self.config.iterations:
            state.stop = "iterations"
        return state.stop is not None

    async def finish(self) -> None:
        """Leave the best adapter behind, on disk and on the endpoint."""
        self.save()
        await self._synchronise(self.state.best_adapter)
        shutil.rmtree(self.out / _CURRENT, ignore_errors=True)

    def save(self) -> None:
        """Write the checkpoint."""
        parts = {
            "adapter": self.policy.adapter(),
            "optimiser": self.updater.optimiser.state_dict(),
            "random": self.random.state_dict(),
            "state": self.state.state_dict(),
        }
        save_checkpoint(self.out / CHECKPOINT, {**self.identity, **parts})

    def restore(self) -> None:
        """Go on from the checkpoint, if there is one."""
        found = load_checkpoint(self.out / CHECKPOINT, self.identity)
        if found is None:
            return
        self.policy.load_adapter(found["adapter"])
        self.updater.optimiser.load_state_dict(found["optimiser"])
        self.random.load_state_dict(found["random"])
        self.state = RunState(**found["state"])
        if not (self.out / CONFIG).is_file():
            save_adapter(self.out, self.state.best_adapter, self.policy.lora_config, self.base)

    def forget(self) -> None:
        """Begin from the start, whatever is in the folder."""
        (self.out / CHECKPOINT).unlink(missing_ok=True)


def _row(groups: Sequence[Sequence[EpisodeTrace]], figures: StepFigures, found: Validation | None) -> MetricRow:
    """The iteration's figures; rates are over the rollouts that infrastructure did not fail."""
    traces = [trace for group in groups for trace in group]
    counts = count_rollouts(traces)
    rewards = [trace.reward for trace in traces if trace.ok]
    has_trained = figures.tokens > 0
    return MetricRow(
        adapter="",
        iteration=0,
        reward_mean=float(np.mean(rewards)),
        reward_std=float(np.std(rewards)),
        success_rate=float(np.mean([trace.metrics["success"] for trace in traces if trace.ok])),
        validation_success=found.success if found else None,
        validation_reward=found.reward if found else None,
        clip_fraction=figures.mean("clipped"),
        ratio_mean=figures.mean("ratio") if has_trained else 1.0,
        entropy=figures.mean("entropy") if has_trained else None,
        kl=figures.mean("kl") if figures.kl else None,
        sampler_gap=figures.gap,
        groups=len(groups),
        rollouts=counts.rollouts,
        infrastructure_failures=counts.failed,
        truncated=counts.truncated,
        malformed_calls=counts.malformed_calls,
        loss=float(np.mean(figures.losses)) if has_trained else None,
        grad_norm=float(np.mean(figures.norms)) if has_trained else None,
    )


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _device(config: GRPOConfig) -> torch.device:
    try:
        device = torch.device(config.device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {config.device!r} cannot be used ({error}): give 'cpu' or 'cuda'") from error
    return device
