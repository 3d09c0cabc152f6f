"""A whole run on disk, made up from a seed in the shapes that the pipeline writes, for the tests of readers."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from trace_agents.analysis.aggregate import Overlap
from trace_agents.analysis.analyst import Discovered, RunLabels
from trace_agents.analysis.evidence import Evidence
from trace_agents.analysis.results import Analysis, Candidate, CapabilitiesArtifact, LabelRow, conclude
from trace_agents.arms import routing_score, summarise
from trace_agents.artifacts import (
    AnalysisScore,
    Arm,
    ArmKind,
    CertificateRow,
    Check,
    EvaluationArtifact,
    MetricRow,
    Resources,
    RouterArtifact,
    TaskOutcome,
)
from trace_agents.config import RunConfig
from trace_agents.contrast import Contrast, Selection, Thresholds, contrast, select
from trace_agents.runstore import RunStore
from trace_agents.statistics import Interval
from trace_agents.types import Capability, Label, Message, ToolCall, Trajectory

CAPABILITIES = (
    "verify-identity",
    "check-refund-window",
    "finish-all-requests",
    "recover-from-lock",
    "pick-right-record",
)
CONTROLS = ("greet-politely", "quote-order-status", "use-order-id")
HOSTILE = "</script><img src=x onerror=alert(1)>\u2028 & <b>bold</b>"
CONFIG = """
[run]
name = "sample"
seed = 3
[target]
environment = "helpdesk"
"""


def needs_of(tasks: int, rng: random.Random) -> dict[str, tuple[str, ...]]:
    """Task id -> needed capabilities, none to three of them."""
    every = (*CAPABILITIES, *CONTROLS)
    return {f"test-{i:03d}": tuple(sorted(rng.sample(every, rng.choice((0, 1, 1, 2, 2, 3))))) for i in range(tasks)}


def outcomes(needs: dict[str, tuple[str, ...]], mastered: set[str], rng: random.Random) -> list[TaskOutcome]:
    """Outcomes of an agent that has `mastered` some capabilities; every 97th task loses its verdict."""
    found = []
    for i, (task, needed) in enumerate(needs.items()):
        lacking = set(needed) - mastered - set(CONTROLS)
        success = None if i % 97 == 96 else rng.random() < (0.93 if not lacking else 0.16 ** len(lacking))
        route = needed[0] if len(needed) == 1 and rng.random() < 0.8 else rng.choice(("base", *CAPABILITIES))
        found.append(TaskOutcome(task_id=task, success=success, reward=float(bool(success)), route=route))
    return found


def evaluation(rng: random.Random, tasks: int = 300) -> EvaluationArtifact:
    """An evaluation with every kind of arm."""
    needs = needs_of(tasks, rng)
    base = outcomes(needs, set(), rng)
    plan: list[tuple[str, ArmKind, set[str], int]] = [
        ("router: zero-shot", ArmKind.ROUTER, set(CAPABILITIES[:1]), 7_200),
        ("router: probe", ArmKind.ROUTER, set(CAPABILITIES[:3]), 7_200),
        ("sum of deltas", ArmKind.COMPOSITION, set(CAPABILITIES), 7_200),
        ("token gate", ArmKind.COMPOSITION, set(CAPABILITIES[:4]), 7_200),
        ("oracle route", ArmKind.ORACLE, set(CAPABILITIES[1:4]), 7_200),
        ("GRPO on target", ArmKind.BASELINE, set(CAPABILITIES[2:4]), 7_200),
    ]
    arms: list[Arm] = [summarise("base", ArmKind.BASE, base, needs)]
    for name, kind, mastered, rollouts in plan:
        arm = summarise(name, kind, outcomes(needs, mastered, rng), needs, base)
        arms.append(arm.model_copy(update={"training_rollouts": rollouts, "picked": name == "sum of deltas"}))
    return EvaluationArtifact(
        environment="helpdesk",
        split="test",
        agent="embedded:helpdesk-1m",
        seed=3,
        tasks=tasks,
        arms=tuple(arms),
        analysis=AnalysisScore(planted=CAPABILITIES, kept=CAPABILITIES[:4], matched={}, precision=1.0, recall=0.8),
        routing=tuple(
            routing_score(arm.name.removeprefix("router: "), arm.outcomes, needs, CAPABILITIES)
            for arm in arms
            if arm.kind is ArmKind.ROUTER
        ),
        resources=Resources(
            rollouts={"rollouts": 480, "training": 7200, "evaluation": 2100},
            seconds={"rollouts": 9.1, "analysis": 21.4, "training": 260.0, "evaluation": 61.0},
            peak_memory=1_900_000_000,
            infrastructure_failures=2,
        ),
        notes=("capability 'pick-right-record' was not kept, so it has no adapter",),
    )


def trace(number: int, rng: random.Random, length: int = 1) -> dict[str, Any]:
    """A rollout as verifiers writes its `Trace`: a graph of messages, rewards by name, `info` of this project."""
    success = rng.random() < 0.4
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "You are the support agent of an online shop. Follow the policy."},
        {"role": "user", "content": f"Hi, I want to return order #W{number:05d}. {HOSTILE if number == 1 else ''}"},
    ]
    for step in range(length):
        arguments = json.dumps({"order_id": f"#W{number:05d}"})
        call = {"id": f"c{step}", "type": "function", "name": "get_order", "arguments": arguments}
        items = [{"sku": f"S{i}", "price": 9.5} for i in range(4)]
        order = json.dumps({"order_id": f"#W{number:05d}", "status": "delivered", "items": items})
        messages += [
            {"role": "assistant", "content": "Let me look." if step == 0 else None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"c{step}", "name": "get_order", "content": order},
        ]
    messages += [
        {"role": "assistant", "content": "Your return is under way. Anything else?"},
        {"role": "user", "content": "No, thanks."},
    ]
    nodes = [
        {
            "parent": i - 1 if i else None,
            "message": message,
            "sampled": message["role"] == "assistant",
            "token_ids": [1, 2],
        }
        for i, message in enumerate(messages)
    ]
    failed = number % 50 == 49
    error = {"type": "InfrastructureError", "message": "the server went away"}
    data = {"id": f"train-{number // 8:03d}", "prompt": "Hi", "environment": "helpdesk", "split": "train"}
    return {
        "version": 1,
        "id": f"trace-{number:04d}",
        "task": {"type": "EnvironmentTask", "data": data},
        "agent": {"name": "agent", "config": {"model": "helpdesk-1m"}},
        "calls": [{"node": 2, "model": "helpdesk-1m"}],
        "nodes": nodes,
        "rewards": {} if failed else {"evaluation": {"score": float(success), "weight": 1.0}},
        "metrics": {} if failed else {"success": float(success)},
        "info": {"trial": number % 8, "tool_errors": ["c1"], "malformed_calls": 0},
        "ok": not failed,
        "is_completed": True,
        "errors": [error] if failed else [],
        "stop_condition": "error" if failed else "user",
    }


def write_sample_run(root: Path, seed: int = 0, trajectories: int = 120) -> Path:
    """Make the run in `root`, all stages done."""
    rng = random.Random(seed)
    with RunStore.create(root, RunConfig.parse(CONFIG)) as store:
        with store.stage("rollouts", {"seed": seed}) as facts:
            store.append_jsonl("trajectories.jsonl", [trace(i, rng, 1 + i % 3) for i in range(trajectories)])
            facts["rollouts"] = trajectories
        with store.stage("analysis", reads=["trajectories.jsonl"]):
            store.write_json("capabilities.json", capabilities_file(rng))
            store.append_jsonl("labels.jsonl", labels(trajectories, rng))
        with store.stage("training"):
            store.append_jsonl("certificates.jsonl", [certificate(name, rng) for name in CAPABILITIES[:4]])
            store.append_jsonl("metrics.jsonl", [row for name in CAPABILITIES[:4] for row in curve(name, rng)])
        with store.stage("evaluation"):
            store.write_json("router.json", RouterArtifact(capabilities=CAPABILITIES[:4], picked="sum"))
            store.write_json("evaluation.json", evaluation(rng))
    return root


def capabilities_file(rng: random.Random) -> CapabilitiesArtifact:
    """What the analysis writes: the first four capabilities are lacking on failures, the others hardly ever."""
    every = (*CAPABILITIES, *CONTROLS)
    succeeded = [rng.random() < 0.4 for _ in range(118)]
    runs = [{name: one_contrast(i < 4, succeeded, rng) for i, name in enumerate(every)} for _ in range(10)]
    return CapabilitiesArtifact(
        analyst="statistical",
        thresholds=Thresholds(),
        trajectories=len(succeeded),
        tasks=15,
        failed=succeeded.count(False),
        excluded=2,
        capabilities=tuple(candidate(one, runs[0][one.name], rng) for one in select(runs, Thresholds())),
    )


def one_contrast(lacking: bool, succeeded: list[bool], rng: random.Random) -> Contrast:
    """The contrast of a capability that failures lack, or of one that hardly anything lacks."""
    rates = {True: 0.1, False: 0.6 if lacking else 0.15}
    found = [Label.LACKING if rng.random() < rates[good] else Label.PRESENT for good in succeeded]
    return contrast(found, succeeded)


def candidate(selection: Selection, overall: Contrast, rng: random.Random) -> Candidate:
    """A capability with everything known about it."""
    name = selection.name
    capability = Capability(
        name=name,
        title=name.replace("-", " ").capitalize(),
        description="Reads the order before refunding it, and refunds it only in the policy's window.",
    )
    evidence = tuple(
        Evidence(
            trajectory_id=f"trace-{number:04d}",
            task_id=f"train-{number // 8:03d}",
            trial=number % 8,
            step=1,
            excerpt='get_order({"order_id": "#W00001"})',
            contrast_id=f"trace-{number + 1:04d}" if number % 2 else None,
        )
        for number in rng.sample(range(100), 8)
    )
    merged = ("Reads before it writes",) if selection.kept else ()
    others = [other for other in (*CAPABILITIES, *CONTROLS) if other != name]
    return Candidate(
        capability=capability,
        selection=selection,
        overall=overall,
        delta_interval=Interval(low=-0.05, high=0.6),
        coverage_interval=Interval(low=0.05, high=0.4),
        alpha=0.8,
        overlap={other: Overlap(both=3, jaccard=0.2, share=0.3) for other in others},
        evidence=evidence,
        figures={},
        merged=merged,
    )


def write_sample_analysis(
    folder: Path, tasks: int = 12, talk: str = "", agreement: float | None = None, seed: int = 0
) -> Analysis:
    """An analysis on its own: four trials a task; who does not look the order up fails, what else differs is chance."""
    rng = random.Random(seed)
    played = [conversation(number, talk, rng) for number in range(4 * tasks)]
    looked = ["P" if one.success or rng.random() < 0.3 else "L" for one in played]
    ids = tuple(one.id for one in played)
    runs = []
    for run in range(5):
        letters = {"look-up": "".join(looked), "greet": "".join(rng.choices("NPL", k=len(played)))}
        steps = {name: tuple(None if one == "N" else 1 for one in found) for name, found in letters.items()}
        runs.append(RunLabels(run=run, trajectory_ids=ids, labels=letters, steps=steps))
    thresholds = Thresholds.for_runs(5)
    dictionary = [
        Discovered(capability=Capability(name=name, title=f"{name} & more", description="Looks, then acts."))
        for name in ("look-up", "greet")
    ]
    found = conclude(dictionary, runs, played, thresholds)
    summary = CapabilitiesArtifact(
        analyst="rote",
        thresholds=thresholds,
        trajectories=len(played),
        tasks=tasks,
        failed=sum(not one.success for one in played),
        excluded=0,
        capabilities=tuple(one.model_copy(update={"agreement": agreement}) for one in found),
    )
    analysis = Analysis(summary=summary, runs=tuple(runs))
    analysis.write(folder)
    analysis.write_evidence(folder, played)
    return analysis


def conversation(number: int, talk: str, rng: random.Random) -> Trajectory:
    """One trajectory of the sample analysis."""
    call = ToolCall(id="c", name="get_order", arguments={"order_id": f"#W{number:05d}"})
    messages = (
        Message(role="user", content=f"Hi, where is my order? {HOSTILE if number == 1 else ''}{talk}"),
        Message(role="assistant", content="Let me look.", tool_calls=(call,)),
        Message(role="tool", content='{"status": "delivered"}', name="get_order", tool_call_id="c"),
    )
    return Trajectory(
        id=f"t{number}",
        task_id=f"task-{number // 4}",
        trial=number % 4,
        environment="shop",
        agent="sample",
        messages=messages,
        success=rng.random() < 0.5,
    )


def labels(trajectories: int, rng: random.Random) -> list[LabelRow]:
    """Three labelling runs over the kept capabilities."""
    return [
        LabelRow(run=run, trajectory_id=f"trace-{i:04d}", capability=name, label=rng.choice(list(Label)), step=1)
        for run in range(3)
        for i in range(trajectories)
        for name in CAPABILITIES[:4]
    ]


def curve(adapter: str, rng: random.Random) -> list[MetricRow]:
    """A training curve that rises and flattens."""
    last = rng.randrange(8, 24)
    return [
        MetricRow(
            adapter=adapter,
            iteration=i,
            reward_mean=min(0.97, 0.25 + 0.75 * i / last + rng.uniform(-0.05, 0.05)),
            success_rate=min(0.95, 0.15 + 0.8 * i / last + rng.uniform(-0.08, 0.08)),
            validation_success=min(0.95, 0.1 + 0.85 * i / last) if i % 2 else None,
            clip_fraction=rng.uniform(0.0, 0.03),
            informative_groups=rng.randrange(2, 9),
            groups=8,
            rollouts=64,
        )
        for i in range(last)
    ]


def certificate(name: str, rng: random.Random) -> CertificateRow:
    """A certificate with every check passed but, in one environment, the variance."""
    checks = [
        Check(name=check, passed=True, value=1.0, bar=">= 0.99") for check in ("oracle", "deterministic", "schemas")
    ]
    checks += [Check(name=check, passed=True, value=rng.uniform(0, 0.2), bar="<= 0.3") for check in ("idle", "give-up")]
    spread = name != CAPABILITIES[3]
    checks.append(
        Check(
            name="variance",
            passed=spread,
            value=0.7 if spread else 0.1,
            bar=">= 0.2",
            detail="groups with varied rewards",
        )
    )
    return CertificateRow(environment=f"helpdesk/{name}", capability=name, passed=spread, checks=tuple(checks))
