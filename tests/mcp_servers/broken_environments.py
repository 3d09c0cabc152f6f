"""A small sound environment, and others that each break one promise of the contract."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from trace_agents.errors import InfrastructureError, TaskUnavailable, UsageError, unknown
from trace_agents.types import Action, Evaluation, Message, TaskInstance, ToolCall, ToolResult, ToolSpec, UserTurn

ADD = ToolSpec(
    name="add",
    description="Put a number on the pile.",
    input_schema={
        "type": "object",
        "properties": {"number": {"type": "integer"}, "note": {"type": "string"}},
        "required": ["number"],
        "additionalProperties": False,
    },
)
TOTAL = ToolSpec(name="total", description="The sum of the pile.")


class PileEpisode:
    """A pile of numbers."""

    policy = "Add what you are asked to add."

    def __init__(self, task: TaskInstance) -> None:
        self.task = task
        self.tools: Sequence[ToolSpec] = (ADD, TOTAL)
        self.pile: list[int] = []

    async def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        if name == "total":
            return ToolResult(content=json.dumps(sum(self.pile)))
        if name != "add":
            return ToolResult(content=f"there is no tool {name!r}", is_error=True)
        if type(arguments.get("number")) is not int or not set(arguments) <= {"number", "note"}:
            return ToolResult(content="number must be an integer, and note a text", is_error=True)
        self.pile.append(arguments["number"])
        return ToolResult(content=json.dumps(self.pile))

    async def user_turn(self, message: str) -> UserTurn:
        return UserTurn()

    async def evaluate(self, messages: Sequence[Message]) -> Evaluation:
        right = float(sum(self.pile) == self.task.data["wanted"])
        return Evaluation(reward=right, success=right == 1.0)

    async def close(self) -> None: ...


class Pile:
    """Sound."""

    name = "pile"
    splits: Mapping[str, int] = MappingProxyType({"test": 3})
    episode: type[PileEpisode] = PileEpisode

    def tasks(self, split: str) -> Sequence[TaskInstance]:
        if split not in self.splits:
            raise unknown("split", split, list(self.splits))
        return [self.made(f"test-{number}", number, "test") for number in range(self.splits[split])]

    def task(self, task_id: str) -> TaskInstance:
        kind, _, number = task_id.partition("-")
        if kind not in ("test", "seed") or not number.isdigit():
            raise UsageError(f"unknown task {task_id!r}: use for example 'test-0'")
        return self.generate(int(number)) if kind == "seed" else self.tasks("test")[int(number)]

    def generate(self, seed: int) -> TaskInstance:
        return self.made(f"seed-{seed}", seed, None)

    def made(self, task_id: str, number: int, split: str | None) -> TaskInstance:
        wanted = random.Random(number).randrange(1, 1_000)
        seed = number if split is None else None
        prompt = f"Please add {wanted}."
        return TaskInstance(
            id=task_id, environment="pile", split=split, seed=seed, prompt=prompt, data={"wanted": wanted}
        )

    def oracle(self, task: TaskInstance) -> Sequence[Action]:
        return [ToolCall(name="add", arguments={"number": task.data["wanted"]}), "Done."]

    async def start(self, task: TaskInstance) -> PileEpisode:
        return self.episode(task)


class OneSeatEpisode(PileEpisode):
    """Frees the seat as it closes."""

    def __init__(self, task: TaskInstance, leave: Callable[[], None]) -> None:
        super().__init__(task)
        self.leave: Callable[[], None] | None = leave

    async def close(self) -> None:
        leave, self.leave = self.leave, None
        if leave is not None:
            leave()


class OneSeat(Pile):
    """Sound: one episode at a time, as those of a shared server; who starts another one waits."""

    most_episodes = 1

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[None]] = []
        self.taken = False
        self.most_waiting = 0

    async def start(self, task: TaskInstance) -> PileEpisode:
        if self.taken:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.waiting.append(turn)
            self.most_waiting = max(self.most_waiting, len(self.waiting))
            await turn
        self.taken = True
        return OneSeatEpisode(task, self.leave)

    def leave(self) -> None:
        self.taken = bool(self.waiting)
        if self.waiting:
            self.waiting.pop(0).set_result(None)


class Noisy(Pile):
    """Sound, and talks."""

    async def start(self, task: TaskInstance) -> PileEpisode:
        print(f"starting {task.id}")
        return await super().start(task)


class Unmade(Pile):
    def __init__(self) -> None:
        raise SystemExit(3)


class Exits(Pile):
    def tasks(self, split: str) -> Sequence[TaskInstance]:
        raise SystemExit(3)


class NeverStarts(Pile):
    async def start(self, task: TaskInstance) -> PileEpisode:
        await asyncio.get_running_loop().create_future()
        return await super().start(task)


class Keyed(Pile):
    """Sound: splits that share tasks, some of which need a key."""

    splits: Mapping[str, int] = MappingProxyType({"all": 9, "test": 3})

    def tasks(self, split: str) -> Sequence[TaskInstance]:
        if split not in self.splits:
            raise unknown("split", split, list(self.splits))
        return [
            self.made(f"test-{number}", number, "test" if number < 3 else "all") for number in range(self.splits[split])
        ]

    def task(self, task_id: str) -> TaskInstance:
        number = task_id.removeprefix("test-")
        return self.tasks("all")[int(number)] if number in "345678" else super().task(task_id)

    async def start(self, task: TaskInstance) -> PileEpisode:
        if task.id in ("test-0", "test-3", "test-4", "seed-0"):
            raise TaskUnavailable(f"task {task.id!r} needs a key: set PILE_KEY")
        return await super().start(task)


class KeylessPile(Keyed):
    """Nothing of it can be played."""

    async def start(self, task: TaskInstance) -> PileEpisode:
        raise TaskUnavailable(f"task {task.id!r} needs a key: set PILE_KEY")


class Homeless(Pile):
    """`tasks`: a task that says a split which does not list it."""

    splits: Mapping[str, int] = MappingProxyType({"test": 3, "other": 0})

    def made(self, task_id: str, number: int, split: str | None) -> TaskInstance:
        return super().made(task_id, number, split and ("other" if number == 2 else split))


class TwoOfOneName(Pile):
    """`tasks`: two splits list different tasks under one id."""

    splits: Mapping[str, int] = MappingProxyType({"test": 3, "other": 3})

    def tasks(self, split: str) -> Sequence[TaskInstance]:
        return [task.model_copy(update={"split": split}) for task in super().tasks(split)]


class RepeatedIds(Pile):
    """`tasks`: two tasks share an id."""

    def tasks(self, split: str) -> Sequence[TaskInstance]:
        listed = super().tasks(split)
        return [*listed[:2], listed[0]]


class TupleData(Pile):
    """`tasks-as-json`: data that JSON changes."""

    def made(self, task_id: str, number: int, split: str | None) -> TaskInstance:
        task = super().made(task_id, number, split)
        return task.model_copy(update={"data": {**task.data, "pair": (1, 2)}})


class AnyId(Pile):
    """`refusals`: an unknown id is a KeyError."""

    def task(self, task_id: str) -> TaskInstance:
        try:
            return super().task(task_id)
        except UsageError:
            raise KeyError(task_id) from None


class DriftingSeeds(Pile):
    """`generation`: high seeds share an id."""

    def generate(self, seed: int) -> TaskInstance:
        return super().generate(seed).model_copy(update={"id": f"seed-{min(seed, 5)}"})


class Mute(Pile):
    """`episode`: the user's answer is no `UserTurn` where the agent greets."""

    class episode(PileEpisode):
        async def user_turn(self, message: str) -> Any:
            return None if message == "Hello." else UserTurn()


class NoSchema(Pile):
    """`schemas`: a property whose type does not exist."""

    class episode(PileEpisode):
        def __init__(self, task: TaskInstance) -> None:
            super().__init__(task)
            schema = {"type": "object", "properties": {"by": {"minimum": "low"}}}
            self.tools = (ADD, TOTAL.model_copy(update={"output_schema": schema}))


class Dice(Pile):
    """`determinism`: the total is about right."""

    class episode(PileEpisode):
        async def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
            noise = random.SystemRandom().random()
            return ToolResult(content=str(noise)) if name == "total" else await super().call(name, arguments)


class Clock(Pile):
    """`determinism`: the total comes with the time, in whole seconds."""

    class episode(PileEpisode):
        async def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
            result = await super().call(name, arguments)
            return result.model_copy(update={"content": f"{int(time.time())}: {result.content}"})


class Advised(Dice):
    """Has a remedy of its own for one of its faults."""

    def remedy(self, check: str) -> str:
        return "leave the dice at home" if check == "determinism" else ""

    def oracle(self, task: TaskInstance) -> Sequence[Action]:
        return ["Done."]


class Process(Pile):
    """`processes`: the answer tells in which process it was made."""

    class episode(PileEpisode):
        async def user_turn(self, message: str) -> UserTurn:
            return UserTurn(content=f"I am {os.getpid()}.") if message.startswith("Is there") else UserTurn()


class SharedPile(Pile):
    """`isolation`: one pile for all live episodes."""

    live: int = 0
    shared: list[int]

    async def start(self, task: TaskInstance) -> PileEpisode:
        outer, found = self, PileEpisode(task)
        if not self.live:
            self.shared = []
        self.live += 1
        found.pile = self.shared
        closed = False

        async def close() -> None:
            nonlocal closed
            outer.live -= not closed
            closed = True

        found.close = close  # type: ignore[method-assign]
        return found


class Scribbler(Pile):
    """`tasks-untouched`: adding writes into the task."""

    def __init__(self) -> None:
        self.kept: dict[str, TaskInstance] = {}

    def made(self, task_id: str, number: int, split: str | None) -> TaskInstance:
        return self.kept.setdefault(task_id, super().made(task_id, number, split))

    class episode(PileEpisode):
        async def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
            result = await super().call(name, arguments)
            if not result.is_error and name == "add":
                self.task.data["seen"] = True
            return result


class FickleTools(Pile):
    """`door-memory`: an episode's tools are described in other words each time."""

    count = itertools.count()

    class episode(PileEpisode):
        def __init__(self, task: TaskInstance) -> None:
            super().__init__(task)
            words = f"Put a number, {next(FickleTools.count)}."
            self.tools = (ADD.model_copy(update={"description": words}), TOTAL)


class ToolsOfProcess(Pile):
    """`door-stdio`, `door-http`: tools described by the process."""

    class episode(PileEpisode):
        def __init__(self, task: TaskInstance) -> None:
            super().__init__(task)
            self.tools = (ADD, TOTAL.model_copy(update={"description": f"In {os.getpid()}."}))


class WrongGold(Pile):
    """`gold`: the gold actions miss by one."""

    def oracle(self, task: TaskInstance) -> Sequence[Action]:
        return [ToolCall(name="add", arguments={"number": task.data["wanted"] + 1})]


class RefusedGold(Pile):
    """`gold`: a tool of the gold actions is misspelt."""

    def oracle(self, task: TaskInstance) -> Sequence[Action]:
        return [ToolCall(name="total"), ToolCall(name="ad", arguments={"number": task.data["wanted"]}), "Done."]


class Generous(Pile):
    """`idle`: everything is right."""

    class episode(PileEpisode):
        async def evaluate(self, messages: Sequence[Message]) -> Evaluation:
            return Evaluation(reward=1.0, success=True)


class Percent(Pile):
    """`activity`: a reward above 1 where much was done and nothing achieved."""

    class episode(PileEpisode):
        async def evaluate(self, messages: Sequence[Message]) -> Evaluation:
            verdict = await super().evaluate(messages)
            random_agent = any("taken care of" in (message.content or "") for message in messages)
            return verdict.model_copy(update={"reward": 100.0}) if random_agent else verdict


class Picky(Pile):
    """`garbage`: a conversation without messages is an IndexError."""

    class episode(PileEpisode):
        async def evaluate(self, messages: Sequence[Message]) -> Evaluation:
            assert messages[0].role
            return await super().evaluate(messages)


class Trusting(Pile):
    """`unknown-tool`: whatever is not known is fine."""

    class episode(PileEpisode):
        async def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
            return ToolResult(content="fine") if name == "no_such_tool" else await super().call(name, arguments)


class Lenient(Pile):
    """`missing-arguments`: no number is zero."""

    class episode(PileEpisode):
        async def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
            return ToolResult(content="0") if name == "add" and not arguments else await super().call(name, arguments)


class Surplus(Pile):
    """`odd-arguments`: the schema forbids further arguments, the tool does not."""

    class episode(PileEpisode):
        async def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
            known = {key: value for key, value in arguments.items() if key in ("number", "note")}
            return await super().call(name, known)


class Brittle(Pile):
    """`odd-arguments`: a long note breaks the tool."""

    class episode(PileEpisode):
        async def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
            if len(str(arguments.get("note", ""))) > 1_000:
                raise MemoryError("the note is too long")
            return await super().call(name, arguments)


class Overlapping(Pile):
    """`parallel-calls`: calls answer from what a helper task does later."""

    class episode(PileEpisode):
        def __init__(self, task: TaskInstance) -> None:
            super().__init__(task)
            self.pending: list[asyncio.Task[None]] = []

        async def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
            if name == "add" and type(arguments.get("number")) is int:
                behind = len(asyncio.all_tasks()) > 3
                return ToolResult(content="queued" if behind else "added")
            return await super().call(name, arguments)


class HangUp(Pile):
    """`after-the-end`: the user is gone, with an exception."""

    class episode(PileEpisode):
        ended = False

        async def user_turn(self, message: str) -> UserTurn:
            if self.ended:
                raise RuntimeError("nobody is there")
            self.ended = True
            return UserTurn()


class StallsServed(Pile):
    """Where it is served, a call tells its process to the pipe `STALLS`, and never ends."""

    class episode(PileEpisode):
        async def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
            if "serve" in sys.argv:
                Path(os.environ["STALLS"]).write_text(str(os.getpid()))
                await asyncio.Event().wait()
            return await super().call(name, arguments)


class Down(Pile):
    """Its back end is away."""

    class episode(PileEpisode):
        async def evaluate(self, messages: Sequence[Message]) -> Evaluation:
            raise InfrastructureError("the pile is away")


class Scarce(Pile):
    """Says each time in other words that nothing is left."""

    count = itertools.count(9, -1)

    class episode(PileEpisode):
        async def evaluate(self, messages: Sequence[Message]) -> Evaluation:
            raise InfrastructureError(f"only {next(Scarce.count)} left for task {self.task.id!r}")


class ClosedDesk(Pile):
    """Every call is refused."""

    class episode(PileEpisode):
        async def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
            return ToolResult(content="the desk is closed", is_error=True)


class ClosesOnce(Pile):
    """`closing`: the second close raises."""

    class episode(PileEpisode):
        open = True

        async def close(self) -> None:
            if not self.open:
                raise ValueError("closed already")
            self.open = False


class Unfreed(Pile):
    """`evaluator-failure`: what was not judged stays in the way of the next episode."""

    held: PileEpisode | None = None

    async def start(self, task: TaskInstance) -> PileEpisode:
        outer, found = self, PileEpisode(task)
        if self.held is not None:
            found.pile = self.held.pile
        judged = found.evaluate

        async def evaluate(messages: Sequence[Message]) -> Evaluation:
            outer.held = None
            return await judged(messages)

        async def call(name: str, arguments: Mapping[str, Any]) -> ToolResult:
            result = await PileEpisode.call(found, name, arguments)
            outer.held = found if type(arguments.get("number")) is int else outer.held
            return result

        found.evaluate, found.call = evaluate, call  # type: ignore[method-assign]
        return found
