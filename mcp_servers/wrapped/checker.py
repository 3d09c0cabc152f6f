"""The verdict on a finished episode: by a function, by a program, or by comparison with the gold actions' state."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import math
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from mcp_servers.wrapped.benchmark import Benchmark
from mcp_servers.wrapped.description import TaskRow
from mcp_servers.wrapped.programs import run
from trace_agents.errors import InfrastructureError, UsageError
from trace_agents.registry import import_attribute
from trace_agents.types import Evaluation, Message, Record


class Finished(Record):
    """A finished episode, as a checker gets it."""

    task: TaskRow
    """Its line of the task file."""
    messages: tuple[Message, ...]
    """The conversation: user, assistant, tool."""
    state: tuple[Any, ...]
    """What each of [check]'s `reads` gave: JSON values, or texts."""
    folder: Path
    """The episode's own folder: the server's files, where it keeps them there."""


Check = Callable[[Finished], Any]
"""Gives True or False, a reward in [0, 1], a mapping with `reward`, and perhaps `success` and `breakdown`, or an
`Evaluation`; or a coroutine that does."""


class Checker:
    """Judges the finished episodes of a benchmark."""

    def __init__(self, benchmark: Benchmark) -> None:
        """The checker that the description names.

        Raises:
            UsageError: its function cannot be imported.
        """
        self._benchmark = benchmark
        self._section = benchmark.described.check
        self._function: Check | None = None
        if self._section.function:
            self._function = _imported(self._section.function, benchmark.here)

    async def judge(self, finished: Finished, gold_state: tuple[Any, ...] | None) -> Evaluation:
        """The verdict; `gold_state` is what the reads give after the gold actions, where states are compared.

        Raises:
            InfrastructureError: the checker fails, or gives no verdict.
        """
        if self._function is not None:
            return verdict(await self._called(self._function, finished), f"checker {self._section.function!r}")
        if self._section.command:
            command = [
                self._benchmark.filled(part, finished.folder, finished.task.id) for part in self._section.command
            ]
            place = (self._benchmark.here, self._section.timeout_s)
            told = await run(command, place, finished.model_dump_json(), "[check] command")
            return verdict(_parsed(told, command), f"[check] command {' '.join(command)!r}")
        return self._compared(finished.state, gold_state or ())

    async def _called(self, function: Check, finished: Finished) -> Any:
        """What the function gives, in a thread of its own, so that one that computes for ever holds nobody up.

        Raises:
            InfrastructureError: it raises, or takes too long.
        """
        named = f"checker {self._section.function!r}"
        try:
            async with asyncio.timeout(self._section.timeout_s) as limit:
                given = await _in_thread(function, finished)
                return await given if inspect.isawaitable(given) else given
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise InfrastructureError(f"{named} took longer than {self._section.timeout_s:g} s") from error
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            place = f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}"
            told = f"{type(error).__name__}: {error} ({place})"
            raise InfrastructureError(f"{named} raised {told} on task {finished.task.id!r}") from error

    def _compared(self, state: tuple[Any, ...], gold_state: tuple[Any, ...]) -> Evaluation:
        ignored = frozenset(self._section.ignore)
        parts: dict[str, float] = {}
        for read, found, wanted in zip(self._section.reads, state, gold_state, strict=True):
            name = read.name or str(read.resource)
            name = name if name not in parts else f"{name} {len(parts) + 1}"
            parts[name] = float(_without(found, ignored) == _without(wanted, ignored))
        success = all(parts.values())
        return Evaluation(reward=float(success), success=success, breakdown=parts)


async def _in_thread(function: Check, finished: Finished) -> Any:
    """What the function returns or raises. Its thread does not keep the process from ending."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Any] = loop.create_future()

    def tell(set_it: Callable[[Any], None], value: Any) -> None:
        if not answer.done():
            set_it(value)

    def run_it() -> None:
        with contextlib.suppress(RuntimeError):  # The loop has closed: nobody waits any more.
            try:
                given = function(finished)
            except BaseException as error:
                told = error if isinstance(error, Exception) else RuntimeError(f"{type(error).__name__}: {error}")
                loop.call_soon_threadsafe(tell, answer.set_exception, told)
            else:
                loop.call_soon_threadsafe(tell, answer.set_result, given)

    threading.Thread(target=run_it, name="checker", daemon=True).start()
    return await answer


def verdict(given: Any, source: str) -> Evaluation:
    """What a checker gave, as a verdict.

    Raises:
        InfrastructureError: it is none.
    """
    if isinstance(given, Evaluation):
        found = given
    elif isinstance(given, bool | int | float):
        found = Evaluation(reward=float(given), success=float(given) >= 1.0)
    elif isinstance(given, Mapping) and _fits(given):
        reward = float(given["reward"])
        parts = {str(name): float(value) for name, value in given.get("breakdown", {}).items()}
        found = Evaluation(reward=reward, success=bool(given.get("success", reward >= 1.0)), breakdown=parts)
    else:
        wanted = "True or False, a reward in [0, 1], or {'reward': ..., 'success': ..., 'breakdown': {...}}"
        raise InfrastructureError(f"{source} gave {given!r:.200}: it has to give {wanted}")
    for name, value in (("reward", found.reward), *found.breakdown.items()):
        if not math.isfinite(value) or not 0.0 <= value <= 1.0:
            raise InfrastructureError(f"{source} gave {name} {value!r}: rewards and their parts are in [0, 1]")
    return found


def _fits(given: Mapping[str, Any]) -> bool:
    parts = given.get("breakdown", {})
    if not given.keys() <= {"reward", "success", "breakdown"} or not isinstance(parts, Mapping):
        return False
    numbers = (given.get("reward"), *parts.values())
    return all(isinstance(one, bool | int | float) for one in numbers) and isinstance(given.get("success", True), bool)


def _parsed(told: str, command: list[str]) -> Any:
    try:
        return json.loads(told)
    except ValueError:
        named = " ".join(command)
        remedy = "standard output has to hold one JSON value and nothing else; print the rest to standard error"
        raise InfrastructureError(f"[check] command {named!r} printed {told!r:.200}: {remedy}") from None


def _without(value: Any, ignored: frozenset[str]) -> Any:
    """`value` less the keys that are ignored, at any depth."""
    if isinstance(value, Mapping):
        return {key: _without(one, ignored) for key, one in value.items() if key not in ignored}
    return [_without(one, ignored) for one in value] if isinstance(value, list) else value


def _imported(spec: str, here: Path) -> Check:
    file, _, name = spec.rpartition(":")
    if not file or not name:
        raise UsageError(f"[check] function {spec!r} names no function: give 'check.py:function' or 'module:function'")
    path = f"{here / file}:{name}" if file.endswith(".py") else spec
    found = import_attribute(path, "checker")
    if not callable(found):
        raise UsageError(f"[check] function {spec!r} is a {type(found).__name__}: name a function of one argument")
    return cast(Check, found)
