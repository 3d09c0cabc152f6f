"""Stage 5: routers and compositions over the trained adapters, from synthetic tasks only."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

from graphs.pipeline.context import Run
from graphs.pipeline.synthesis import environments, manifests
from graphs.pipeline.training import adapter_folders
from synth_envs.contract import targeted_tasks
from trace_agents.routing import Candidate, LabelRouter, LabelRouterConfig, Router
from trace_agents.types import Message
from training.composition import TokenGate, sum_adapters
from training.engine import Engine
from training.gate import GateSample, train_gate
from training.rollouts import EpisodeTrace, read_traces, trace_line, trajectory_from_trace
from training.router import Probe, ProbeRouter, PromptStates, synthetic_prompts, train_probe

STAGE = "composition"
EXAMPLES = "routing-examples.jsonl"
SUM, GATE = "sum", "gate"


def inputs(run: Run) -> dict:
    """What the stage depends on, besides environments and adapters."""
    return {"routing": run.config.routing.model_dump(), "seed": run.config.run.seed}


async def compose(run: Run) -> None:
    """Play each adapter in its own environment; train the probe and the gate; write the sum of deltas."""
    if run.finished(STAGE, inputs(run), ["adapters"]):
        return
    with run.store.stage(STAGE, inputs(run), ["adapters"]) as facts:
        adapters = adapter_folders(run)
        with run.progress.stage(STAGE, 2 + len(adapters)) as stage:
            successes = await _successes(run, adapters, stage)
            lines = [trace_line(traces[0]) for traces in successes.values() if traces]
            run.store.write_text(EXAMPLES, "".join(f"{line}\n" for line in lines))
            stage.note("probe")
            facts["probe"] = dict(_train_probe(run).metrics)
            stage.advance()
            stage.note("compositions")
            sum_adapters(adapters, {}, run.store.folder("compositions") / SUM)
            samples = [sample for name, traces in successes.items() for sample in _samples(name, traces)]
            gate = await asyncio.to_thread(train_gate, run.base, adapters, samples)
            gate.save(run.store.folder("compositions") / GATE)
            facts |= {"gate": dict(gate.metrics), "rollouts": run.rollouts.get(STAGE, 0)}
            stage.advance()


async def _successes(run: Run, adapters: Mapping[str, Path], stage) -> dict[str, list[EpisodeTrace]]:
    """Capability → successful greedy rollouts of its adapter in its environment."""
    await load_adapters(run, adapters)
    plans, found = manifests(run), {}
    for name, environment in environments(run).items():
        if name not in adapters:
            continue
        family = plans[name].load_family(run.store.path("envs") / name)
        tasks = list(islice(targeted_tasks(family, environment, plans[name].seeds.routing.seeds), 64))
        traces = await run.sample(STAGE, environment, [(task, 0) for task in tasks], run.rollout_config(name, 1.0))
        found[name] = [trace for trace in traces if trace.ok and trace.metrics.get("success")]
        stage.note(f"{name}: {len(found[name])} of {len(tasks)} solved")
        stage.advance()
    return found


def _samples(name: str, traces: Sequence[EpisodeTrace]) -> list[GateSample]:
    return [GateSample(name, trace.branches[-1].token_ids, trace.branches[-1].sampled_mask) for trace in traces]


def _train_probe(run: Run) -> Probe:
    folder, plans = run.store.path("envs"), manifests(run)
    pairs = [
        (plan.load_family(folder / name), environment)
        for (name, plan), environment in zip(plans.items(), environments(run).values(), strict=True)
        if name in adapter_folders(run)
    ]
    first = next(iter(plans.values())).seeds.routing.first
    prompts = synthetic_prompts(pairs, range(first, first + run.config.routing.probe_tasks))
    probe = train_probe(PromptStates.from_pretrained(run.base), prompts)
    probe.save(run.store.folder("routers") / "probe")
    return probe


async def load_adapters(run: Run, adapters: Mapping[str, Path]) -> None:
    """Make the adapters known to the endpoint."""
    known = set(await run.endpoint.models())
    for name, folder in adapters.items():
        if name not in known:
            await run.endpoint.load_adapter(name, str(folder))


async def load_compositions(run: Run) -> list[str]:
    """Make the configured compositions known to the endpoint; returns their model names.

    The token-level gate mixes logits inside the engine, so an external endpoint serves the sum only.
    """
    adapters = adapter_folders(run)
    await load_adapters(run, adapters)
    endpoint = run.endpoint
    names: list[str] = [name for name in run.config.routing.compositions if name == SUM or isinstance(endpoint, Engine)]
    known = set(await run.endpoint.models())
    if SUM in names and SUM not in known:
        await run.endpoint.load_adapter(SUM, str(run.store.path("compositions") / SUM))
    if isinstance(endpoint, Engine) and GATE in names and GATE not in known:
        gate = TokenGate.load(run.store.path("compositions") / GATE, run.base, adapters)
        endpoint.add_mixture(GATE, list(gate.members), gate)
    return names


def load_routers(run: Run) -> dict[str, Router]:
    """The configured routers, ready to route."""
    routers: dict[str, Router] = {}
    if "zero-shot" in run.config.routing.routers:
        config = LabelRouterConfig(
            base_model=run.base_model, max_prompt_tokens=2048, rotations=run.config.routing.rotations
        )
        routers["zero-shot"] = LabelRouter(run.endpoint, run.chat, _candidates(run), config)
    if "probe" in run.config.routing.routers:
        probe = Probe.load(run.store.path("routers") / "probe", run.base)
        routers["probe"] = ProbeRouter(probe, PromptStates.from_pretrained(run.base), run.base_model)
    return routers


def _candidates(run: Run) -> list[Candidate]:
    examples: dict[str, tuple[Message, ...]] = {}
    for trace in read_traces(run.store.path(EXAMPLES)):
        trajectory = trajectory_from_trace(trace)
        examples[trajectory.agent] = trajectory.messages
    plans = manifests(run)
    return [Candidate.of(plans[name].capability, examples.get(name, ())) for name in adapter_folders(run)]
