"""What an evaluation asks, and what it answers: the files `question.json` and `evaluation.json` of its folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from trace_agents.artifacts import Artifact
from trace_agents.endpoint import Sampling
from trace_agents.environment import Environment, HasProvenance
from trace_agents.errors import UsageError
from trace_agents.files import digest_file
from trace_agents.scores import Score
from trace_agents.types import Record, TaskInstance

FLOORS = ("oracle", "do-nothing", "decline")
"""Registered agents that stand beside every result: the ceiling first, then the floors."""
RANDOM = "random"
"""The floor that is played on request."""
GENERATED = range(500, 600)
"""Seeds of the tasks that are played where an environment only generates: neither training nor validation nor routing
draws from below 1,000 (`synth_envs.manifest.SeedRanges`), and certification begins at 0."""


class Asked(Record):
    """An evaluation as it is asked for."""

    environment: str
    """Registered name, URL or import path."""
    agent: str
    """Registered name, URL or import path."""
    split: str = ""
    """Whose tasks are played; empty takes the only one, or `test`; those of `GENERATED` where there is none."""
    tasks: tuple[str, ...] = ()
    """Ids of the tasks to play; empty takes the whole split."""
    trials: int = Field(default=1, ge=1)
    """Episodes of each task."""
    temperature: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """0 is greedy."""
    max_tokens: int = Field(default=4096, ge=1)
    """Most tokens of one turn."""
    context: int = Field(default=32_768, ge=1)
    """Most tokens of one conversation."""
    max_turns: int = Field(default=50, ge=1)
    """Most turns of the agent in an episode."""
    seed: int = 0
    """Makes sampling and draws reproducible, as far as the agent's model allows."""

    @property
    def sampling(self) -> Sampling:
        """How models sample."""
        return Sampling(temperature=self.temperature, max_tokens=self.max_tokens)


class Question(Artifact):
    """`question.json`: all that decides a result. A folder answers one question only."""

    asked: Asked
    """With the split and the task ids that were found."""
    name: str
    """The environment's own name."""
    provenance: dict[str, str] = Field(default_factory=dict)
    """What the environment is made from; empty where it does not say."""
    agent_file: str = ""
    """SHA-256 of the Python file that the agent was loaded from; empty for other agents."""

    def is_as_before_a_change(self, now: Question) -> bool:
        """`now` asks the same, and the environment or the agent's file has changed since."""
        return self != now and (self.asked, self.name) == (now.asked, now.name)


class EvaluationResult(Artifact):
    """`evaluation.json`: the figures, and what they are figures of."""

    question: Question
    score: Score
    """The agent's."""
    beside: tuple[Score, ...] = ()
    """The ceiling and the floors on the same tasks, one trial each."""
    package: str = ""
    """Version of trace-agents that made the file."""
    notes: tuple[str, ...] = ()
    """What a reader must know to read the figures."""


def pose(asked: Asked, environment: Environment) -> tuple[Question, list[TaskInstance]]:
    """The question, and the tasks to play.

    Raises:
        UsageError: unknown split or task, no tasks, two of one id, or text that cannot be written.
    """
    split = ""
    if asked.tasks:
        tasks = [environment.task(task_id) for task_id in dict.fromkeys(asked.tasks)]
    elif asked.split or environment.splits:
        split = asked.split or _only_split(environment)
        tasks = list(environment.tasks(split))
    else:
        tasks = [environment.generate(seed) for seed in GENERATED]
    if not tasks:
        raise UsageError(f"split {split!r} of environment {environment.name!r} has no tasks: choose another --split")
    _check(environment, asked, tasks)
    full = asked.model_copy(update={"split": split, "tasks": tuple(task.id for task in tasks)})
    known = dict(environment.provenance) if isinstance(environment, HasProvenance) else {}
    file = asked.agent.rpartition(":")[0]
    found = digest_file(Path(file)) if file.endswith(".py") else ""
    return Question(asked=full, name=environment.name, provenance=known, agent_file=found), tasks


def _only_split(environment: Environment) -> str:
    splits = list(environment.splits)
    if len(splits) == 1 or "test" in splits:
        return "test" if "test" in splits else splits[0]
    names = ", ".join(map(repr, splits))
    raise UsageError(f"environment {environment.name!r} has several splits and none named 'test': give --split {names}")


def _check(environment: Environment, asked: Asked, tasks: Sequence[TaskInstance]) -> None:
    for text in (asked.environment, asked.agent, *(text for task in tasks for text in (task.id, task.prompt))):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UsageError(
                f"{text[:80]!r} is no valid text ({error.reason}) and cannot be written: mend it"
            ) from error
    repeated = [task_id for task_id, times in Counter(task.id for task in tasks).items() if times > 1]
    if repeated:
        raise UsageError(
            f"task id {repeated[0]!r} of environment {environment.name!r} is used more than once: its episodes could "
            "not be told apart; mend it, or name tasks with --tasks"
        )
