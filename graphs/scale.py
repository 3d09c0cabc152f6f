"""The analyst at scale: many long trajectories, and what analysing them as a user would takes in time and memory."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from trace_agents.analysis.validation.domains import DOMAINS
from trace_agents.analysis.validation.play import Domain, deal
from trace_agents.errors import InfrastructureError
from trace_agents.files import write_atomically
from trace_agents.memory import resident
from trace_agents.types import Record, Trajectory

TRIALS = 8
SAMPLE_S = 0.05
"""Seconds between two looks at the process's memory."""


class Scale(Record):
    """What one analysis took, reading and writing included."""

    trajectories: int
    messages: float
    """Of a trajectory, on average."""
    seconds: float
    """Wall-clock."""
    processor_seconds: float
    """Of the analysing process; less than `seconds` where it had to wait."""
    peak_bytes: int
    """Largest resident memory of the analysing process."""


def measure_scale(
    folder: Path, trajectories: int = 10_000, messages: int = 30, domain: Domain = DOMAINS[1], seed: int = 0
) -> Scale:
    """Deal trajectories into `folder` and run `trace-agents analyze` on them in a process of its own, on one thread.

    Raises:
        InfrastructureError: the analysis failed.
    """
    dealt = deal(domain, seed, tasks=max(trajectories // TRIALS, 1), trials=TRIALS, messages=messages).trajectories
    path = folder / "trajectories.jsonl"
    write_atomically(path, "".join(f"{_line(one)}\n" for one in dealt))
    mean = sum(len(one.messages) for one in dealt) / len(dealt)
    command = [sys.executable, "-m", "trace_agents.cli", "analyze", str(path), "--out", str(folder / "analysis")]
    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    clock = time.perf_counter()
    with (folder / "analyze.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--format", "messages"], env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        before, peak = _children_seconds(), _watched(process)
    if process.returncode:
        raise InfrastructureError(
            f"analysing {len(dealt)} trajectories ended with {process.returncode}: see {log.name}"
        )
    return Scale(
        trajectories=len(dealt),
        messages=mean,
        seconds=time.perf_counter() - clock,
        processor_seconds=_children_seconds() - before,
        peak_bytes=peak,
    )


def _watched(process: subprocess.Popen[bytes]) -> int:
    """Wait for the process; its largest resident memory. The kernel's own figure would begin at its parent's."""
    peak = 0
    while process.poll() is None:
        peak = max(peak, resident(str(process.pid)))
        time.sleep(SAMPLE_S)
    return peak


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _line(one: Trajectory) -> str:
    row: dict[str, Any] = {
        "id": one.id,
        "task_id": one.task_id,
        "trial": one.trial,
        "success": one.success,
        "messages": [message.openai() for message in one.messages],
        "tools": [tool.openai() for tool in one.tools],
    }
    return json.dumps(row)
