"""A run on disk: one folder, one writer, atomic files, and markers from which a killed run goes on.

    runs/<id>/
      run.json             what made this run: package version, configuration digest
      config.toml          the configuration, defaults written out
      stages.json          which stages are done, from which inputs, how long they took
      trajectories.jsonl, labels.jsonl, metrics.jsonl, certificates.jsonl
      capabilities.json, router.json, evaluation.json
      envs/<slug>/, adapters/<slug>/, report.html

Each file carries a schema version, checked when it is read. A stage is done once its marker is written and
as long as its inputs (configuration, files) are the ones it ran on; a stage that was killed runs again, and
may keep the whole lines that it had appended.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ValidationError

from trace_agents import files
from trace_agents.artifacts import Artifact, RunFacts, StageRecord, Stages
from trace_agents.config import RunConfig
from trace_agents.errors import UsageError
from trace_agents.files import digest, digest_file
from trace_agents.refusals import wanted

ModelT = TypeVar("ModelT", bound=BaseModel)


class RunStore:
    """A run folder held by this process. Use `create` or `open`; as a context manager it lets go at the end."""

    def __init__(self, root: Path, lock: int | None) -> None:
        self.root = root
        self._lock = lock
        self._mended: set[str] = set()
        self.dropped: dict[str, int] = {}
        """Bytes of torn last lines that were cut off, per file."""

    @classmethod
    def create(cls, root: Path | str, config: RunConfig) -> RunStore:
        """A new run in the empty or missing folder `root`.

        Raises:
            UsageError: `root` already holds a run, or other files.
        """
        root = Path(root)
        if (root / "run.json").exists():
            raise UsageError(
                f"run {str(root)!r} already exists: continue it with --resume {root}, or choose another --run-id"
            )
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise UsageError(f"{str(root)!r} is not empty and not a run: choose another folder")
        root.mkdir(parents=True, exist_ok=True)
        store = cls(root, _acquire(root))
        store.write_text("config.toml", config.to_toml())
        store.write_json("run.json", RunFacts.now(root.name, digest(config.model_dump(mode="json"))))
        return store

    @classmethod
    def open(cls, root: Path | str, *, write: bool = True) -> RunStore:
        """The run in `root`; `write` takes the lock, without it the run is only read.

        Raises:
            UsageError: no such folder, not a run, an unknown version, or another process is writing to it.
        """
        root = Path(root)
        if not root.is_dir():
            raise UsageError(f"run {str(root)!r} does not exist: give the folder of a run, such as runs/<id>")
        if not (root / "run.json").is_file():
            raise UsageError(f"{str(root)!r} is not a run: it has no 'run.json'; give a folder made by `run` or `demo`")
        store = cls(root, _acquire(root) if write else None)
        store.read_json("run.json", RunFacts)
        return store

    def close(self) -> None:
        """Let another process write. Idempotent."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def config(self) -> RunConfig:
        """The configuration that the run was created with."""
        return RunConfig.load(self.root / "config.toml")

    def path(self, name: str) -> Path:
        """Where the file or folder `name` of this run is."""
        return self.root / name

    def has(self, name: str) -> bool:
        """The file or folder `name` has been written."""
        return self.path(name).exists()

    def folder(self, name: str) -> Path:
        """The folder `name` of this run, made where it was missing."""
        self._require_lock()
        self.path(name).mkdir(parents=True, exist_ok=True)
        return self.path(name)

    # One value a file.

    def write_text(self, name: str, text: str) -> Path:
        """Replace the file `name` atomically."""
        self._require_lock()
        files.write_atomically(self.path(name), text)
        return self.path(name)

    def write_json(self, name: str, model: BaseModel) -> Path:
        """Replace the JSON file `name` by `model`, atomically."""
        return self.write_text(name, model.model_dump_json(indent=2) + "\n")

    def read_json(self, name: str, model: type[ModelT]) -> ModelT:
        """The file `name` as a `model`.

        Raises:
            UsageError: missing, not JSON, of another schema version, or not of that shape.
        """
        return read_model(self.path(name), model)

    # One value a line.

    def append_jsonl(self, name: str, rows: Iterable[BaseModel | Mapping[str, Any]]) -> None:
        """Append rows to the file `name`: all of them or, where the disk is full, none."""
        self._require_lock()
        self.mend(name)
        files.append_lines(self.path(name), [_line(row) for row in rows])

    def read_jsonl(self, name: str, model: type[ModelT]) -> Iterator[ModelT]:
        """The rows of `name` in order; a line torn by a kill counts as not written.

        Raises:
            UsageError: missing, or a malformed line, with its number.
        """
        path = self.path(name)
        for number, row in files.read_lines(path):
            yield _validate(model, row, f"line {number} of {str(path)!r}")

    def keep_rows(self, name: str, keep: Callable[[dict[str, Any]], bool]) -> None:
        """Rewrite `name` with the rows that `keep` accepts: undoes what a killed stage had begun."""
        self._require_lock()
        path = self.path(name)
        if path.exists():
            self.mend(name)
            kept = [json.dumps(row) for _, row in files.read_lines(path) if keep(row)]
            files.write_atomically(path, "".join(f"{line}\n" for line in kept))

    def mend(self, name: str) -> None:
        """Cut off or complete the last line of `name` where a kill tore it; once per store, before appending."""
        if name not in self._mended:
            self._mended.add(name)
            if dropped := files.mend_tail(self.path(name)):
                self.dropped[name] = dropped

    # Stages.

    @property
    def stages(self) -> dict[str, StageRecord]:
        """Markers of the stages that ran to their end, in the order of their ends."""
        if not self.has("stages.json"):
            return {}
        return {record.name: record for record in self.read_json("stages.json", Stages).stages}

    def is_done(self, name: str, inputs: Any = None, reads: Sequence[str] = ()) -> bool:
        """The stage `name` ran to its end on these `inputs` and on the present content of the files `reads`."""
        record = self.stages.get(name)
        return record is not None and record.inputs == self._digest(inputs, reads)

    @contextmanager
    def stage(self, name: str, inputs: Any = None, reads: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
        """Run the stage `name`; leaving without an exception writes its marker.

        `inputs` is any JSON value that the stage depends on (its configuration section and seed), `reads` the
        files and folders of the run that it reads. The mapping given takes facts to keep with the marker. Use:

            if not store.is_done("rollouts", inputs):
                with store.stage("rollouts", inputs) as facts:
                    facts["rollouts"] = 480
        """
        self._require_lock()
        begun, clock = time.time(), time.perf_counter()
        before = self.stages.get(name)
        fingerprint = self._digest(inputs, reads)
        facts: dict[str, Any] = {}
        yield facts
        seconds = time.perf_counter() - clock
        record = StageRecord(
            name=name, inputs=fingerprint, begun=begun, seconds=seconds, peak_memory=peak_memory(), facts=facts
        )
        done = self.stages
        if before is not None:
            done.pop(name, None)
        self.write_json("stages.json", Stages(stages=(*done.values(), record)))

    def _digest(self, inputs: Any, reads: Sequence[str]) -> str:
        return digest([inputs, [[name, digest_file(self.path(name))] for name in reads]])

    def _require_lock(self) -> None:
        if self._lock is None:
            raise UsageError(f"run {str(self.root)!r} was opened for reading: open it for writing to change it")


def peak_memory(workers: int = 1) -> int:
    """Upper bound in bytes of the memory held at once by this process and `workers` processes that it ran.

    The largest ended child counts `workers` times; a process's own peak is what the kernel recorded.
    """
    unit = 1 if sys.platform == "darwin" else 1024
    own, child = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return unit * (own + workers * child)


def read_model(path: Path, model: type[ModelT]) -> ModelT:
    """The JSON file `path` as a `model`.

    Raises:
        UsageError: missing, not JSON, of another schema version, or not of that shape.
    """
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise files.missing(path) from error
    except ValueError as error:
        raise UsageError(f"{str(path)!r} is not JSON ({error}): restore it, or delete it and resume") from error
    return _validate(model, data, repr(str(path)))


@contextmanager
def exclusive(root: Path, kind: str, option: str) -> Iterator[None]:
    """Hold the folder `root` of a `kind` alone, as long as the context or this process lasts.

    Raises:
        UsageError: another process holds it; `option` is how the user chooses another folder.
    """
    lock = _acquire(root, kind, option)
    try:
        yield
    finally:
        os.close(lock)


def _acquire(root: Path, kind: str = "run", option: str = "--run-id") -> int:
    """An exclusive lock on a folder, released by the kernel when the process ends however it ends."""
    descriptor = os.open(root / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(descriptor, 32).decode().strip() or "unknown"
        os.close(descriptor)
        raise UsageError(
            f"{kind} {str(root)!r} is being written by process {holder}: wait for it, or choose another {option}"
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


def _line(row: BaseModel | Mapping[str, Any]) -> str:
    return row.model_dump_json() if isinstance(row, BaseModel) else json.dumps(dict(row))


def _validate(model: type[ModelT], data: Any, where: str) -> ModelT:
    if issubclass(model, Artifact) and isinstance(data, dict):
        expected, found = model.model_fields["version"].default, data.get("version")
        if found != expected:
            raise UsageError(
                f"{where} has schema version {found!r}, this trace-agents reads {expected!r}: "
                "use the trace-agents that wrote it, or run again"
            )
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"]) or "the whole value"
        fault = f"{where} is malformed ({key}: {wanted(problem)})"
        raise UsageError(f"{fault}: mend it, or delete it and resume") from error
