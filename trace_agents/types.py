"""The vocabulary: frozen data that every room shares, one word for one thing."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Record(BaseModel):
    """Base of the vocabulary: frozen, and strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _is_none(value: object) -> bool:
    return value is None


class ToolSpec(Record):
    """A tool as the target environment declares it; its schema is never rewritten."""

    name: str
    description: str = ""
    input_schema: dict[str, Any] = Field(default_factory=lambda: {"type": "object"})
    """JSON schema of the arguments, exactly as the environment states it."""
    output_schema: dict[str, Any] | None = None
    annotations: dict[str, Any] | None = None
    """MCP tool annotations (`readOnlyHint`, `destructiveHint`, ...); None where undeclared."""
    title: str | None = Field(default=None, exclude_if=_is_none)
    """The tool's name for people; no prompt has it."""
    icons: list[dict[str, Any]] | None = Field(default=None, exclude_if=_is_none)
    meta: dict[str, Any] | None = Field(default=None, exclude_if=_is_none)
    """What MCP carries as `_meta`. Like the two above it is left out of records where it is None."""

    def openai(self) -> dict[str, Any]:
        """The same tool in OpenAI's chat-completions form, in canonical key order."""
        schema = canonical(self.input_schema)
        function = {"name": self.name, "description": self.description, "parameters": schema}
        return {"type": "function", "function": function}


def canonical(value: Any) -> Any:
    """`value` with object keys sorted at every level.

    The one function through which tool schemas reach a prompt: transports may re-order keys, and prompts
    must be token-identical over all of them.
    """
    if isinstance(value, dict):
        return {key: canonical(value[key]) for key in sorted(value)}
    return [canonical(item) for item in value] if isinstance(value, list) else value


class ToolCall(Record):
    """One tool call by the agent."""

    id: str = ""
    name: str
    arguments: dict[str, Any] | str = Field(default_factory=dict)
    """Parsed arguments; the raw text where the model's JSON does not parse to an object."""

    def openai(self) -> dict[str, Any]:
        """OpenAI's form, arguments as JSON text."""
        text = self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments)
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": text}}


Action = ToolCall | str
"""What an agent does next: a tool call, or a text said to the simulated user."""


class ToolResult(Record):
    """What a tool call returned to the agent."""

    content: str
    """Text as the agent reads it, usually JSON."""
    is_error: bool = False
    """The call failed inside the environment; the agent reads `content` and may recover."""
    structured: Any = None
    """The same as a JSON value, where the tool declares an output schema; read from `content` where it is left out."""


Role = Literal["system", "user", "assistant", "tool"]


class Message(Record):
    """One message of a trajectory, in the shape of OpenAI's chat messages."""

    role: Role
    content: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    """For a tool message: the tool's name."""
    is_error: bool = False
    """For a tool message: the environment marked the result as an error."""

    def openai(self) -> dict[str, Any]:
        """The message as an OpenAI chat message."""
        out: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.tool_calls:
            out["tool_calls"] = [call.openai() for call in self.tool_calls]
        if self.role == "tool":
            out |= {"tool_call_id": self.tool_call_id or "", "name": self.name or ""}
        return out


class TaskInstance(Record):
    """One task of an environment: a point x of the paper's X (§3.1)."""

    id: str
    """Unique within the environment, stable over versions of the data."""
    environment: str
    split: str | None = None
    """None for a task generated from a seed."""
    seed: int | None = None
    """What the task was generated from; None for a task read from a file."""
    prompt: str
    """The simulated user's first message (o_1); empty where the user finds it as the episode starts, as a model does:
    the episode's own task then has it."""
    capabilities: tuple[str, ...] = ()
    """Capabilities the task's author says it needs. Ground truth for measuring; never shown to the agent,
    the analyst or the router."""
    data: dict[str, Any] = Field(default_factory=dict)
    """The environment's own payload (initial state, scenario, gold actions); private to the environment."""


class UserTurn(Record):
    """The simulated user's answer to an agent message."""

    content: str | None = None
    """The next user message; None when the conversation is over."""

    @property
    def done(self) -> bool:
        """The user has ended the conversation."""
        return self.content is None


class Evaluation(Record):
    """The verdict on one trajectory (R and y of §3.1)."""

    reward: float
    """In [0, 1]."""
    success: bool
    breakdown: dict[str, float] = Field(default_factory=dict)
    """Named parts of the reward, each in [0, 1]."""


class StopReason(StrEnum):
    """Why an episode ended."""

    USER = "user"  # The simulated user ended the conversation.
    AGENT = "agent"  # The agent stopped without handing the turn to the user.
    MAX_TURNS = "max_turns"  # The agent used up its turns.
    MAX_TOKENS = "max_tokens"  # One generation, or the whole context, reached its limit.
    ERROR = "error"  # Infrastructure failed; see `Trajectory.error`.


class Trajectory(Record):
    """The record of one episode: (x, tau, r, y) of §3.1, without tokens.

    Training keeps tokens in verifiers' `Trace`; this is the light form that analysis and reports read.
    """

    id: str
    task_id: str
    trial: int = 0
    environment: str = ""
    agent: str = ""
    """Model or adapter name that acted."""
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    """Tools the agent was offered; empty where the source does not say."""
    reward: float | None = None
    success: bool | None = None
    """None where infrastructure failed: such a trajectory carries no label."""
    stop: StopReason | None = None
    error: str | None = None
    """Infrastructure failure, one line; None for a clean episode."""
    info: dict[str, Any] = Field(default_factory=dict)


class Label(StrEnum):
    """Label of a trajectory for a capability (§3.3)."""

    NA = "NA"  # The capability is not necessary for the task.
    PRESENT = "PRESENT"  # Necessary and exercised.
    LACKING = "LACKING"  # Necessary and not exercised.


class Capability(Record):
    """An entry of the capability dictionary (Definition 1)."""

    name: str
    """Slug, lower case with hyphens; names the adapter and the folder too."""
    title: str = ""
    description: str
    """Plain language, two or three sentences, general over tasks."""
    statement: dict[str, Any] | None = None
    """The checkable statement behind it, as data, where a statistical analyst found it."""
