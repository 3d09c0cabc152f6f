"""A small environment for the serving tests: a bank's ledger, with tools of every temper."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from trace_agents.environment import ResultsRequest
from trace_agents.errors import InfrastructureError, UsageError, unknown
from trace_agents.types import Evaluation, Message, TaskInstance, ToolResult, ToolSpec, UserTurn

_AMOUNT = {"type": "integer", "minimum": 1, "description": "Cents."}

TOOLS = (
    ToolSpec(
        name="balance",
        description="The balance of an account.",
        input_schema={"type": "object", "properties": {"account": {"type": "string"}}, "required": ["account"]},
        annotations={"readOnlyHint": True, "title": "Balance"},
        title="Balance of an account",
        icons=[{"src": "https://bank.test/balance.png", "mimeType": "image/png", "sizes": ["48x48"]}],
        meta={"bank.test/since": 1871, "bank.test/also": {"b": None, "a": []}},
    ),
    ToolSpec(
        name="transfer",
        description="Move money — négation ✓.",
        input_schema={
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "additionalProperties": False,
            "required": ["to", "from", "amount"],
            "type": "object",
            "title": "Transfer",
            "$defs": {"account": {"type": "string", "pattern": "^[a-z]+$"}},
            "properties": {
                "to": {"$ref": "#/$defs/account"},
                "from": {"$ref": "#/$defs/account"},
                "amount": _AMOUNT,
                "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None, "examples": ["rent", None]},
            },
            "x-own": {"b": [1, 2.5, None, {"z": True, "a": False}], "a": ""},
        },
    ),
    ToolSpec(
        name="audit",
        description="All balances.",
        output_schema={"type": "object", "additionalProperties": {"type": "integer"}},
    ),
    ToolSpec(name="misreport", description="Breaks its own output schema.", output_schema={"type": "object"}),
    ToolSpec(
        name="garble", description="Declares an output schema and returns text.", output_schema={"type": "object"}
    ),
    ToolSpec(name="outage", description="The back end is down."),
    ToolSpec(name="untyped", description="Returns something that is no result."),
)
PRIVATE_TOOL = "mint"
"""Implemented, and not offered in the episode."""


class LedgerEpisode:
    """One ledger; closing it twice, or a call in the middle of another, is an error here."""

    def __init__(self, task: TaskInstance) -> None:
        self.task = task
        self.tools: Sequence[ToolSpec] = TOOLS
        self.policy = "# Bank\nMove only what you are asked to move."
        self.accounts = dict(task.data["accounts"])
        self.closes = 0
        self.running = 0

    async def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        self.running += 1
        assert self.running == 1, "calls overlap"
        await asyncio.sleep(0)
        try:
            return getattr(self, f"_{name}")(**arguments)
        finally:
            self.running -= 1

    def _balance(self, account: str) -> ToolResult:
        if account not in self.accounts:
            return ToolResult(content=json.dumps({"error": f"no account {account}"}), is_error=True)
        return ToolResult(content=json.dumps({"balance": self.accounts[account]}))

    def _transfer(self, amount: int, to: str, note: str | None = None, **source: str) -> ToolResult:
        self.accounts[source["from"]] -= amount
        self.accounts[to] += amount
        return ToolResult(content=json.dumps({"moved": amount, "note": note}))

    def _audit(self) -> ToolResult:
        return ToolResult(content=json.dumps(self.accounts))

    def _misreport(self) -> ToolResult:
        return ToolResult(content="[]")

    def _garble(self) -> ToolResult:
        return ToolResult(content="all is well")

    def _outage(self) -> ToolResult:
        raise InfrastructureError("the bank's back end is down")

    def _untyped(self) -> str:
        return "done"

    def _mint(self) -> ToolResult:
        self.accounts["ann"] += 1_000_000
        return ToolResult(content="rich")

    async def user_turn(self, message: str) -> UserTurn:
        if message == "crash":
            raise ZeroDivisionError("the user is out of patience")
        return UserTurn(content=None if "done" in message else f"{message!r}? I want {self.task.data['amount']}.")

    async def evaluate(self, messages: Sequence[Message]) -> Evaluation:
        if any(message.content == "crash" for message in messages):
            raise KeyError("verdict")
        start = self.task.data["accounts"]
        moved = float(self.accounts["ann"] == start["ann"] - self.task.data["amount"])
        told = float(any(message.role == "assistant" and "done" in (message.content or "") for message in messages))
        return Evaluation(
            reward=(moved + told) / 2, success=moved == told == 1.0, breakdown={"moved": moved, "told": told}
        )

    async def close(self) -> None:
        self.closes += 1


class Ledger:
    """Three train tasks, one test task, and one task a seed; keeps its episodes for the tests to look at."""

    name = "ledger"
    splits: Mapping[str, int] = MappingProxyType({"train": 3, "test": 1})

    def __init__(self) -> None:
        self.episodes: list[LedgerEpisode] = []

    def tasks(self, split: str) -> Sequence[TaskInstance]:
        if split not in self.splits:
            raise unknown("split", split, list(self.splits))
        return [_task(f"{split}/{index}", index + len(split), split) for index in range(self.splits[split])]

    def task(self, task_id: str) -> TaskInstance:
        kind, _, number = task_id.partition("/")
        if kind == "seed":
            return self.generate(int(number))
        found = [task for split in self.splits for task in self.tasks(split) if task.id == task_id]
        if not found:
            raise UsageError(f"unknown task {task_id!r} of environment 'ledger': use for example 'train/0'")
        return found[0]

    def generate(self, seed: int) -> TaskInstance:
        if seed < 0:
            raise UsageError(f"seed {seed!r} is negative: use 0 or more")
        return _task(f"seed/{seed}", seed, None)

    async def start(self, task: TaskInstance) -> LedgerEpisode:
        if task.data["amount"] == 13:
            raise RuntimeError("thirteen")
        if task.data["amount"] == 14:
            raise SystemExit("fourteen")
        self.episodes.append(LedgerEpisode(task))
        return self.episodes[-1]


class RecordedEpisode(LedgerEpisode):
    """A ledger whose bank keeps more than the agent sees."""

    async def record(self, messages: Sequence[Message]) -> Mapping[str, Any]:
        if any(message.content == "lost" for message in messages):
            raise OSError("the books are lost")
        return {"accounts": dict(self.accounts), "spoken": [message.content for message in messages]}


class RecordedLedger(Ledger):
    """The ledger with a result format of its own, which knows no agent by the name of `nobody`."""

    async def start(self, task: TaskInstance) -> RecordedEpisode:
        return RecordedEpisode(task)

    def results(self, request: ResultsRequest) -> Mapping[str, str]:
        if request.agent == "nobody":
            raise UsageError("agent 'nobody' is in no book: name another")
        books = [{"id": one.id, "reward": one.reward, **request.records[one.id]} for one in request.trajectories]
        asked = request.model_dump_json(include={"agent", "sampling", "max_turns", "seed", "trials", "tasks"})
        return {"books.json": json.dumps(books, indent=1, ensure_ascii=False), "run/asked.json": asked}


def _task(task_id: str, seed: int, split: str | None) -> TaskInstance:
    rng = random.Random(seed)
    data = {"accounts": {"ann": rng.randrange(1000, 2000), "bob": rng.randrange(1000)}, "amount": rng.randrange(1, 500)}
    data = data | {"amount": seed, "note": None} if seed in (13, 14) else data
    prompt = f"Please move {data['amount']} from ann to bob."
    return TaskInstance(
        id=task_id, environment="ledger", split=split, seed=seed, prompt=prompt, capabilities=("moving",), data=data
    )
