"""Training runs in processes of their own."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from trace_agents.artifacts import MetricRow
from trace_agents.endpoint import Sampling
from training.base_agent import find_model
from training.grpo import GRPOConfig
from training.jobs import Seeds, TrainingJob, run_jobs
from training.rollouts import RolloutConfig


def job(name: str, folder: Path, iterations: int) -> TrainingJob:
    """A small run that no plateau ends."""
    rollout = RolloutConfig(model="", sampling=Sampling(temperature=1.0, max_tokens=96), max_turns=8)
    config = GRPOConfig(
        groups=2, group_size=2, iterations=iterations, patience=iterations, stop_when_solved=False, rollout=rollout
    )
    tasks = Seeds(environment="synth/unlock", train_from=100, validate_from=10, held_out=2)
    return TrainingJob(
        name=name, base=find_model("embedded:helpdesk-1m").resolve(), tasks=tasks, config=config, folder=folder
    )


async def test_each_job_leaves_its_adapter_and_tells_of_its_iterations(tmp_path: Path) -> None:
    heard: list[MetricRow] = []
    results = await run_jobs([job("a", tmp_path, 2), job("b", tmp_path, 1)], workers=2, on_row=heard.append)
    assert {name: result.iterations for name, result in results.items()} == {"a": 2, "b": 1}
    assert sorted((row.adapter, row.iteration) for row in heard) == [("a", 0), ("a", 1), ("b", 0)]
    assert all((tmp_path / name / "adapter_model.safetensors").is_file() for name in results)


@pytest.mark.skipif(sys.platform == "win32", reason="kills by signal")
def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_jobs import job\n"
        "from training.jobs import run_jobs\n"
        "if __name__ == '__main__':\n"
        "    tell = lambda row: print('iteration', row.iteration, flush=True)\n"
        f"    asyncio.run(run_jobs([job('long', Path({str(tmp_path)!r}), 100_000)], 1, tell))\n"
    )
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "iteration 0\n"
    parent.send_signal(signal.SIGKILL)
    # The worker holds the pipe too: its end is the end of the output.
    parent.communicate(timeout=60)
    assert parent.returncode == -signal.SIGKILL
