"""A whole run on disk, made up from a seed in the shapes that the pipeline writes, for the tests of readers."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

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
from trace_agents.runstore import RunStore

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
    return {
        "version": 1,
        "id": f"trace-{number:04d}",
        "task": {
            "type": "T",
            "data": {"id": f"train-{number // 8:03d}", "capabilities": list(rng.sample(CAPABILITIES, 2))},
        },
        "agent": {"name": "agent", "config": {}},
        "calls": [{"node": 2, "model": "base"}],
        "nodes": nodes,
        "rewards": {} if failed else {"reward": {"score": float(success), "weight": 1.0}},
        "info": {"environment": "helpdesk", "success": None if failed else success},
        "ok": not failed,
        "errors": [{"type": "InfrastructureError", "message": "the server went away"}] if failed else [],
        "stop_condition": None if failed else "user",
    }


def write_sample_run(root: Path, seed: int = 0, trajectories: int = 120) -> Path:
    """Make the run in `root`, all stages done."""
    rng = random.Random(seed)
    with RunStore.create(root, RunConfig.parse(CONFIG)) as store:
        with store.stage("rollouts", {"seed": seed}) as facts:
            store.append_jsonl("trajectories.jsonl", [trace(i, rng, 1 + i % 3) for i in range(trajectories)])
            facts["rollouts"] = trajectories
        with store.stage("analysis", reads=["trajectories.jsonl"]):
            store.write_text("capabilities.json", json.dumps(capabilities_file(rng), indent=1))
            store.append_jsonl("labels.jsonl", labels(trajectories, rng))
        with store.stage("training"):
            store.append_jsonl("certificates.jsonl", [certificate(name, rng) for name in CAPABILITIES[:4]])
            store.append_jsonl("metrics.jsonl", [row for name in CAPABILITIES[:4] for row in curve(name, rng)])
        with store.stage("evaluation"):
            store.write_json("router.json", RouterArtifact(capabilities=CAPABILITIES[:4], picked="sum"))
            store.write_json("evaluation.json", evaluation(rng))
    return root


def capabilities_file(rng: random.Random) -> dict[str, Any]:
    """What the analysis writes."""
    entries = []
    for i, name in enumerate((*CAPABILITIES, *CONTROLS)):
        kept = i < 4
        mean = rng.uniform(0.3, 0.8) if kept else rng.uniform(0.0, 0.15)
        span = {"mean": mean, "low": mean - 0.05, "high": mean + 0.05, "deviation": 0.02, "estimated": 10}
        entries.append(
            {
                "name": name,
                "title": name.replace("-", " ").capitalize(),
                "description": "Reads the order before refunding it, and refunds it only in the policy's window.",
                "kept": kept,
                "reason": f"passed in {10 if kept else 1} of 10 runs, 8 needed; mean Δ {mean:.2f} is below 0.20",
                "passes": 10 if kept else 1,
                "runs": 10,
                "delta": span,
                "coverage": {**span, "mean": mean / 2, "low": mean / 2 - 0.03, "high": mean / 2 + 0.03},
                "er_failed": {"mean": mean + 0.1},
                "er_succeeded": {"mean": 0.1},
                "evidence": [f"trace-{rng.randrange(100):04d}" for _ in range(8)],
            }
        )
    return {"version": 1, "capabilities": entries}


def labels(trajectories: int, rng: random.Random) -> list[dict[str, Any]]:
    """Three labelling runs over the kept capabilities."""
    return [
        {
            "version": 1,
            "run": run,
            "trajectory_id": f"trace-{i:04d}",
            "capability": name,
            "label": rng.choice(("NA", "PRESENT", "LACKING")),
            "step": 2,
            "reason": "get_order was called before anything was refunded",
        }
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
