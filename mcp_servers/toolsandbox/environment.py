"""ToolSandbox as one environment: its scenarios are the task instances, played by upstream's code in its own Python."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from mcp_servers.benchmark.process import Program, Session, Worker
from mcp_servers.benchmark.users import UserKind, check
from mcp_servers.toolsandbox.facts import FactBook
from mcp_servers.toolsandbox.provenance import check_code, check_tools
from mcp_servers.toolsandbox.results import upstream_results
from mcp_servers.toolsandbox.settings import FACTS_VARIABLE, KEY_VARIABLE, Settings, read_settings
from mcp_servers.toolsandbox.splits import split_of, splits_of
from mcp_servers.toolsandbox.users import ModelUser, Nobody, ScriptedUser, User
from trace_agents.environment import ResultsRequest
from trace_agents.errors import TaskUnavailable, UsageError
from trace_agents.task_list import TaskList
from trace_agents.types import Action, Evaluation, Message, TaskInstance, ToolCall, ToolResult, ToolSpec, UserTurn

WORKER = Path(__file__).with_name("worker")
"""What the benchmark's Python loads."""
GO_ON = "Please go on."
"""What a scripted user without lines says where milestones want the agent to say more than one thing."""
OVER = "the conversation is over: it has ended, or has all the messages that it may have; nothing was done"
"""The result of a call that comes too late. Upstream stops asking the agent there."""


class ToolSandboxEpisode:
    """One scenario, in a process of its own."""

    def __init__(self, environment: ToolSandbox, task: TaskInstance, session: Session) -> None:
        self.task = task
        self.tools: Sequence[ToolSpec] = ()
        self.policy = environment.policy(task)
        self._environment, self._session = environment, session
        self._heard = 0
        self._user = self._make_user()

    def _make_user(self) -> User:
        settings = self._environment.settings
        if settings.user.kind is UserKind.NONE:
            return Nobody()
        if settings.user.kind is UserKind.SCRIPTED:
            go_on = (GO_ON,) * (self.task.data["texts"] - 1)
            return ScriptedUser(settings.lines.get(self.task.id, go_on), self._session)
        return ModelUser(settings.user, self._session)

    async def open(self) -> None:
        """Begin the scenario."""
        book, key = self._environment.facts, self._environment.settings.key
        tools = await self._session.ask("start", name=self.task.id, facts=book.known, key=key)
        self.tools = tuple(
            ToolSpec(name=tool["name"], description=tool["description"], input_schema=tool["parameters"])
            for tool in tools
        )

    async def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        """Run one of the agent's tools; what is wrong with a call is said in upstream's words."""
        answer = await self._session.ask("call", name=name, arguments=dict(arguments))
        self._environment.facts.learn(answer["learned"])
        content = OVER if answer["content"] is None else answer["content"]
        return ToolResult(content=content, is_error=answer["error"])

    async def unknown_tool(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        """Upstream's refusal; the user's tool is unknown to the agent too."""
        return await self.call(name, arguments)

    async def user_turn(self, message: str) -> UserTurn:
        """The user's answer; the conversation is over when they end it, or it has all its messages."""
        self._heard += 1
        if await self._session.ask("say", text=message):
            return UserTurn()
        return await self._user.hear()

    async def evaluate(self, messages: Sequence[Message]) -> Evaluation:
        """Upstream's verdict: the similarity to the milestones, nothing where a minefield was stepped on."""
        judged = await self._session.ask("evaluate", unheard=self._unheard(messages))
        parts = {part: float(judged[f"{part}_similarity"]) for part in ("milestone", "minefield")}
        return Evaluation(reward=judged["similarity"], success=judged["similarity"] == 1.0, breakdown=parts)

    async def record(self, messages: Sequence[Message]) -> Mapping[str, Any]:
        """What upstream's own runner writes about a scenario: `result`, `conversation` and `context`."""
        recorded: dict[str, Any] = await self._session.ask("record", unheard=self._unheard(messages))
        return {**recorded, "result": {"name": self.task.id, **recorded["result"]}}

    async def state(self) -> Mapping[str, str]:
        """Database -> its hash, as it is now."""
        found: dict[str, str] = await self._session.ask("state")
        return found

    async def close(self) -> None:
        """End the episode's process. Idempotent."""
        await self._session.close()

    def _unheard(self, messages: Sequence[Message]) -> str | None:
        """The agent's last text, where it was not handed to the user; only the host knows it."""
        texts = [message.content for message in messages if message.role == "assistant" and not message.tool_calls]
        last = messages[-1] if messages else None
        if last is None or last.role != "assistant" or last.tool_calls or len(texts) <= self._heard:
            return None
        return texts[-1]


class ToolSandbox(TaskList):
    """The environment `toolsandbox`. Nothing is read or started before it is needed."""

    name = "toolsandbox"

    def __init__(self, settings: Settings | None = None) -> None:
        """The environment.

        Args:
            settings: how it is played; by default, what is installed and what this process's variables say.
        """
        self._given = settings
        self._lock = threading.Lock()
        self._described: Mapping[str, Any] | None = None
        self._solved: dict[str, Sequence[Action]] = {}

    @cached_property
    def settings(self) -> Settings:
        """How it is played."""
        return self._given or read_settings()

    @cached_property
    def facts(self) -> FactBook:
        """What is known of RapidAPI."""
        return FactBook(self.settings.facts, self.settings.facts_file)

    def prepare(self) -> None:
        """Let the worker load while its host still imports what it serves with."""
        self._worker.start()

    async def start(self, task: TaskInstance) -> ToolSandboxEpisode:
        """A fresh episode.

        Raises:
            TaskUnavailable: the scenario needs RapidAPI, and nobody answers for it.
            UsageError: no scenario of this environment, or the installation is not upstream's.
            InfrastructureError: upstream failed.
        """
        if task.environment != self.name:
            raise UsageError(f"task {task.id!r} is of environment {task.environment!r}, not of {self.name!r}")
        check(self.settings.user)
        if self._described is None:  # Loading takes a second: not on the event loop's thread.
            await asyncio.to_thread(self._describe)
        self.task(task.id)
        self._check_available(task)
        session = await self._worker.session()
        try:
            episode = ToolSandboxEpisode(self, task, session)
            await episode.open()
        except BaseException:
            await session.close()
            raise
        return episode

    def oracle(self, task: TaskInstance) -> Sequence[Action]:
        """Calls and texts that reach every milestone, read off the milestones by upstream's measures.

        Raises:
            UsageError: they do not reach them, or the scenario needs RapidAPI and nobody answers for it.
        """
        self._check_available(task)
        if task.id not in self._solved:
            given = {"name": task.id, "facts": self.facts.known, "key": self.settings.key}
            solved = self._worker.ask("solve", **given)
            self.facts.learn(solved["learned"])
            if solved["similarity"] != 1.0:
                reached = f"what its milestones say reaches a similarity of {solved['similarity']:.3f}"
                raise UsageError(
                    f"task {task.id!r} has no gold actions ({reached}): leave it out, or choose another agent"
                )
            self._solved[task.id] = [_action(action) for action in solved["actions"]]
        return self._solved[task.id]

    def results(self, request: ResultsRequest) -> Mapping[str, str]:
        """The folder that upstream's own runner leaves."""
        return upstream_results(request, self.provenance["revision"])

    def policy(self, task: TaskInstance) -> str:
        """What upstream's agents are told before the conversation."""
        return str(task.data["policy"])

    @property
    def provenance(self) -> Mapping[str, str]:
        """What a result was played on: upstream's revision, hashes of its code and tools, the clock and libraries."""
        self._describe()
        return self._provenance

    def digests(self) -> Mapping[str, str]:
        """Scenario -> SHA-256 of its beginning and of what its milestones want."""
        return {entry["name"]: entry["digest"] for entry in self._describe()["scenarios"]}

    def _check_available(self, task: TaskInstance) -> None:
        if task.data["needs_rapid_api"] and self.facts.known is None:
            remedy = f"set {KEY_VARIABLE}, or name a file of its answers with {FACTS_VARIABLE}"
            raise TaskUnavailable(f"task {task.id!r} needs RapidAPI, and there is no key: {remedy}")

    def _describe(self) -> Mapping[str, Any]:
        """What the worker has loaded; checked once, before anything is played."""
        with self._lock:
            if self._described is None:
                described = self._worker.ask("describe")
                self._provenance = self._checked(described)
                self._described = described
            return self._described

    def _checked(self, described: Mapping[str, Any]) -> Mapping[str, str]:
        settings, user = self.settings, self.settings.user
        return {
            "benchmark": "toolsandbox",
            "revision": check_code(described["code"], settings.accept),
            "code": described["code"],
            "tools": check_tools(described["tools"], settings.accept),
            "clock": settings.now,
            "rapid api": _answers(settings),
            "libraries": ", ".join(f"{name} {version}" for name, version in described["libraries"].items()),
            "python": described["python"],
            "user": user.kind.value if user.kind is not UserKind.MODEL else f"model {user.model}",
        }

    @cached_property
    def _worker(self) -> Worker:
        arguments, variables = (str(self.settings.kept), self.settings.now), {"TZ": "UTC", "POLARS_MAX_THREADS": "1"}
        python, seconds = self.settings.python, self.settings.seconds
        return Worker(Program("toolsandbox", python, WORKER, arguments, variables, seconds))

    @cached_property
    def instances(self) -> Mapping[str, TaskInstance]:
        """The scenarios by their names, in upstream's order."""
        return {
            entry["name"]: TaskInstance(
                id=entry["name"],
                environment=self.name,
                split=split_of(entry["categories"]),
                prompt=entry["prompt"],
                data={
                    "policy": entry["policy"],
                    "categories": entry["categories"],
                    "base": entry["base"],
                    "needs_rapid_api": entry["online"],
                    "texts": entry["texts"],
                },
            )
            for entry in self._describe()["scenarios"]
        }

    @cached_property
    def split_ids(self) -> Mapping[str, Sequence[str]]:
        """`base`, the scenarios without distraction tools; `offline`, those that need no RapidAPI; `all`; and one for
        each of upstream's categories."""
        return splits_of(list(self.instances.values()))


def _action(action: Mapping[str, Any]) -> Action:
    return action["say"] if "say" in action else ToolCall(name=action["name"], arguments=action["arguments"])


def _answers(settings: Settings) -> str:
    """Who answers for RapidAPI."""
    if settings.facts is None:
        return "none"
    file = f"{len(settings.facts)} facts" if settings.facts_file else ""
    return " and ".join(part for part in (file, "a key" if settings.key else "") if part) or "no facts"
