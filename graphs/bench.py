"""`make bench`: the figures that the project promises, each beside its bar.

`python -m graphs.bench [--seeds 0 1 2] [--only overhead serving engine analysis ...] [--out runs/bench]`
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from graphs.scale import measure_scale
from mcp_servers.bench.subject import CALLS, subject
from mcp_servers.bench.times import measure
from mcp_servers.helpdesk import Helpdesk
from trace_agents.analysis.validation.kit import METHODS, validate
from trace_agents.artifacts import Arm, ArmKind, EvaluationArtifact
from trace_agents.endpoint import Completion, Sampling
from trace_agents.errors import UsageError
from trace_agents.runstore import RunStore
from training.base_agent import find_model
from training.chat import load_chat_format
from training.engine import Engine
from training.rollouts import RolloutConfig, TraceWriter, collect

ROOT = Path(__file__).parents[1]
REAL = ROOT.parent / "shared" / "data" / "tau-bench" / "gpt-4o-airline.json"


class Figure(NamedTuple):
    """One line of the table."""

    name: str
    value: str
    bar: str


class Replay:
    """An endpoint that gives recorded completions at once, so that what is left is the cost of everything else."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._recorded: dict[tuple[int, ...], Completion] = {}

    async def generate(self, prompt_ids: Sequence[int], model: str, sampling: Sampling) -> Completion:
        """The recorded completion; asks the engine the first time."""
        key = tuple(prompt_ids)
        if key not in self._recorded:
            self._recorded[key] = await self._engine.generate(prompt_ids, model, sampling)
        return self._recorded[key]


def overhead(out: Path) -> Iterator[Figure]:
    """MCP, verifiers and logging per rollout, engine time excluded."""
    base = find_model("embedded:helpdesk-1m")
    engine, chat, desk = Engine.from_pretrained(base, threads=1), load_chat_format(str(base)), Helpdesk()
    replay = Replay(engine)
    tasks = desk.tasks("train")
    config = RolloutConfig(model=engine.name, sampling=Sampling(max_tokens=96), trials=2, seed=0, concurrency=1)
    asyncio.run(collect(desk, tasks, replay, chat, config))
    with tempfile.TemporaryDirectory() as folder, TraceWriter(Path(folder) / "traces.jsonl") as writer:
        clock = time.perf_counter()
        traces = asyncio.run(collect(desk, tasks, replay, chat, config, on_trace=writer.write))
        seconds = time.perf_counter() - clock
    value = f"{1000 * seconds / len(traces):.1f} ms"
    yield Figure("overhead of MCP, verifiers and logging, per rollout", value, "10 ms")


def serving(out: Path) -> Iterator[Figure]:
    """A tool call over MCP, beside a plain MCP server's in the same run. Bars are beyond the environment's own time."""
    os.environ.setdefault("TRACE_AGENTS_USER", "scripted")  # Of τ²-bench; no model is asked.
    for name in CALLS:
        try:
            found = asyncio.run(measure(subject(name)))
        except UsageError as error:
            yield Figure(f"{name}: serving", f"not run: {error}", "")
            continue
        value = f"{found.own:.2f} ms (a line to a process and back {found.echo:.2f})"
        yield Figure(f"{name}: a call without MCP", value, "")
        for call in found.calls:
            value = f"{call.served:.2f} ms ({call.served / call.floor:.2f} of a plain server's {call.floor:.2f})"
            raw = call.client == "raw"  # Waits for the server alone; in memory client and server are one.
            bar = f"{_CALL_BARS[call.door]} ms more" if raw or call.door == "memory" else ""
            by = "raw bytes" if raw else "MCP's client"
            yield Figure(f"{name}: a call, {call.door}, era {call.era}, {by}", value, bar)
        yield Figure(f"{name}: a call, our own client over HTTP", f"{found.remote:.2f} ms", "")
        value = f"{found.listing / 1000:.2f} s (a plain server's {found.listing_floor / 1000:.2f})"
        yield Figure(f"{name}: first listing of serve --stdio", value, "1.5 s")
        yield Figure(f"{name}: reset", f"{found.reset:.1f} ms", "15 ms")


_CALL_BARS = {"memory": 1, "stdio": 1, "http": 2}
"""Door -> milliseconds that a call may take beyond the call itself."""


def engine(out: Path) -> Iterator[Figure]:
    """The embedded engine at 64 conversations, one thread."""
    base = find_model("embedded:helpdesk-1m")
    engine, chat, desk = Engine.from_pretrained(base, threads=1), load_chat_format(str(base)), Helpdesk()
    tasks = desk.tasks("train")
    sampling = Sampling(temperature=1.0, max_tokens=96)
    config = RolloutConfig(model=engine.name, sampling=sampling, trials=8, seed=0, concurrency=64)
    clock = time.perf_counter()
    traces = asyncio.run(collect(desk, tasks, engine, chat, config))
    seconds = time.perf_counter() - clock
    tokens = sum(trace.num_output_tokens for trace in traces)
    yield Figure("rollouts over MCP, one thread", f"{len(traces) / seconds:.0f}/s, {tokens / seconds:.0f} tok/s", "")


def analysis(out: Path) -> Iterator[Figure]:
    """The statistical analyst on 200 real trajectories, as a user runs it."""
    if not REAL.is_file():
        yield Figure("analysis of 200 real trajectories", f"not run: {REAL.name} is absent", "60 s")
        return
    clock = time.perf_counter()
    command = ["analyze", str(REAL), "--format", "tau-bench", "--out", str(out / "real-analysis")]
    subprocess.run([sys.executable, "-m", "trace_agents.cli", *command], check=True, stdout=subprocess.DEVNULL)
    yield Figure("analysis of 200 real trajectories", f"{time.perf_counter() - clock:.0f} s", "60 s")


def scale(out: Path) -> Iterator[Figure]:
    """10,000 trajectories of some 30 messages, as a user analyses them, on one thread."""
    folder = out / "scale"
    folder.mkdir()
    found = measure_scale(folder)
    value = f"{found.seconds:.0f} s ({found.processor_seconds:.0f} s of processor), {found.peak_bytes / 1e9:.2f} GB"
    title = f"analysis of {found.trajectories:,} trajectories of {found.messages:.0f} messages"
    yield Figure(title, value, "120 s, 2 GB")


def planted(out: Path) -> Iterator[Figure]:
    """The statistical analyst on planted deficits, beside the referee's ablations."""
    found = validate()
    for title, summaries in (("developed with", found.developed), ("held out", found.held_out)):
        for one in summaries:
            bar = "0.90 / 0.90" if one.method == METHODS[0] else ""
            yield Figure(f"planted, worlds {title}: {one.method}", f"{one.precision:.2f} / {one.recall:.2f}", bar)
    least = min(one.together for one in found.recovery)
    yield Figure("planted: labelling runs that select the top four, worst deal", f"{least:.0%}", "80%")
    least = min(one.same_top for one in found.stability)
    yield Figure("planted: whole analyses with the same top four, worst world", f"{least:.0%}", "80%")


def demo(out: Path, seeds: Sequence[int]) -> Iterator[Figure]:
    """The whole loop from each seed."""
    for seed in seeds:
        name = f"demo-s{seed}"
        clock = time.perf_counter()
        command = ["demo", "--out", str(out), "--run-id", name, "--seed", str(seed)]
        subprocess.run([sys.executable, "-m", "trace_agents.cli", *command], check=True)
        minutes = (time.perf_counter() - clock) / 60
        with RunStore.open(out / name, write=False) as store:
            found = store.read_json("evaluation.json", EvaluationArtifact)
        yield Figure(f"seed {seed}: wall-clock", f"{minutes:.1f} min", "10 min")
        yield Figure(f"seed {seed}: peak memory", f"{found.resources.peak_memory / 2**30:.1f} GiB", "4 GiB")
        yield from _outcomes(f"seed {seed}", found)


_BARS = (("best router", ArmKind.ROUTER, "+14.1"), ("best composition", ArmKind.COMPOSITION, "+30"))


def _outcomes(seed: str, found: EvaluationArtifact) -> Iterator[Figure]:
    for title, kind, bar in _BARS:
        arms = [arm for arm in found.arms if arm.kind is kind]
        if arms:
            best = max(arms, key=lambda arm: arm.pass_rate.value)
            yield Figure(f"{seed}: {title} against base", f"{best.name} {_points(best)}", bar)
    if found.analysis:
        value = f"{found.analysis.precision:.2f} / {found.analysis.recall:.2f}"
        yield Figure(f"{seed}: analysis precision / recall", value, "0.80 / 0.80")
    for score in found.routing:
        bar = "0.80" if score.router == "probe" else ""
        yield Figure(f"{seed}: routing accuracy, {score.router}", f"{score.accuracy.value:.2f}", bar)


def _points(arm: Arm) -> str:
    gain = arm.versus_base
    return "" if gain is None else f"{100 * gain.value:+.1f} points (p = {gain.p_value:.1g})"


PARTS: dict[str, Callable[..., Iterator[Figure]]] = {
    "overhead": overhead,
    "serving": serving,
    "engine": engine,
    "analysis": analysis,
    "scale": scale,
    "planted": planted,
    "demo": demo,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m graphs.bench", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=tuple(PARTS))
    parser.add_argument("--out", type=Path, default=Path("runs") / time.strftime("bench-%Y%m%d-%H%M%S"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    parts = PARTS | {"demo": lambda out: demo(out, options.seeds)}
    print(f"{'figure':58} {'measured':40} bar")
    for name in options.only or parts:
        for figure in parts[name](options.out):
            print(f"{figure.name:58} {figure.value:40} {figure.bar}", flush=True)
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{'peak memory of the bench itself':58} {own / 2**20:.1f} GiB")


if __name__ == "__main__":
    main()
