"""Stage 3: a certified environment for each kept capability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphs.pipeline.analysis import kept
from graphs.pipeline.context import Run
from graphs.pipeline.families import families
from graphs.synthesis import Workshop, synthesise
from synth_envs.generate import TemplateGenerator
from synth_envs.manifest import Manifest, load_synthetic, read_manifest
from trace_agents.environment import SyntheticEnvironment
from trace_agents.errors import UsageError
from trace_agents.types import TaskInstance

STAGE = "synthesis"
FOLDER = "envs"


def inputs(run: Run) -> dict:
    """What the stage depends on, besides the capabilities."""
    training = run.config.training
    return {"synthesis": run.config.synthesis.model_dump(), "group": training.group_size, "seed": run.config.run.seed}


async def build_environments(run: Run) -> None:
    """Write `envs/<slug>/` and `certificates.jsonl`; a capability without an environment is reported, not trained."""
    if run.finished(STAGE, inputs(run), ["capabilities.json"]):
        return
    if run.config.synthesis.generator != "template":
        raise UsageError(f"generator {run.config.synthesis.generator!r} is not available in a run: use 'template'")
    with run.store.stage(STAGE, inputs(run), ["capabilities.json"]) as facts:
        run.store.keep_rows("certificates.jsonl", lambda row: False)
        workshop = Workshop(
            target=run.target,
            folder=run.store.folder(FOLDER),
            sample_groups=_sampler(run),
            groups=run.config.synthesis.certification_groups,
        )
        generator = TemplateGenerator(families(run))
        made = await synthesise([candidate.capability for candidate in kept(run)], generator, workshop, run.progress)
        run.store.append_jsonl("certificates.jsonl", made.certificates)
        facts["rejected"] = made.rejected
        facts["rollouts"] = run.rollouts.get(STAGE, 0)
        if not made.manifests:
            raise UsageError(
                f"no environment was certified ({_told(made.rejected)}): write a family for {run.target.name!r} "
                "(synth_envs/README.md), and name it in [synthesis] families"
            )


def _told(rejected: Mapping[str, str]) -> str:
    """Each reason once, with the capabilities that it holds for."""
    names: dict[str, list[str]] = {}
    for name, reason in rejected.items():
        names.setdefault(reason, []).append(name)
    return "; ".join(f"{', '.join(held)}: {reason}" for reason, held in names.items())


def manifests(run: Run) -> dict[str, Manifest]:
    """Capability → manifest of its certified environment, by falling coverage."""
    folder = run.store.path(FOLDER)
    names = [candidate.capability.name for candidate in kept(run)]
    return {name: read_manifest(folder / name) for name in names if (folder / name / "manifest.json").exists()}


def environments(run: Run) -> dict[str, SyntheticEnvironment]:
    """Capability → its certified environment."""
    return {name: load_synthetic(run.store.path(FOLDER) / name) for name in manifests(run)}


def _sampler(run: Run):
    """Groups of the base policy's rewards, for the gates on learnability."""

    async def sample(environment: SyntheticEnvironment, tasks: Sequence[TaskInstance]) -> list[list[float]]:
        size = run.config.training.group_size
        pairs = [(task, trial) for task in tasks for trial in range(size)]
        config = run.rollout_config(run.base_model, run.config.training.temperature)
        traces = await run.sample(STAGE, environment, pairs, config)
        rows = [traces[start : start + size] for start in range(0, len(traces), size)]
        return [[trace.reward for trace in row if trace.ok] for row in rows]

    return sample
