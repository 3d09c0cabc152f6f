"""The control plane's vocabulary: what its requests and answers hold, over HTTP and as MCP vendor methods alike."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from trace_agents.errors import UsageError
from trace_agents.refusals import wanted
from trace_agents.types import Action, Message, Record, TaskInstance, ToolSpec


class ProblemCode(StrEnum):
    """Why the control plane refused; each has one HTTP status (see `mcp_servers.http`)."""

    BAD_JSON = "bad_json"  # The body is not JSON.
    INVALID = "invalid"  # The body or a query value does not fit its schema.
    UNSUPPORTED_MEDIA = "unsupported_media"  # The body is not declared as application/json.
    TOO_LARGE = "too_large"  # The body exceeds the server's limit.
    UNAUTHORIZED = "unauthorized"  # The control token is missing or wrong.
    FORBIDDEN_ORIGIN = "forbidden_origin"  # A browser page of another origin asked.
    WRONG_HOST = "wrong_host"  # The Host header names another host (DNS rebinding).
    UNKNOWN_PATH = "unknown_path"  # Nothing is served at the path.
    BAD_METHOD = "bad_method"  # The path exists, with other HTTP methods.
    UNKNOWN_SPLIT = "unknown_split"  # The environment has no such split.
    UNKNOWN_TASK = "unknown_task"  # The environment has no such task, index or seed.
    UNKNOWN_EPISODE = "unknown_episode"  # No episode ever had this id.
    EPISODE_GONE = "episode_gone"  # The episode was deleted or has expired.
    TASK_UNAVAILABLE = "task_unavailable"  # The task cannot be played here, for want of a key, say.
    FULL = "full"  # The server holds as many live episodes as it may.
    ENVIRONMENT_FAILED = "environment_failed"  # The environment raised; not the caller's fault.


class Problem(Record):
    """The body of every error answer."""

    code: ProblemCode
    error: str
    """One line: the thing, its value and the remedy."""


class ControlError(UsageError):
    """A refusal of the control plane, with its code."""

    def __init__(self, code: ProblemCode, message: str) -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[type[ControlError], tuple[ProblemCode, str]]:
        return type(self), (self.code, str(self))  # So that it arrives from a training process.

    @property
    def problem(self) -> Problem:
        """The refusal as it travels."""
        return Problem(code=self.code, error=str(self))


class TaskChoice(Record):
    """Which task instance to play: by id, by seed, or by split and index; exactly one of the three."""

    task_id: str | None = None
    """A fixed task's id, or a generated one's."""
    seed: int | None = None
    """Generate the task instance of this seed."""
    split: str | None = None
    """A split, together with `index`."""
    index: int | None = Field(default=None, ge=0)
    """Position in the split, from 0."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.split is None) != (self.index is None):
            raise ValueError("give 'split' and 'index' together")
        if sum(value is not None for value in (self.task_id, self.seed, self.split)) != 1:
            raise ValueError("give exactly one of 'task_id', 'seed', or 'split' with 'index'")
        return self


class EnvironmentInfo(Record):
    """What is served."""

    name: str
    splits: dict[str, int]
    """Number of fixed tasks of each split."""
    provenance: dict[str, str] = Field(default_factory=dict)
    """What the environment is made from, part by part; empty where it does not say."""
    oracle: bool = False
    """It knows how its tasks are solved: `oracle` tells a task's gold actions."""
    results: bool = False
    """It writes results as its benchmark's own tools read them: `results` does."""
    most_episodes: int | None = None
    """Episodes that may be live together: creating one more waits; None where there is no such limit."""


class TaskPage(Record):
    """A slice of a split, in the split's order."""

    split: str
    total: int
    """Tasks in the whole split."""
    offset: int
    """Position of the first task listed."""
    tasks: tuple[TaskInstance, ...]


class PageChoice(Record):
    """Which slice of a split to list."""

    split: str
    offset: int = Field(default=0, ge=0)
    """Position of the first task."""
    limit: int = Field(default=100, ge=1, le=1000)
    """Most tasks listed."""


class EpisodeInfo(Record):
    """A live episode."""

    id: str
    """Names the episode in every later call; unguessable."""
    task: TaskInstance
    tools: tuple[ToolSpec, ...]
    """The agent's tools, exactly as the environment states them."""
    policy: str
    """The agent's instructions."""
    mcp_path: str | None = None
    """Path of the episode's own MCP endpoint; None where the control plane is not HTTP."""
    idle_timeout_s: float | None
    """Seconds without a call after which the episode expires; None where it lives as long as the server."""
    words_unknown_tools: bool = False
    """A call of an unknown tool is answered in the benchmark's own words."""
    keeps_record: bool = False
    """The benchmark keeps more of the episode than its trajectory: `record` tells it."""


class GoldActions(Record):
    """How a task is solved."""

    actions: tuple[Action, ...]
    """Tool calls in order, and texts said to the user."""


class UserMessage(Record):
    """What the agent said to the simulated user."""

    message: str


class Conversation(Record):
    """The trajectory to be judged."""

    messages: tuple[Message, ...]
    """User, assistant and tool messages in order."""


class EpisodeRecord(Record):
    """What the benchmark keeps of an episode besides its trajectory."""

    record: dict[str, Any]
    """In the terms of its own result format."""


class ResultFiles(Record):
    """An evaluation in the benchmark's own format."""

    files: dict[str, str]
    """Relative path -> content."""


class Health(Record):
    """The server answers."""

    status: str = "ok"
    environment: str
    episodes: int
    """Live episodes."""


def refusal(error: ValidationError) -> ControlError:
    """The refusal of a body that does not fit its schema; names the field, its value and what was expected."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "body"
    value = f", not {first['input']!r:.80}" if first["loc"] and first["type"] != "missing" else ""
    more = error.error_count() - 1
    others = f" (and {more} more)" if more else ""
    return ControlError(ProblemCode.INVALID, f"{place}: {wanted(first)}{value}{others}")
