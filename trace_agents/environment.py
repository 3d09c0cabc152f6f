"""The environment seam: one contract for target and synthetic environments alike.

An *environment* lists tools and tasks and starts *episodes*; an *episode* is one live task instance with
isolated state. The agent reaches an episode's tools over MCP only; everything else here is the control
plane, which the agent cannot call. Methods that may cross a process are coroutines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from pydantic import Field

from trace_agents.endpoint import Sampling
from trace_agents.types import (
    Action,
    Capability,
    Evaluation,
    Message,
    Record,
    TaskInstance,
    ToolResult,
    ToolSpec,
    Trajectory,
    UserTurn,
)


@runtime_checkable
class Episode(Protocol):
    """An environment playing one task instance, live. Single use."""

    task: TaskInstance
    """The task as it is played: its prompt holds what the user said first, where the environment's own leaves that
    open."""
    tools: Sequence[ToolSpec]
    """The tools the agent may call in this episode, exact MCP schemas."""
    policy: str
    """Instructions for the agent (the written policy); served as MCP server instructions and as a resource."""

    async def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        """Run a tool. Unknown tools and bad arguments are `is_error` results, never exceptions."""

    async def user_turn(self, message: str) -> UserTurn:
        """The simulated user's answer to the agent's text `message`."""

    async def evaluate(self, messages: Sequence[Message]) -> Evaluation:
        """Judge the episode by its state and the conversation `messages` (user, assistant, tool)."""

    async def close(self) -> None:
        """Free what the episode holds. Idempotent."""


@runtime_checkable
class Environment(Protocol):
    """A target or synthetic environment (the tuple of §3.1, or G, P, R, y of Definition 2)."""

    name: str

    @property
    def splits(self) -> Mapping[str, int]:
        """Number of fixed tasks of each split; empty for an environment that only generates. Splits may share tasks;
        a task's `split` is one that lists it."""

    def tasks(self, split: str) -> Sequence[TaskInstance]:
        """All tasks of a split, in a fixed order.

        Raises:
            UsageError: unknown split.
        """

    def task(self, task_id: str) -> TaskInstance:
        """The task with this id, fixed or generated.

        Raises:
            UsageError: unknown id.
        """

    def generate(self, seed: int) -> TaskInstance:
        """The task instance of `seed`, deterministically.

        Raises:
            UsageError: the environment has fixed tasks only.
        """

    async def start(self, task: TaskInstance) -> Episode:
        """A fresh, isolated episode of `task`.

        Raises:
            TaskUnavailable: it cannot be played here, for want of a key, say.
        """


@runtime_checkable
class HasOracle(Protocol):
    """An environment that knows how its tasks are solved."""

    def oracle(self, task: TaskInstance) -> Sequence[Action]:
        """Gold actions: tool calls in order, and texts said to the user. Playing them scores 1.

        Raises:
            UsageError: this task has none.
        """


@runtime_checkable
class SyntheticEnvironment(Environment, HasOracle, Protocol):
    """A capability-targeted environment (Definition 2)."""

    capability: Capability


@runtime_checkable
class AnswersUnknownTools(Protocol):
    """An episode whose benchmark has words of its own for a call of a tool that the agent is not offered."""

    async def unknown_tool(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        """The benchmark's `is_error` result; nothing happens."""


@runtime_checkable
class Prepares(Protocol):
    """An environment whose first episode waits for something that can be begun beforehand."""

    def prepare(self) -> None:
        """Begin it, without waiting.

        Raises:
            UsageError: it cannot be begun.
        """


@runtime_checkable
class ChecksFiles(Protocol):
    """An environment made of files whose mistakes it can find before any episode is played."""

    async def check(self) -> None:
        """Look for mistakes that every episode would meet.

        Raises:
            UsageError: one was found. InfrastructureError: it cannot be found out now.
        """


@runtime_checkable
class Advises(Protocol):
    """An environment whose author has other things to mend than its code: a description, a server."""

    def remedy(self, check: str) -> str:
        """What to change where the conformance check `check` fails; empty where the check's own words will do."""


@runtime_checkable
class HasProvenance(Protocol):
    """An environment that can say what it is made from, for the record of a result."""

    @property
    def provenance(self) -> Mapping[str, str]:
        """Part -> its revision or hash: code, data, tools, the simulated user."""


@runtime_checkable
class GroundTruth(Protocol):
    """What an environment made for measuring knows besides: whether a trajectory exercised what its task needs."""

    def exercised(self, task: TaskInstance, messages: Sequence[Message]) -> Mapping[str, bool]:
        """Needed capability -> exercised, for those whose decision the conversation reached. Only the evaluation
        of an analysis reads it; the analysis itself never does."""


@runtime_checkable
class PlaysFew(Protocol):
    """An environment that cannot play any number of episodes at once, because they share a server, say."""

    most_episodes: int | None
    """Episodes that may be live together; `start` waits for its turn. None where there is no such limit."""


@runtime_checkable
class Closes(Protocol):
    """An environment that keeps something from episode to episode, such as processes, which end with the event loop."""

    async def close(self) -> None:
        """Free what is kept on the running event loop, before that ends; more episodes may be started all the same."""


@runtime_checkable
class KeepsRecord(Protocol):
    """An episode whose benchmark keeps more of it than its agent saw, such as the user's own tool calls."""

    async def record(self, messages: Sequence[Message]) -> Mapping[str, Any]:
        """What the benchmark's own result format needs besides the trajectory, as JSON values; asked for after
        `evaluate`, before `close`."""


class ResultsRequest(Record):
    """An evaluation, for the benchmark's own format."""

    agent: str
    """The agent's name."""
    model: str
    """How the agent was asked for: a registered name, `provider:model`, or a URL."""
    sampling: Sampling
    max_turns: int
    """Most turns of the agent in an episode."""
    seed: int
    trials: int
    """Episodes of each task."""
    tasks: tuple[TaskInstance, ...]
    trajectories: tuple[Trajectory, ...]
    """All episodes in the order of tasks and trials, those without a verdict among them."""
    records: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    """Trajectory id -> what its episode kept (`KeepsRecord`); none of an episode without a verdict."""


@runtime_checkable
class WritesResults(Protocol):
    """An environment that writes results as its benchmark's own tools read them."""

    def results(self, request: ResultsRequest) -> Mapping[str, str]:
        """Relative path -> content of each file, below the evaluation's `results` folder."""


def at_once(environment: object, wanted: int) -> int:
    """Episodes of `environment` that may be live together, `wanted` at most."""
    return min(wanted, most_episodes(environment) or wanted)


def most_episodes(environment: object) -> int | None:
    """Episodes of `environment` that may be live together; None where there is no such limit."""
    return environment.most_episodes if isinstance(environment, PlaysFew) else None
