"""What an existing MCP server needs to become a benchmark: `benchmark.toml`, and its task file."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, StrictBool, model_validator

from trace_agents.types import Record, ToolCall


class Call(Record):
    """A tool call, by the benchmark itself or as a gold action."""

    name: str
    arguments: dict[str, Any] = Field(default_factory=dict)

    def action(self) -> ToolCall:
        """The call as an agent's action."""
        return ToolCall(name=self.name, arguments=self.arguments)


class Read(Record):
    """Something of the server's state that is read before judging: a tool's result, or a resource."""

    name: str | None = None
    """The tool that is called."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    resource: str | None = None
    """URI of the resource that is read instead."""

    @model_validator(mode="after")
    def _either(self) -> Self:
        if (self.name is None) == (self.resource is None):
            raise ValueError("give either 'name', a tool's, or 'resource', a URI")
        return self


class ServerSection(Record):
    """How the MCP server is reached: a process of its own for each episode, or one that runs already."""

    command: tuple[str, ...] = ()
    """Program and arguments of a server that speaks over standard input and output; `{python}`, `{here}`, `{folder}`
    and `{task}` stand for this Python, the description's folder, the episode's own folder and the task's id."""
    cwd: str = "{here}"
    """Folder in which the command runs."""
    env: dict[str, str] = Field(default_factory=dict)
    """Environment variables that the process gets besides those that MCP's client passes on (`PATH`, `HOME` and the
    like, so that no key reaches an agent by chance); `${NAME}` is this process's variable of that name."""
    url: str = ""
    """Streamable-HTTP endpoint of a server that runs already, instead of a command."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Headers of each request; `${NAME}` is the environment variable of that name."""
    timeout_s: float = Field(default=60.0, gt=0)
    """Longest that connecting, or one call, may take."""

    @model_validator(mode="after")
    def _either(self) -> Self:
        if bool(self.command) == bool(self.url):
            raise ValueError("give either 'command', which starts the server, or 'url', where it runs")
        for name, given in (("env", self.env), ("cwd", self.cwd != "{here}")):
            if self.url and given:
                raise ValueError(f"{name!r} is for a server that 'command' starts")
        if self.command and self.headers:
            raise ValueError("'headers' are for a server at a 'url'")
        return self


class ToolsSection(Record):
    """Which of the server's tools agents are offered; all of them by default."""

    offer: tuple[str, ...] = ()
    """These only."""
    hide: tuple[str, ...] = ()
    """All but these."""

    @model_validator(mode="after")
    def _either(self) -> Self:
        if self.offer and self.hide:
            raise ValueError("give 'offer' or 'hide', not both")
        return self

    def offers(self, name: str) -> bool:
        """Agents are offered the tool, where the server has it."""
        return name in self.offer if self.offer else name not in self.hide


class ResetSection(Record):
    """How an episode gets the state it begins with. What is given is done in this order."""

    snapshot: str = ""
    """Folder whose content is copied into the episode's own folder."""
    command: tuple[str, ...] = ()
    """Program that is run before the server is connected; it reads the task, as JSON, from standard input."""
    calls: tuple[Call, ...] = ()
    """Tool calls once it is connected; agents do not see them."""
    keep: StrictBool = False
    """Keep the process of an ended episode for the next one: its folder is emptied, and all of the above is done again.
    Faster, for a server that can be reset so."""
    folder_as: str = "/episode-folder"
    """What agents, task file and checker read and write for the path of the episode's own folder, which differs from
    episode to episode; empty leaves the path as it is."""
    at_once: int | None = Field(default=None, ge=1)
    """Episodes that may be live together; by default 16, or 1 where they share a server."""
    by_connection: StrictBool = False
    """The server at a `url` keeps a state of its own for each connection."""
    timeout_s: float = Field(default=60.0, gt=0)
    """Longest that the command may take."""


class CheckSection(Record):
    """Who judges a finished episode."""

    reads: tuple[Read, ...] = ()
    """What is read of the server's state. With neither `function` nor `command`, success is that it equals what is read
    after the task's gold actions."""
    ignore: tuple[str, ...] = ()
    """Keys left out of that comparison, at any depth: times, random ids."""
    function: str = ""
    """`check.py:check` or `module:check`: a Python function of a `Finished` episode."""
    command: tuple[str, ...] = ()
    """A program that reads the finished episode, as JSON, from standard input, and prints its verdict as JSON."""
    timeout_s: float = Field(default=60.0, gt=0)
    """Longest that the command may take."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.function and self.command:
            raise ValueError("give 'function' or 'command', not both")
        if not (self.function or self.command or self.reads):
            raise ValueError("give 'function', 'command', or 'reads' to compare with the state after the gold actions")
        return self

    @property
    def compares(self) -> bool:
        """Success is the state that the gold actions lead to."""
        return not self.function and not self.command


class TaskRow(Record):
    """A line of the task file."""

    id: str = Field(min_length=1)
    split: str = "test"
    prompt: str = Field(min_length=1)
    """The user's first message."""
    replies: tuple[str, ...] = ()
    """What the user answers, one by one; then the conversation is over."""
    user: str = ""
    """Who the user is and what he wants, for a model that speaks for him; `replies` are then for tests."""
    setup: tuple[Call, ...] = ()
    """Tool calls that make the task's state, after the benchmark's own; agents do not see them."""
    snapshot: str = ""
    """Folder copied besides the benchmark's own."""
    gold: tuple[Call | str, ...] | None = None
    """How the task is solved: tool calls in order, and texts said to the user; left out where nobody knows."""
    capabilities: tuple[str, ...] = ()
    """Capabilities that the task needs; ground truth that nobody is shown."""
    data: dict[str, Any] = Field(default_factory=dict)
    """Whatever the checker needs."""


class Description(Record):
    """A benchmark made of an existing MCP server."""

    name: str = Field(min_length=1)
    tasks: str = "tasks.jsonl"
    """The task file, in the description's folder."""
    policy: str = ""
    """File with the agent's instructions; the server's own by default."""
    server: ServerSection
    tools: ToolsSection = ToolsSection()
    reset: ResetSection = ResetSection()
    check: CheckSection

    @model_validator(mode="after")
    def _is_reset(self) -> Self:
        if self.server.url and not (self.reset.command or self.reset.calls or self.reset.by_connection):
            raise ValueError(
                "a server at a 'url' keeps its state between episodes: give [reset] a 'command' or 'calls' that reset "
                "it, or by_connection = true where each connection has a state of its own"
            )
        return self

    @model_validator(mode="after")
    def _is_kept(self) -> Self:
        server, reset = self.server, self.reset
        resets = self.by_folder or reset.snapshot or reset.command or reset.calls
        if reset.keep and (server.url or not resets):
            remedy = "name its {folder} in [server], or give snapshot, command or calls"
            raise ValueError(f"[reset] keep is for a server that 'command' starts and that can be reset: {remedy}")
        if reset.keep and self.by_task:
            raise ValueError("[server] names {task}, which changes while [reset] keep keeps the process: use {folder}")
        if server.url and "folder_as" in reset.model_fields_set:
            raise ValueError("[reset] folder_as is for a server that 'command' starts")
        return self

    @property
    def by_task(self) -> bool:
        """The server is started with the task's id, so its tools may differ from task to task."""
        return self._started_with("{task}")

    @property
    def by_folder(self) -> bool:
        """The server is started with the episode's own folder, so emptying that resets it."""
        return self._started_with("{folder}")

    def _started_with(self, placeholder: str) -> bool:
        server = self.server
        return any(placeholder in text for text in (*server.command, *server.env.values(), server.cwd))

    @property
    def shared(self) -> bool:
        """Episodes share one server."""
        return bool(self.server.url) and not self.reset.by_connection

    @property
    def folder_as(self) -> str:
        """The name of the episode's own folder; empty where the server does not know it."""
        return "" if self.server.url else self.reset.folder_as

    @property
    def at_once(self) -> int:
        """Most episodes that may be live together."""
        return self.reset.at_once or (1 if self.shared else 16)
