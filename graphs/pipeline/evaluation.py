"""Stage 6: every way of using the adapters on held-out tasks, side by side; the one to use is picked on validation."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from graphs.pipeline.analysis import read_score
from graphs.pipeline.composition import load_compositions, load_routers
from graphs.pipeline.context import Run
from graphs.pipeline.synthesis import manifests
from graphs.pipeline.training import BASELINE, adapter_folders, baseline_folder
from trace_agents.arms import routing_score, summarise
from trace_agents.artifacts import Arm, ArmKind, EvaluationArtifact, Resources, RouterArtifact, RouterScore, TaskOutcome
from trace_agents.routing import BASE, Router, oracle_route
from trace_agents.runstore import peak_memory
from trace_agents.types import TaskInstance
from training.rollouts import TraceWriter

STAGE = "evaluation"
TRACES = "evaluation-trajectories.jsonl"
TITLES = {
    "base": "base agent",
    "zero-shot": "label router (§3.5)",
    "probe": "probe router",
    "sum": "sum of deltas",
    "gate": "token gate",
    "oracle": "oracle route",
    BASELINE: "GRPO on target",
}


@dataclass(frozen=True)
class Contestant:
    """One arm before it is played."""

    name: str
    kind: ArmKind
    model: str
    """Model that acts where `routes` names none."""
    routes: Mapping[str, str] | None = None
    """Task id → model, of the tasks whose first message is known before they start; None for an arm that does not
    route."""
    router: Router | None = None
    """Routes the other tasks, once their user has spoken."""


def inputs(run: Run) -> dict:
    """What the stage depends on, besides adapters, routers and compositions."""
    return {
        "evaluation": run.config.evaluation.model_dump(),
        "target": run.config.target.model_dump(),
        "seed": run.config.run.seed,
    }


async def evaluate(run: Run) -> None:
    """Write `router.json` and `evaluation.json`."""
    reads = ["adapters", "routers", "compositions"]
    if run.finished(STAGE, inputs(run), reads):
        return
    begun = time.perf_counter()
    with run.store.stage(STAGE, inputs(run), reads) as facts:
        compositions = await load_compositions(run)
        settings = run.config.evaluation
        validation = run.tasks(run.config.target.validation_split, settings.max_validation_tasks)
        scores = await _pick(run, compositions, validation)
        picked = max(scores, key=lambda score: score.validation.value).name
        run.store.write_json(
            "router.json", RouterArtifact(capabilities=tuple(adapter_folders(run)), picked=picked, scores=tuple(scores))
        )
        tasks = run.tasks(run.config.target.test_split, settings.max_tasks)
        contestants = await _contestants(run, compositions, tasks)
        outcomes = await play(run, contestants, tasks, "evaluation", keep={"base", picked})
        facts["rollouts"] = run.rollouts.get(STAGE, 0)
        run.store.write_json("evaluation.json", _artifact(run, contestants, outcomes, tasks, picked, begun))


async def _pick(run: Run, compositions: Sequence[str], tasks: Sequence[TaskInstance]) -> list[RouterScore]:
    """Pass rates of routers and compositions on validation tasks."""
    contestants = [
        one for one in await _contestants(run, compositions, tasks) if one.kind in (ArmKind.ROUTER, ArmKind.COMPOSITION)
    ]
    outcomes = await play(run, contestants, tasks, "validation", trials=1)
    return [
        RouterScore(
            name=one.name, kind=one.kind, validation=summarise(one.name, one.kind, outcomes[one.name], {}).pass_rate
        )
        for one in contestants
    ]


async def _contestants(run: Run, compositions: Sequence[str], tasks: Sequence[TaskInstance]) -> list[Contestant]:
    """All arms, routed task by task where they route."""
    base = run.base_model
    found = [Contestant("base", ArmKind.BASE, base)]
    for name, router in load_routers(run).items():
        known = [task for task in tasks if task.prompt]
        chosen = await router.route_all([task.prompt for task in known])
        routes = {task.id: route.model for task, route in zip(known, chosen, strict=True)}
        found.append(Contestant(name, ArmKind.ROUTER, base, routes, router))
    found += [Contestant(name, ArmKind.COMPOSITION, name) for name in compositions]
    if truth := adapters_by_truth(run):
        routes = {task.id: oracle_route(task.capabilities, truth, base).model for task in tasks}
        found.append(Contestant("oracle", ArmKind.ORACLE, base, routes))
    found += [Contestant(name, ArmKind.ADAPTER, name) for name in adapter_folders(run)]
    if (folder := baseline_folder(run)) is not None:
        if BASELINE not in await run.endpoint.models():
            await run.endpoint.load_adapter(BASELINE, str(folder))
        found.append(Contestant(BASELINE, ArmKind.BASELINE, BASELINE))
    return found


def adapters_by_truth(run: Run) -> dict[str, str]:
    """Planted deficit → the adapter that was trained for it, for measuring; empty where nothing was planted."""
    score = read_score(run)
    trained = set(adapter_folders(run))
    return {truth: name for name, truth in score.matched.items() if name in trained} if score else {}


async def play(
    run: Run,
    contestants: Sequence[Contestant],
    tasks: Sequence[TaskInstance],
    title: str,
    trials: int | None = None,
    keep: Collection[str] = (),
) -> dict[str, list[TaskOutcome]]:
    """Outcomes of each contestant on each task, in the order of tasks and trials.

    Raises:
        UsageError: infrastructure failed most rollouts of a contestant.
    """
    settings = run.config.evaluation
    pairs = [(task, trial) for task in tasks for trial in range(trials or settings.trials)]
    found: dict[str, list[TaskOutcome]] = {}
    with (
        run.progress.stage(title, len(contestants) * len(pairs)) as stage,
        TraceWriter(run.store.path(TRACES)) as writer,
    ):
        for one in contestants:
            stage.note(one.name)
            config = run.rollout_config(one.model, settings.temperature, one.routes)
            config = config.model_copy(update={"router": one.router})
            traces = await run.sample(STAGE, run.target, pairs, config, on_trace=lambda trace: stage.advance())
            run.count_lost(f"{title}, {one.name}", traces, len(pairs))
            found[one.name] = [_outcome(run, one, pair, trace) for pair, trace in zip(pairs, traces, strict=True)]
            if one.name in keep:
                for trace in traces:
                    writer.write(trace)
    return found


def _outcome(run: Run, one: Contestant, pair: tuple[TaskInstance, int], trace) -> TaskOutcome:
    task, trial = pair
    route = None if one.routes is None else one.routes.get(task.id, trace.info.get("route"))
    return TaskOutcome(
        task_id=task.id,
        trial=trial,
        success=bool(trace.metrics.get("success")) if trace.ok else None,
        reward=trace.reward if trace.ok else None,
        route=BASE if route == run.base_model else route,
        trajectory_id=trace.id,
    )


def _artifact(
    run: Run,
    contestants: Sequence[Contestant],
    outcomes: Mapping[str, list[TaskOutcome]],
    tasks: Sequence[TaskInstance],
    picked: str,
    begun: float,
) -> EvaluationArtifact:
    known = set(run.planted)
    needs = {task.id: [need for need in task.capabilities if not known or need in known] for task in tasks}
    arms: list[Arm] = []
    stages = run.store.stages
    for one in contestants:
        base = None if one.kind is ArmKind.BASE else outcomes["base"]
        arm = summarise(one.name, one.kind, outcomes[one.name], needs, base)
        rollouts = stages["training"].facts.get("rollouts", {})
        own = rollouts.get(one.name, 0) if one.kind in (ArmKind.ADAPTER, ArmKind.BASELINE) else 0
        shared = sum(count for name, count in rollouts.items() if name != BASELINE)
        spent = own or (shared if one.kind in (ArmKind.ROUTER, ArmKind.COMPOSITION, ArmKind.ORACLE) else 0)
        title = TITLES.get(one.name, f"adapter: {one.name}")
        arms.append(arm.model_copy(update={"title": title, "picked": one.name == picked, "training_rollouts": spent}))
    return EvaluationArtifact(
        environment=run.target.name,
        split=run.config.target.test_split,
        agent=run.base_model,
        seed=run.config.run.seed,
        tasks=len(tasks),
        trials=run.config.evaluation.trials,
        arms=tuple(arms),
        analysis=read_score(run),
        routing=tuple(_routing(run, contestants, outcomes, needs)),
        resources=_resources(run, begun),
        notes=tuple(_notes(run)),
    )


def _routing(run: Run, contestants, outcomes, needs):
    """Each router's choices on tasks that need exactly one trained capability."""
    truth = {adapter: name for name, adapter in adapters_by_truth(run).items()}
    for one in contestants:
        if one.kind is ArmKind.ROUTER and truth:
            named = [o.model_copy(update={"route": truth.get(o.route or "", o.route)}) for o in outcomes[one.name]]
            yield routing_score(one.name, named, needs, sorted(truth.values()))


def _resources(run: Run, begun: float) -> Resources:
    stages = run.store.stages
    rollouts: dict[str, int] = {}
    for name, record in stages.items():
        count = record.facts.get("rollouts", 0)
        rollouts[name] = sum(count.values()) if isinstance(count, dict) else count
    rollouts[STAGE] = run.rollouts.get(STAGE, 0)
    seconds = {name: record.seconds for name, record in stages.items()} | {STAGE: time.perf_counter() - begun}
    return Resources(
        rollouts=rollouts, seconds=seconds, peak_memory=run.memory.peak or peak_memory(run.config.training.workers)
    )


def _notes(run: Run):
    rejected = run.store.stages["synthesis"].facts.get("rejected", {})
    yield from (f"no environment for {name}: {reason}" for name, reason in rejected.items())
    untrained = sorted(set(manifests(run)) - set(adapter_folders(run)))
    yield from (f"no adapter for {name}: its training improved nothing on validation seeds" for name in untrained)
