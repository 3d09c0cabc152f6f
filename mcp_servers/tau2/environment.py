"""τ²-bench as environments: one for each domain, played by upstream's code in its own Python."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from mcp_servers.benchmark.process import Program, Session, Worker
from mcp_servers.benchmark.provenance import tools_hash
from mcp_servers.benchmark.users import UserKind, check, complete
from mcp_servers.tau2 import results
from mcp_servers.tau2.provenance import Data, check_data, check_tools, code_release
from mcp_servers.tau2.settings import JUDGE_VARIABLE, Settings, read_settings
from mcp_servers.tau2.tasks import can_fail, gold, has_gold, needs_judge
from mcp_servers.tau2.trajectory import Item, called, merged, said
from mcp_servers.tau2.users import ModelUser, ScriptedUser, StatedTask, User, scenario
from trace_agents.environment import ResultsRequest
from trace_agents.errors import InfrastructureError, TaskUnavailable, UsageError
from trace_agents.task_list import TaskList
from trace_agents.types import Evaluation, Message, TaskInstance, ToolCall, ToolResult, ToolSpec, UserTurn

BASE = "base"
"""The split of all tasks that upstream reports on."""
HALVES = ("train", "test")
"""Upstream's splits of `base`."""
WORKER = Path(__file__).with_name("worker")
"""What the benchmark's Python loads."""


class Tau2Episode:
    """One customer, in a process of their own."""

    def __init__(self, environment: Tau2Environment, task: TaskInstance, session: Session) -> None:
        self.task = task
        self.tools: Sequence[ToolSpec] = environment.tools
        self.policy = environment.policy
        self._environment, self._session = environment, session
        self._record: list[Item] = [said("assistant", environment.greeting)]
        self._user = self._make_user()
        self._ended = False
        self._begun = time.time()
        self._kept: dict[str, Any] = {}

    def _make_user(self) -> User:
        choice, raw = self._environment.settings.user, self.task.data["task"]
        if choice.kind is UserKind.NONE:
            return StatedTask(raw)
        if choice.kind is UserKind.SCRIPTED:
            return ScriptedUser(raw, self._session, self._record)
        return ModelUser(choice, self._session, self._record, self._environment.greeting)

    async def open(self) -> None:
        """Set the task's initial state, and let the user say their first message."""
        await self._session.ask("start", task=self.task.data["task"])
        self.task = self.task.model_copy(update={"prompt": await self._user.open()})

    async def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        """Run one of the agent's tools; what is wrong with a call is said in upstream's words."""
        number = f"call_{len(self._record)}"
        answer = await self._session.ask("call", id=number, name=name, arguments=dict(arguments), requestor="assistant")
        self._record += [called("assistant", number, name, arguments), answer]
        return ToolResult(content=answer["content"] or "", is_error=answer["error"])

    async def unknown_tool(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        """Upstream's refusal; the user's tools are unknown to the agent too."""
        return await self.call(name, arguments)

    async def user_turn(self, message: str) -> UserTurn:
        """The user's answer; the conversation is over when they stop."""
        self._record.append(said("assistant", message))
        turn = await self._user.hear(message)
        self._ended = turn.done
        return turn

    async def evaluate(self, messages: Sequence[Message]) -> Evaluation:
        """Upstream's verdict. A conversation that nobody ended scores 0, as upstream's does at its limit of steps."""
        items = merged(self._record, messages)
        cut = bool(messages) and messages[-1].role == "tool"
        stated = self._environment.settings.user.kind is UserKind.NONE
        ending = "user_stop" if self._ended else "agent_stop" if stated and not cut else "max_steps"
        verdict = await self._environment.verdict(self.task, items, ending)
        self._kept = results.kept(items, ending, verdict, (self._begun, time.time()))
        return _evaluation(verdict)

    async def record(self, messages: Sequence[Message]) -> Mapping[str, Any]:
        """The simulation in upstream's own terms, the user's tool calls included (`trace_agents.environment`)."""
        return self._kept

    async def state(self) -> tuple[str | None, str | None]:
        """Upstream's hashes of the agent's and the user's database."""
        agents, users = await self._session.ask("hash")
        return agents, users

    async def close(self) -> None:
        """End the episode's process. Idempotent."""
        await self._session.close()


class Tau2Environment(TaskList):
    """One domain of τ²-bench. Nothing is read or started before it is needed."""

    def __init__(self, domain: str, settings: Settings | None = None) -> None:
        """The environment `tau2/<domain>`.

        Args:
            domain: `airline`, `retail`, `telecom` or `mock`.
            settings: how it is played; by default, what is installed and what this process's variables say.
        """
        self.name = f"tau2/{domain}"
        self._domain, self._given = domain, settings
        self._lock = threading.Lock()
        self._described: Mapping[str, Any] | None = None

    @cached_property
    def settings(self) -> Settings:
        """How it is played."""
        return self._given or read_settings()

    def prepare(self) -> None:
        """Let the worker load while its host still imports what it serves with."""
        self._worker.start()

    async def start(self, task: TaskInstance) -> Tau2Episode:
        """A fresh episode.

        Raises:
            UsageError: not a task of this domain, or the installation is not upstream's.
            TaskUnavailable: a model judges the task, and none is named.
            InfrastructureError: upstream or the user's model failed.
        """
        if task.environment != self.name:
            raise UsageError(f"task {task.id!r} is of environment {task.environment!r}, not of {self.name!r}")
        check(self.settings.user)
        if needs_judge(task.data["task"]) and self.settings.judge is None:
            raise TaskUnavailable(
                f"task {task.id!r} of environment {self.name!r} is judged by a model, and there is none: set "
                f"{JUDGE_VARIABLE}_URL and {JUDGE_VARIABLE}_MODEL"
            )
        await self._loaded()
        session = await self._worker.session()
        try:
            episode = Tau2Episode(self, task, session)
            await episode.open()
        except BaseException:
            await session.close()
            raise
        return episode

    async def judge(self, task: TaskInstance, items: Sequence[Item], ending: str) -> Evaluation:
        """Upstream's verdict, in the vocabulary; arguments and errors as of `verdict`."""
        return _evaluation(await self.verdict(task, items, ending))

    async def verdict(self, task: TaskInstance, items: Sequence[Item], ending: str) -> Mapping[str, Any]:
        """Upstream's `RewardInfo` of a trajectory of `task` that ended in `ending`, one of its termination reasons.

        Raises:
            InfrastructureError: an evaluator raised, or the judging model failed.
        """
        await self._loaded()
        session, judge = await self._worker.session(), self.settings.judge
        given = {"task": task.data["task"], "messages": list(items), "ending": ending}
        try:
            verdict = await session.ask("evaluate", **given)
            if verdict["wanted"] is not None:
                if judge is None:
                    raise InfrastructureError(f"task {task.id!r} is judged by a model, and there is none")
                completion = await complete(judge, verdict["wanted"], "judge")
                verdict = await session.ask("evaluate", **given, completion=completion)
        finally:
            await session.close()
        return dict(verdict)

    def results(self, request: ResultsRequest) -> Mapping[str, str]:
        """An evaluation as upstream's own file (`trace_agents.environment.WritesResults`)."""
        return results.results(request, self._domain, self.policy, self.settings.user, self.provenance)

    def oracle(self, task: TaskInstance) -> Sequence[ToolCall | str]:
        """The gold actions, and a last text with what is to be told. They score 1 with the scripted user.

        Raises:
            UsageError: what the task's user must do is in its scenario only.
        """
        if not has_gold(self._domain, task.id):
            raise UsageError(
                f"task {task.id!r} of environment {self.name!r} has no gold actions of its user: choose another"
            )
        return list(gold(task.data["task"]))

    @property
    def provenance(self) -> Mapping[str, str]:
        """What a result was played on: upstream's release, and SHA-256 of its code, data and tools."""
        self._describe()
        return self._provenance

    @cached_property
    def tools(self) -> tuple[ToolSpec, ...]:
        """The agent's tools, exactly as upstream states them."""
        return tuple(
            ToolSpec(name=tool["name"], description=tool["description"], input_schema=tool["parameters"])
            for tool in self._describe()["tools"]
        )

    @property
    def policy(self) -> str:
        """The agent's policy."""
        return str(self._describe()["policy"])

    @property
    def greeting(self) -> str:
        """What upstream's agent says first, to the user only."""
        return str(self._describe()["greeting"])

    async def _loaded(self) -> None:
        """Wait for the worker, on a thread of its own as loading takes a second, and only once."""
        if self._described is None:
            await asyncio.to_thread(self._describe)

    def _describe(self) -> Mapping[str, Any]:
        """What the worker has loaded; checked once, before anything is played."""
        with self._lock:
            if self._described is None:
                described = self._worker.ask("describe")
                self._provenance = self._checked(described)
                self._described = described
            return self._described

    def _checked(self, described: Mapping[str, Any]) -> Mapping[str, str]:
        accept, user, name, judge = self.settings.accept, self.settings.user, self.settings.release, self.settings.judge
        judged = {"judge": f"model {judge.model}"} if judge else {}
        return judged | {
            "benchmark": "tau2",
            "revision": code_release(described["code"], accept, name),
            "code": described["code"],
            **self._data.hashes,
            "agent tools": check_tools(tools_hash(described["tools"]), self._domain, "agent", accept, name),
            "user tools": check_tools(tools_hash(described["user_tools"]), self._domain, "user", accept, name),
            "pydantic": described["pydantic"],
            "python": described["python"],
            "user": user.kind.value if user.kind is not UserKind.MODEL else f"model {user.model}",
        }

    @cached_property
    def _worker(self) -> Worker:
        variables = {"TAU2_DATA_DIR": str(self._data.folder), "LOGURU_LEVEL": "ERROR"}
        arguments, seconds = (self._domain,), self.settings.seconds
        return Worker(Program("tau2", self.settings.python, WORKER, arguments, variables, seconds))

    @cached_property
    def _data(self) -> Data:
        """Checked first of all: nothing is loaded from data that is missing or altered."""
        return check_data(self.settings.data, self._domain, self.settings.accept, self.settings.release)

    @property
    def _folder(self) -> Path:
        return self._data.folder / "tau2" / "domains" / self._domain

    @cached_property
    def instances(self) -> Mapping[str, TaskInstance]:
        """The tasks by upstream's ids, in upstream's order."""
        halves_last = sorted(self.split_ids, key=lambda split: (split in HALVES, split == BASE))
        split_of = {task_id: split for split in halves_last for task_id in self.split_ids[split]}
        return {
            raw["id"]: TaskInstance(
                id=raw["id"],
                environment=self.name,
                split=split_of.get(raw["id"]),
                prompt="" if self.settings.user.kind is UserKind.MODEL else scenario(raw),
                data={"task": raw},
            )
            for raw in self._raw
        }

    @cached_property
    def split_ids(self) -> Mapping[str, Sequence[str]]:
        """`base`, all tasks, and the splits that upstream's data states, from v1.0.0 on; in the order of its file.

        A task that cannot fail is in none: it is there by its id only.
        """
        path = self._folder / "split_tasks.json"
        stated: dict[str, list[str]] = json.loads(path.read_text()) if path.is_file() else {}
        order = [raw["id"] for raw in self._raw if can_fail(self._domain, raw["id"])]
        sets = {split: set(ids) for split, ids in stated.items()}
        named = {split: [each for each in order if each in wanted] for split, wanted in sets.items()}
        return named if BASE in named else {**named, BASE: order}

    @cached_property
    def _raw(self) -> Sequence[Mapping[str, Any]]:
        """Upstream's tasks, without those that begin in the middle of a conversation: an agent could not be told it."""
        tasks = json.loads((self._folder / "tasks.json").read_text(encoding="utf-8"))
        return [task for task in tasks if not (task.get("initial_state") or {}).get("message_history")]


def _evaluation(verdict: Mapping[str, Any]) -> Evaluation:
    parts = {name.lower(): float(value) for name, value in (verdict["reward_breakdown"] or {}).items()}
    return Evaluation(reward=verdict["reward"], success=verdict["reward"] == 1.0, breakdown=parts)
