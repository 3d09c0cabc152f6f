"""Playing (task, trial) pairs: some at a time, each in a fresh episode, again where infrastructure failed."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
import traceback
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcp_servers.guard import GuardedEpisode, broke, failing
from trace_agents.agent import Agent, Play, PlaySettings
from trace_agents.environment import Environment, Episode, KeepsRecord, at_once
from trace_agents.errors import InfrastructureError, TaskUnavailable, UsageError
from trace_agents.scores import NOT_RUN
from trace_agents.types import Evaluation, Message, StopReason, TaskInstance, Trajectory

Pair = tuple[TaskInstance, int]
"""A task and the number of a trial."""


@dataclass(frozen=True)
class Pace:
    """How episodes are played."""

    concurrency: int = 8
    """Episodes at a time."""
    timeout_s: float | None = 1800.0
    """Seconds for one attempt at an episode; more is a failure of infrastructure. None waits."""
    retries: int = 2
    """Attempts after one that infrastructure failed."""
    max_turns: int = 50
    """Most turns of the agent in an episode."""
    seed: int = 0
    """What the episodes' seeds are made from."""


@dataclass(frozen=True)
class Ended:
    """An episode that has ended."""

    trajectory: Trajectory
    record: Mapping[str, Any] | None = None
    """What the benchmark keeps of it besides."""


async def play_all(
    agent: Agent, environment: Environment, pairs: Sequence[Pair], pace: Pace, on_end: Callable[[Ended], None]
) -> None:
    """Play every pair; `on_end` is told of each episode, in the order of their ends.

    An episode that infrastructure failed in every attempt is told of too, without a verdict, and so is one whose task
    cannot be played here.

    Raises:
        UsageError: bad input, or the agent raised: the episodes under way are given up.
    """
    rest = iter(pairs)

    async def work() -> None:
        for pair in rest:
            on_end(await _persist(agent, environment, pair, pace))

    failure: Exception | None = None
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once(environment, pace.concurrency)):  # Waiting for one's turn would count as playing.
                group.create_task(work())
    except* Exception as failures:
        failure = failures.exceptions[0]
    if failure is not None:
        raise failure


async def _persist(agent: Agent, environment: Environment, pair: Pair, pace: Pace) -> Ended:
    begun, reasons = time.monotonic(), []
    for _ in range(pace.retries + 1):
        try:
            async with asyncio.timeout(pace.timeout_s) as limit:
                ended = await _attempt(agent, environment, pair, pace)
        except TaskUnavailable as error:
            ended = Ended(_unjudged(agent, environment, pair, str(error), NOT_RUN))
            break
        except InfrastructureError as error:
            reasons.append(str(error))
        except TimeoutError as error:
            own = f"{agent.name}: {_described(error)}"  # Its model's, say.
            reasons.append(f"the episode took over {pace.timeout_s:g} s" if limit.expired() else own)
        else:
            break
    else:
        ended = Ended(_unjudged(agent, environment, pair, reasons[-1]))
    facts = {"failed_attempts": len(reasons), "seconds": round(time.monotonic() - begun, 3)}
    info = ended.trajectory.info | facts
    return Ended(ended.trajectory.model_copy(update={"info": info}), ended.record)


async def _attempt(agent: Agent, environment: Environment, pair: Pair, pace: Pace) -> Ended:
    task, trial = pair
    async with _live(environment, task) as episode:
        play = await _played(agent, episode, PlaySettings(max_turns=pace.max_turns, seed=_seed(pace.seed, task, trial)))
        verdict = await _verdict(episode, play)
        record = await episode.record(play.messages) if isinstance(episode, KeepsRecord) else None
    return Ended(_trajectory(agent, environment, pair, episode, play, verdict), record)


@contextlib.asynccontextmanager
async def _live(environment: Environment, task: TaskInstance) -> AsyncIterator[GuardedEpisode]:
    """An episode, guarded; closed at the end, whatever happens."""
    with failing(f"starting task {task.id!r}"):
        live = await environment.start(task)
    closing: Episode = live
    try:
        closing = episode = GuardedEpisode.of(live)
        yield episode
    except BaseException:
        with contextlib.suppress(Exception, SystemExit):  # What went wrong before is what is told.
            await closing.close()
        raise
    with failing(f"closing the episode of task {task.id!r}"):
        await closing.close()


async def _verdict(episode: GuardedEpisode, play: Play) -> Evaluation:
    what = f"evaluating task {episode.task.id!r}"
    try:
        verdict = await episode.evaluate(play.messages)
    except UsageError as error:  # The evaluator's: what it refuses is lost, and nothing else.
        raise InfrastructureError(f"{what} failed: {error}") from error
    for name, value in (("reward", verdict.reward), *verdict.breakdown.items()):
        if not 0.0 <= value <= 1.0:
            raise InfrastructureError(f"{what} gave {name} {value!r}: rewards and their parts are in [0, 1]")
    return verdict


async def _played(agent: Agent, episode: GuardedEpisode, settings: PlaySettings) -> Play:
    """What the agent did.

    Raises:
        UsageError: the agent raised, or gave something else than a play: nothing that it does can be measured.
    """
    try:
        play = await agent.play(episode, settings)
    except (UsageError, InfrastructureError, TimeoutError):
        raise
    except ExceptionGroup as group:
        away, others = group.split((InfrastructureError, TimeoutError))
        if others is not None or away is None:
            raise _raised(agent, episode, group) from group
        raise InfrastructureError(f"{agent.name}: {_described(_first(away))}") from group
    except BaseException as error:
        if not broke(error):  # The time-out, or Ctrl-C.
            raise
        raise _raised(agent, episode, error) from error
    if episode.closed:
        raise UsageError(f"agent {agent.name!r} closed the episode of task {episode.task.id!r}: leave that to its host")
    if not isinstance(play, Play):
        raise UsageError(f"agent {agent.name!r} returned a {type(play).__name__}: return a trace_agents.agent.Play")
    _check_play(agent, episode, play)
    return play


def _raised(agent: Agent, episode: Episode, error: BaseException) -> UsageError:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return UsageError(
        f"agent {agent.name!r} raised on task {episode.task.id!r}: {_described(error)} ({frame.filename}, line "
        f"{frame.lineno}); mend it, and give the same command: what was played is kept"
    )


def _first(group: BaseExceptionGroup[Exception]) -> Exception:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def _check_play(agent: Agent, episode: Episode, play: Play) -> None:
    """Refuse what could not be written, or would be counted as something else.

    Raises:
        UsageError: it is no JSON, or it uses a word of the evaluation in another sense.
    """
    where = f"agent {agent.name!r} on task {episode.task.id!r} returned"
    try:
        Play.model_validate_json(play.model_dump_json(warnings="error"))
    except ValueError as error:
        raise UsageError(
            f"{where} a play that is no JSON ({' '.join(str(error).split())}): give JSON values and valid text"
        ) from error
    if play.stop is StopReason.ERROR:
        raise UsageError(
            f"{where} stop 'error', which is no verdict's: raise InfrastructureError where a model is away"
        )
    if NOT_RUN in play.info:
        raise UsageError(f"{where} info with {NOT_RUN!r}, which marks tasks that were not played: rename it")
    tokens = play.info.get("tokens", {})
    counts = list(tokens.values()) if isinstance(tokens, Mapping) else [None]
    if not all(isinstance(count, int) and count >= 0 for count in counts):
        raise UsageError(f"{where} info with tokens {tokens!r}: give whole numbers 'read' and 'written'")


def _trajectory(
    agent: Agent, environment: Environment, pair: Pair, episode: Episode, play: Play, verdict: Evaluation
) -> Trajectory:
    task, trial = pair
    return Trajectory(
        id=_id(environment, pair),
        task_id=task.id,
        trial=trial,
        environment=environment.name,
        agent=agent.name,
        messages=play.messages,
        tools=tuple(episode.tools),
        reward=verdict.reward,
        success=verdict.success,
        stop=play.stop,
        info=dict(play.info) | {"breakdown": dict(verdict.breakdown), "split": task.split},
    )


def _unjudged(agent: Agent, environment: Environment, pair: Pair, reason: str, *marks: str) -> Trajectory:
    task, trial = pair
    return Trajectory(
        id=_id(environment, pair),
        task_id=task.id,
        trial=trial,
        environment=environment.name,
        agent=agent.name,
        messages=(Message(role="user", content=task.prompt),),
        stop=StopReason.ERROR,
        error=" ".join(reason.split()),
        info=dict.fromkeys(marks, True),
    )


def _id(environment: Environment, pair: Pair) -> str:
    return f"{environment.name}/{pair[0].id}/{pair[1]}"


def _seed(seed: int, task: TaskInstance, trial: int) -> int:
    """A seed of the episode's own, of 31 bits: some servers take no larger ones."""
    key = f"{seed}/{task.environment}/{task.id}/{trial}"
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest()) >> 1


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
