"""An episode made safe to serve: calls in order, only its own tools, and every failure put at the right door."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, TypeVar

from jsonschema import Draft202012Validator
from pydantic_core import to_json

from trace_agents.environment import AnswersUnknownTools, Episode, KeepsRecord
from trace_agents.errors import InfrastructureError, UsageError
from trace_agents.types import Evaluation, Message, ToolResult, ToolSpec, UserTurn

Returned = TypeVar("Returned")

CLOSE_WAIT_S = 5.0
"""How long `close` waits for a call in progress before it closes the episode under it."""


class GuardedEpisode(Episode):
    """The `Episode` contract around an episode that may break it.

    Operations run one at a time, in the order of arrival, whichever door they come through. A tool that raises
    is an `is_error` result that names the fault where the arguments break the tool's schema (the agent's
    mistake), and an `InfrastructureError` where they do not (the environment's).
    """

    def __init__(self, episode: Episode) -> None:
        self.task = episode.task
        self.tools: Sequence[ToolSpec] = tuple(episode.tools)
        self.policy = episode.policy
        self.specs: Mapping[str, ToolSpec] = {spec.name: spec for spec in self.tools}
        """The tools by name."""
        self._episode = episode
        self._turn = asyncio.Lock()
        self._closed = False
        if isinstance(episode, KeepsRecord):
            # Only then, so that this is a `KeepsRecord` where the episode is.
            self.record = partial(self._record, episode)
        _check_servable(self.tools)

    @classmethod
    def of(cls, episode: Episode) -> GuardedEpisode:
        """`episode` guarded; itself where it already is."""
        return episode if isinstance(episode, cls) else cls(episode)

    @cached_property
    def listing(self) -> bytes:
        """The tools as MCP lists them, in JSON."""
        return to_json([_listed(spec) for spec in self.tools])

    @property
    def words_unknown_tools(self) -> bool:
        """The benchmark has words of its own for a call of an unknown tool."""
        return isinstance(self._episode, AnswersUnknownTools)

    @property
    def closed(self) -> bool:
        """The episode has ended; every operation but `close` is refused."""
        return self._closed

    @property
    def busy(self) -> bool:
        """An operation is running."""
        return self._turn.locked()

    async def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        """Run a tool.

        Raises:
            UsageError: the episode is closed. InfrastructureError: the environment failed, or broke the tool's output
                schema.
        """
        spec = self.specs.get(name)
        if spec is None:
            return await self._unknown_tool(name, arguments)
        async with self._operation():
            try:
                result = await self._episode.call(name, arguments)
            except InfrastructureError:
                raise
            except BaseException as error:
                if not broke(error):
                    raise
                fault = argument_fault(spec, arguments)
                if fault is not None:
                    return ToolResult(content=f"bad arguments for tool {name!r}: {fault}", is_error=True)
                raise InfrastructureError(f"tool {name!r} failed: {_described(error)}") from error
        _of_kind(ToolResult, result, f"tool {name!r}")
        return result if spec.output_schema is None or result.is_error else _structured(result, spec)

    async def _unknown_tool(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        """What the agent reads where it is offered no such tool: the benchmark's words, or the house's."""
        if not isinstance(self._episode, AnswersUnknownTools):
            known = ", ".join(repr(tool) for tool in self.specs) or "none"
            await asyncio.sleep(0)  # As in `_operation`.
            return ToolResult(content=f"unknown tool {name!r}: use one of {known}", is_error=True)
        async with self._operation():
            with failing(f"the benchmark's answer to the unknown tool {name!r}"):
                return await self._episode.unknown_tool(name, arguments)

    async def user_turn(self, message: str) -> UserTurn:
        """The simulated user's answer.

        Raises:
            UsageError: the episode is closed. InfrastructureError: the environment failed.
        """
        async with self._operation():
            with failing(f"the simulated user of task {self.task.id!r}"):
                turn = await self._episode.user_turn(message)
        return _of_kind(UserTurn, turn, f"the simulated user of task {self.task.id!r}")

    async def evaluate(self, messages: Sequence[Message]) -> Evaluation:
        """The verdict.

        Raises:
            UsageError: the episode is closed. InfrastructureError: the environment failed.
        """
        async with self._operation():
            with failing(f"evaluating task {self.task.id!r}"):
                verdict = await self._episode.evaluate(messages)
        return _of_kind(Evaluation, verdict, f"evaluating task {self.task.id!r}")

    async def _record(self, keeps: KeepsRecord, messages: Sequence[Message]) -> Mapping[str, Any]:
        """What the benchmark keeps of the episode (`trace_agents.environment.KeepsRecord`).

        Raises:
            UsageError: the episode is closed. InfrastructureError: the environment failed.
        """
        async with self._operation():
            with failing(f"the record of task {self.task.id!r}"):
                return await keeps.record(messages)

    async def close(self) -> None:
        """End the episode: after the operation in progress, or under it after `CLOSE_WAIT_S`. Idempotent."""
        if self._closed:
            return
        self._closed = True
        held = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_WAIT_S):
                held = await self._turn.acquire()
        try:
            await self._episode.close()
        finally:
            if held:
                self._turn.release()

    @contextlib.asynccontextmanager
    async def _operation(self) -> AsyncIterator[None]:
        async with self._turn:
            # The tools of many an environment never wait: time-outs and other episodes get their turn here.
            await asyncio.sleep(0)
            if self._closed:
                raise UsageError(f"the episode of task {self.task.id!r} is closed: start a new one")
            yield


def broke(error: BaseException) -> bool:
    """`error` is a failure of the code that raised it: an exception, an exit, or a cancellation of its own making.

    Ctrl-C is none, nor is the cancellation of the task that runs it, by a time-out say.
    """
    if isinstance(error, BaseExceptionGroup):
        return all(map(broke, error.exceptions))
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and not task.cancelling()
    return not isinstance(error, (KeyboardInterrupt, GeneratorExit))


def _of_kind(kind: type[Returned], found: Returned, what: str) -> Returned:
    if not isinstance(found, kind):
        article = "an" if kind is Evaluation else "a"
        raise InfrastructureError(
            f"{what} returned a {type(found).__name__}: episodes return {article} {kind.__name__}"
        )
    return found


@contextlib.contextmanager
def failing(what: str) -> Iterator[None]:
    """Whatever breaks inside is the environment's failure of `what`; errors of the contract keep their words.

    Raises:
        InfrastructureError: something broke.
    """
    try:
        yield
    except (UsageError, InfrastructureError):
        raise
    except BaseException as error:
        if not broke(error):
            raise
        raise InfrastructureError(f"{what} failed: {_described(error)}") from error


def argument_fault(spec: ToolSpec, arguments: Mapping[str, Any]) -> str | None:
    """Why `arguments` break the tool's input schema, in one line; None where they fit.

    Raises:
        InfrastructureError: the schema itself is broken.
    """
    try:
        faults = sorted(Draft202012Validator(spec.input_schema).iter_errors(dict(arguments)), key=lambda f: f.json_path)
    except Exception as error:
        message = f"input_schema of tool {spec.name!r} is not JSON Schema: {_described(error)}"
        raise InfrastructureError(message) from error
    places = (fault.json_path.removeprefix("$").removeprefix(".") or "arguments" for fault in faults)
    return "; ".join(f"{place}: {fault.message}" for place, fault in zip(places, faults, strict=True)) or None


def _structured(result: ToolResult, spec: ToolSpec) -> ToolResult:
    """`result` with the JSON value that the tool's output schema declares.

    Raises:
        InfrastructureError: there is none, or it does not fit the schema.
    """
    value = result.structured
    if value is None:
        try:
            value = json.loads(result.content)
        except ValueError as error:
            message = f"tool {spec.name!r} declares an output schema but returned text: {error}"
            raise InfrastructureError(message) from error
    for fault in Draft202012Validator(spec.output_schema).iter_errors(value):
        raise InfrastructureError(f"tool {spec.name!r} broke its own output schema: {fault.message}")
    return result.model_copy(update={"structured": value})


def _listed(spec: ToolSpec) -> dict[str, Any]:
    listed = {"name": spec.name, "description": spec.description, "inputSchema": spec.input_schema}
    others = {
        "outputSchema": spec.output_schema,
        "annotations": spec.annotations,
        "title": spec.title,
        "icons": spec.icons,
        "_meta": spec.meta,
    }
    return listed | {name: value for name, value in others.items() if value is not None}


def _check_servable(tools: Sequence[ToolSpec]) -> None:
    repeated = [name for name, count in Counter(spec.name for spec in tools).items() if count > 1]
    if repeated:
        raise UsageError(f"tool {repeated[0]!r} is declared more than once: tool names are unique within an episode")
    for spec in tools:
        for kind, schema in (("input_schema", spec.input_schema), ("output_schema", spec.output_schema)):
            if schema is not None and schema.get("type") != "object":
                found = schema.get("type")
                raise UsageError(f"{kind} of tool {spec.name!r} has type {found!r} at its root: MCP needs 'object'")


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
