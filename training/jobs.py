"""Training runs in processes of their own, several at once: what a run is, and how a pool works them off."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from trace_agents.artifacts import MetricRow
from trace_agents.endpoint import ModelEndpoint
from trace_agents.errors import InfrastructureError
from trace_agents.registry import load_environment
from trace_agents.types import Record
from training.grpo import FixedTasks, GRPOConfig, SeededTasks, TaskSource, TrainResult


class Seeds(Record):
    """Task instances generated from seeds: a new one for every group."""

    environment: str
    """As `load_environment` takes it."""
    train_from: int
    validate_from: int
    held_out: int
    """Held-out seeds."""

    def source(self, seed: int) -> TaskSource:
        """The task source."""
        return SeededTasks(load_environment(self.environment), self.train_from, self.validate_from, self.held_out)


class Splits(Record):
    """Fixed tasks of an environment's splits."""

    environment: str
    train: str
    validation: str
    held_out: int
    """Held-out tasks, the first of the validation split."""

    def source(self, seed: int) -> TaskSource:
        """The task source."""
        environment = load_environment(self.environment)
        held_out = environment.tasks(self.validation)[: self.held_out]
        return FixedTasks(environment, environment.tasks(self.train), held_out, seed)


class TrainingJob(Record):
    """One adapter to train; plain data, so that it can go to another process."""

    name: str
    """The adapter's name, and its folder's."""
    base: Path
    """Model folder."""
    tasks: Seeds | Splits
    config: GRPOConfig
    folder: Path
    """Where adapters go: `folder/name/`."""
    endpoint: str | None = None
    """URL that samples; None runs an engine in the job's own process."""
    threads: int = 1
    """Threads of torch. For small models two are no faster than one, and wait for each other where cores are wanted."""


OnRow = Callable[[MetricRow], None]


async def run_jobs(jobs: Sequence[TrainingJob], workers: int, on_row: OnRow | None = None) -> dict[str, TrainResult]:
    """Work off `jobs`, at most `workers` at once, each in a process; name → result.

    Args:
        on_row: told of each job's iterations as they end.

    Raises:
        InfrastructureError: a worker process died. What the jobs wrote stays; running them again goes on there.
    """
    context = multiprocessing.get_context("spawn")
    rows: Any = context.SimpleQueue()
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(min(workers, len(jobs)), context, initializer=_start_worker, initargs=(rows,)) as pool:
        listening = asyncio.create_task(asyncio.to_thread(_listen, rows, on_row))
        try:
            results = await asyncio.gather(*(loop.run_in_executor(pool, _work, job) for job in jobs))
        except BrokenProcessPool as error:
            raise InfrastructureError(
                "a training process died (out of memory?): resume the run, with fewer workers"
            ) from error
        finally:
            rows.put(None)
            await listening
    return dict(zip([job.name for job in jobs], results, strict=True))


def _listen(rows: Any, on_row: OnRow | None) -> None:
    while (row := rows.get()) is not None:
        if on_row is not None:
            on_row(row)


_rows: Any = None


def _start_worker(rows: Any) -> None:
    global _rows
    _rows = rows
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would train on unseen, beside the run that resumes."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(job: TrainingJob) -> TrainResult:
    """In the worker: train with an endpoint of its own."""
    import torch

    from training.engine import Engine
    from training.engine.remote import RemoteEndpoint
    from training.grpo import train
    from training.quiet import quiet_libraries

    quiet_libraries()
    torch.set_num_threads(job.threads)
    endpoint: ModelEndpoint
    if job.endpoint is None:
        endpoint = Engine.from_pretrained(job.base, name=job.base.name, threads=job.threads, seed=job.config.seed)
    else:
        endpoint = RemoteEndpoint(job.endpoint)
    source = job.tasks.source(job.config.seed)
    return asyncio.run(train(source, endpoint, job.base, job.config, job.folder / job.name, on_iteration=_rows.put))
