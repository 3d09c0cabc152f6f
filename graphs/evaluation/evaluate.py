"""An evaluation from beginning to end: the agent, its ceiling and floors, the figures, the benchmark's own format."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from graphs.evaluation.folder import BESIDE, TRAJECTORIES, ResultFolder, in_order
from graphs.evaluation.playing import Ended, Pace, play_all
from graphs.evaluation.question import GENERATED, Asked, EvaluationResult, Question, pose
from mcp_servers.agents.loop import gold_error
from mcp_servers.guard import failing
from trace_agents import __version__
from trace_agents.agent import Agent, AgentRequest, load_agent
from trace_agents.environment import Environment, HasOracle, ResultsRequest, WritesResults
from trace_agents.errors import InfrastructureError, UsageError
from trace_agents.progress import Progress, SilentProgress, Stage
from trace_agents.registry import load_environment
from trace_agents.scores import Outcome, Score, score
from trace_agents.types import TaskInstance

ORACLE = "oracle"


@dataclass(frozen=True)
class Beside:
    """What stands beside the agent."""

    names: tuple[str, ...] = ()
    """Registered agents, one trial each; the oracle is passed over where the environment has no gold actions."""


def evaluate(
    asked: Asked, out: Path, pace: Pace, beside: Beside | None = None, progress: Progress | None = None
) -> EvaluationResult:
    """Play what is asked, or what is left of it, in the folder `out`; nothing that has a verdict is played again.

    Raises:
        UsageError: bad input, the agent raised, or `out` answers another question. What was played is kept.
    """
    environment = load_environment(asked.environment)
    question, tasks = pose(asked, environment)
    agent = _agent(asked.agent, question, environment)
    pace = replace(pace, max_turns=asked.max_turns, seed=asked.seed)
    with ResultFolder.opened(out, question) as folder:
        run = _Run(environment, question, tasks, folder, pace, progress or SilentProgress())
        played = run.play(agent, TRAJECTORIES, asked.trials, tasks)
        others = tuple(_beside(run, agent, name) for name in _names(run, beside or Beside()))
        own, lacking = _own_format(run, agent)
        notes = (*_notes(run, played, others), *_gold_errors(run, others), *lacking)
        result = EvaluationResult(
            question=question, score=score(agent.name, played), beside=others, package=__version__, notes=notes
        )
        folder.write(result, own)
    return result


def _agent(spec: str, question: Question, environment: Environment) -> Agent:
    asked = question.asked
    return load_agent(AgentRequest(spec, environment, asked.sampling, asked.context))


@dataclass(frozen=True)
class _Run:
    environment: Environment
    question: Question
    tasks: Sequence[TaskInstance]
    folder: ResultFolder
    pace: Pace
    progress: Progress

    @property
    def traced(self) -> bool:
        """The environment says what it is made from: one that has changed is another one."""
        return bool(self.question.provenance)

    def play(self, agent: Agent, file: str, trials: int, tasks: Sequence[TaskInstance]) -> list[Outcome]:
        """How all episodes of `agent` on `tasks` ended, those of an earlier run among them; in order."""
        found = in_order(self.folder.done(file), tasks, trials)
        had = {(one.task_id, one.trial) for one in found}
        left = [(task, trial) for trial in range(trials) for task in tasks if (task.id, trial) not in had]
        if not left:
            return found
        with self.progress.stage(agent.name, len(had) + len(left)) as stage:
            stage.advance(len(had))
            asyncio.run(play_all(agent, self.environment, left, self.pace, self._listener(file, found, stage)))
        return in_order(found, tasks, trials)

    def _listener(self, file: str, found: list[Outcome], stage: Stage) -> Callable[[Ended], None]:
        """Writes each episode as it ends; keeps no more of it than its outcome, in `found`."""
        passed, failed = sum(bool(one.success) for one in found), 0

        def on_end(ended: Ended) -> None:
            nonlocal passed, failed
            one = ended.trajectory
            if file == TRAJECTORIES and ended.record is not None:
                self.folder.keep_record(one.id, ended.record)
            self.folder.append(file, one)
            outcome = Outcome.of(one)
            found.append(outcome)
            passed += bool(outcome.success)
            failed += _failed(outcome)
            words = f"{passed} of {len(found)} passed"
            stage.note(words + (f", {failed} failures of infrastructure" if failed else ""))
            stage.advance()

        return on_end


def _failed(one: Outcome) -> bool:
    return one.success is None and not one.not_run


def _names(run: _Run, beside: Beside) -> list[str]:
    known = isinstance(run.environment, HasOracle)
    return [name for name in beside.names if name != run.question.asked.agent and (known or name != ORACLE)]


def _beside(run: _Run, agent: Agent, name: str) -> Score:
    other = _agent(name, run.question, run.environment)
    tasks = [task for task in run.tasks if name != ORACLE or _solvable(run.environment, task)]
    return score(other.name, run.play(other, f"{BESIDE}/{name}.jsonl", 1, tasks))


def _solvable(environment: Environment, task: TaskInstance) -> bool:
    assert isinstance(environment, HasOracle), "the oracle is passed over elsewhere"
    try:
        with failing(f"finding the gold actions of task {task.id!r}"):
            environment.oracle(task)
    except UsageError:
        return False
    return True


def _notes(run: _Run, played: Sequence[Outcome], others: Sequence[Score]) -> tuple[str, ...]:
    notes = []
    absent = [one for one in played if one.not_run]
    if absent:
        tasks = len({one.task_id for one in absent})
        notes.append(f"{tasks} of {len(run.tasks)} tasks were not run: {absent[-1].error}")
    failed = [one for one in played if _failed(one)]
    if failed:
        notes.append(
            f"{len(failed)} of {len(played)} episodes failed for reasons that are not the agent's, the last: "
            f"{failed[-1].error}; the same command plays them again{_elsewhere(run, played, others)}"
        )
    if not run.environment.splits and {task.seed for task in run.tasks} == set(GENERATED):
        notes.append(f"the tasks are those of seeds {GENERATED[0]} to {GENERATED[-1]}; --tasks names others")
    if not isinstance(run.environment, HasOracle):
        notes.append("no ceiling: the environment does not know how its tasks are solved")
    return tuple(notes)


def _elsewhere(run: _Run, played: Sequence[Outcome], others: Sequence[Score]) -> str:
    """Where the folder holds verdicts that an environment that is mended would not have given."""
    judged = any(one.success is not None for one in played) or any(score.episodes for score in others)
    return "; where the environment itself is to be mended, choose another --out" if judged and run.traced else ""


def _gold_errors(run: _Run, others: Sequence[Score]) -> tuple[str, ...]:
    """Of the tasks that the oracle failed: those where a gold action was answered with an error."""
    if run.question.asked.agent == ORACLE:
        file = TRAJECTORIES
    elif any(score.agent == ORACLE for score in others):
        file = f"{BESIDE}/{ORACLE}.jsonl"
    else:
        return ()
    failed = (one for one in run.folder.episodes(file) if one.success is False)
    told = {one.task_id: error for one in failed if (error := gold_error(one.messages))}
    if not told:
        return ()
    task_id, error = next(iter(told.items()))
    return (f"the oracle failed {len(told)} of {len(run.tasks)} tasks with errors, first {task_id!r}: {error}",)


def _inside(files: Mapping[str, str]) -> Mapping[str, str]:
    """`files`, none of which is above its folder or elsewhere: a served environment names them.

    Raises:
        InfrastructureError: one is.
    """
    for name in files:
        path = PurePath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise InfrastructureError(f"the environment named the file {name!r}, which is not below its results")
    return files


def _own_format(run: _Run, agent: Agent) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """The benchmark's own result files, by relative path; and a note where they cannot be written."""
    if not isinstance(run.environment, WritesResults):
        return {}, ()
    asked = run.question.asked
    request = ResultsRequest(
        agent=agent.name,
        model=asked.agent,
        sampling=asked.sampling,
        max_turns=asked.max_turns,
        seed=asked.seed,
        trials=asked.trials,
        tasks=tuple(run.tasks),
        trajectories=run.folder.trajectories(run.tasks, asked.trials),
        records=run.folder.records(),
    )
    try:
        with failing("writing them"):
            return _inside(run.environment.results(request)), ()
    except (UsageError, InfrastructureError) as error:
        return {}, (f"there are no results in the benchmark's own format: {error}",)
