"""An evaluation on disk: one folder, one writer, one question; every episode is written as it ends.

DIR/
  question.json        what is asked
  trajectories.jsonl   the agent's episodes
  floors/<name>.jsonl  those of the ceiling and the floors
  records.jsonl        what the benchmark keeps of the agent's episodes besides
  evaluation.json      the figures
  report.html          the same as a page, with the trajectories to read
  results/             the benchmark's own format
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from graphs.evaluation.question import EvaluationResult, Question
from trace_agents.errors import UsageError
from trace_agents.files import append_lines, mend_tail, read_lines, write_atomically, write_lines
from trace_agents.report import render
from trace_agents.report.evaluation import EvaluationContents, trajectories_of
from trace_agents.runstore import exclusive, read_model
from trace_agents.scores import Outcome
from trace_agents.types import TaskInstance, Trajectory

QUESTION, TRAJECTORIES, EVALUATION = "question.json", "trajectories.jsonl", "evaluation.json"
RECORDS, RESULTS, REPORT, BESIDE = "records.jsonl", "results", "report.html", "floors"

Episodes = TypeVar("Episodes", Trajectory, Outcome)


class ResultFolder:
    """The folder of an evaluation, held by this process."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    @contextmanager
    def opened(cls, root: Path, question: Question) -> Iterator[ResultFolder]:
        """The folder `root`, made where it is missing, for as long as the context lasts.

        Where the environment or the agent's file has changed since, and no episode of before has a verdict, nothing of
        before is worth keeping: the folder begins anew.

        Raises:
            UsageError: it answers another question, holds other files, or another process writes to it.
        """
        _make(root)
        others = [entry for entry in root.iterdir() if not _passing(entry)] if root.is_dir() else []
        if root.is_file() or (others and not (root / QUESTION).is_file()):
            raise UsageError(f"{str(root)!r} is not empty and no evaluation's folder: choose another --out")
        with exclusive(root, "evaluation", "--out"):
            for part in root.rglob(".*.part"):
                part.unlink()  # Of a process that was killed as it wrote: ours alone writes now.
            before = read_model(root / QUESTION, Question) if (root / QUESTION).is_file() else None
            if before is not None and before.is_as_before_a_change(question) and not _judged(root):
                _empty(root)
            elif before is not None:
                _check_same(root, before, question)
            if before != question:
                write_atomically(root / QUESTION, question.model_dump_json(indent=2) + "\n")
            yield cls(root)

    def done(self, name: str) -> list[Outcome]:
        """The episodes of file `name` that have a verdict.

        What infrastructure failed is dropped from the file, to be played again.
        """
        path = self.root / name
        if not path.is_file():
            return []
        mend_tail(path)
        rows = [Outcome.of(one) for one in _trajectories(path)]
        kept = [one for one in rows if one.success is not None]
        if len(kept) < len(rows):
            write_lines(path, (one.model_dump_json() for one in _trajectories(path) if one.success is not None))
        return kept

    def trajectories(self, tasks: Sequence[TaskInstance], trials: int) -> tuple[Trajectory, ...]:
        """The agent's episodes, in the order of tasks and trials."""
        return tuple(in_order(_trajectories(self.root / TRAJECTORIES), tasks, trials))

    def episodes(self, name: str) -> Iterator[Trajectory]:
        """The episodes of file `name`, one by one."""
        path = self.root / name
        return _trajectories(path) if path.is_file() else iter(())

    def append(self, name: str, one: Trajectory) -> None:
        """Write an episode that has just ended."""
        path = self.root / name
        path.parent.mkdir(exist_ok=True)
        append_lines(path, [one.model_dump_json()])

    def keep_record(self, trajectory_id: str, record: Mapping[str, Any]) -> None:
        """Write what the benchmark keeps of an episode; the last one of an id counts."""
        append_lines(self.root / RECORDS, [json.dumps({"id": trajectory_id, "record": record})])

    def records(self) -> dict[str, Mapping[str, Any]]:
        """Trajectory id -> what the benchmark keeps of it."""
        path = self.root / RECORDS
        if not path.is_file():
            return {}
        mend_tail(path)
        return {str(row["id"]): row["record"] for _, row in read_lines(path)}

    def write(self, result: EvaluationResult, own: Mapping[str, str]) -> None:
        """Write the figures, and the benchmark's `own` result files."""
        for name, text in own.items():
            path = self.root / RESULTS / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, text)
        write_atomically(self.root / EVALUATION, result.model_dump_json(indent=2) + "\n")
        write_atomically(self.root / REPORT, render(_page(self.root, result)))


def read_result(root: Path) -> tuple[EvaluationResult, list[Trajectory]]:
    """A finished evaluation and the agent's episodes.

    Raises:
        UsageError: `root` holds no finished evaluation.
    """
    result, episodes = stream_result(root)
    return result, list(episodes)


def stream_result(root: Path) -> tuple[EvaluationResult, Iterator[Trajectory]]:
    """As `read_result`, with the episodes one by one, for results that are large.

    Raises:
        UsageError: `root` holds no finished evaluation.
    """
    if not (root / EVALUATION).is_file() or not (root / QUESTION).is_file():
        raise UsageError(f"{str(root)!r} holds no finished evaluation: give the --out of `trace-agents evaluate`")
    return read_model(root / EVALUATION, EvaluationResult), _trajectories(root / TRAJECTORIES)


def in_order(found: Iterable[Episodes], tasks: Sequence[TaskInstance], trials: int) -> list[Episodes]:
    """The trajectories, or outcomes, of `tasks` and `trials`, in their order; the last of a pair counts."""
    by_pair = {(one.task_id, one.trial): one for one in found}
    pairs = [(task.id, trial) for task in tasks for trial in range(trials)]
    return [by_pair[pair] for pair in pairs if pair in by_pair]


def _trajectories(path: Path) -> Iterator[Trajectory]:
    for number, row in read_lines(path):
        try:
            yield Trajectory.model_validate(row)
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(map(str, fault["loc"])) or "the whole line"
            raise UsageError(
                f"{str(path)!r} line {number} is no trajectory ({where}: {fault['msg']}): delete the line, and "
                "give the same command to play its episode again"
            ) from error


def _passing(entry: Path) -> bool:
    """The lock, or what a kill left of a file that was being written."""
    return entry.name == ".lock" or (entry.name.startswith(".") and entry.suffix == ".part")


def _make(root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        return  # A file, of which the caller says more.
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            raise  # The command line words these: a full disk, no permission.
        raise UsageError(f"folder {str(root)!r} cannot be made ({error.strerror}): choose another --out") from error


def _page(root: Path, result: EvaluationResult) -> EvaluationContents:
    asked = result.question.asked
    trials = f" × {asked.trials} trials" if asked.trials > 1 else ""
    split = f"{asked.split} · " if asked.split else ""
    found, package = trajectories_of(root, TRAJECTORIES)
    return EvaluationContents(
        environment=result.question.name,
        asked=f"{split}{len(asked.tasks)} tasks{trials} · seed {asked.seed}",
        score=result.score,
        beside=result.beside,
        notes=result.notes,
        provenance=result.question.provenance,
        found=found,
        package=package,
    )


def _judged(root: Path) -> bool:
    """An episode in the folder has a verdict, the agent's or one of those beside it."""
    files = [path for path in (root / TRAJECTORIES, *root.glob(f"{BESIDE}/*.jsonl")) if path.is_file()]
    for path in files:
        mend_tail(path)
    return any(one.success is not None for path in files for one in _trajectories(path))


def _empty(root: Path) -> None:
    """Remove all but the question: it goes last, so that a kill on the way leaves what can be emptied again."""
    for name in (EVALUATION, REPORT, RECORDS, TRAJECTORIES):
        (root / name).unlink(missing_ok=True)
    for name in (RESULTS, BESIDE):
        shutil.rmtree(root / name, ignore_errors=True)


def _check_same(root: Path, before: Question, now: Question) -> None:
    if before == now:
        return
    then, wanted = (one.asked.model_dump() | one.model_dump(exclude={"asked", "version"}) for one in (before, now))
    name = next(name for name in then if then[name] != wanted[name])
    if name == "provenance":
        parts = dict.fromkeys([*before.provenance, *now.provenance])
        changed = [part for part in parts if before.provenance.get(part) != now.provenance.get(part)]
        raise UsageError(
            f"{str(root)!r} holds results of the environment as it was before {', '.join(changed)} changed: choose "
            "another --out, or remove that folder"
        )
    shown = [repr(one[name]) if len(repr(one[name])) < 80 else "another" for one in (then, wanted)]
    raise UsageError(
        f"{str(root)!r} answers another question: its {name} is {shown[0]}, not {shown[1]}; choose another --out, or "
        "ask as before to go on with it"
    )
