"""Checks of limits and errors: what an agent gets wrong it reads, what breaks is told apart, and the rest goes on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Mapping
from typing import Any

from mcp_servers.agents.draws import draw_arguments
from mcp_servers.conformance.findings import Fault, Remark, Skip, described, shown
from mcp_servers.conformance.plays import Line, difference, only_errors, play, results_of, script_for
from mcp_servers.conformance.subject import Subject
from mcp_servers.guard import GuardedEpisode
from mcp_servers.memory import connect
from mcp_servers.server import tool_result
from trace_agents.errors import InfrastructureError, UsageError
from trace_agents.types import ToolCall, ToolResult, ToolSpec, UserTurn

LONG = 200_000
"""Characters of a very long argument."""
_OTHERS: Mapping[str, Any] = {
    "string": [{"not": "text"}],
    "integer": "not a number",
    "number": "not a number",
    "boolean": "not a truth value",
    "array": "not a list",
    "object": "not an object",
}
_READABLE = "answer with an is_error result that the agent can read"


async def unknown_tool(subject: Subject) -> None:
    """A call of a tool that is not offered is an `is_error` result."""
    async with subject.episode(subject.tasks[0]) as episode:
        result = await _answer(episode, "no_such_tool", {"a": 1}, "an unknown tool")
        if not result.is_error:
            raise Fault(f"an unknown tool answers {shown(result.content)!r}", _READABLE)
    raw = await subject.environment.start(subject.tasks[0])
    try:
        result = await raw.call("no_such_tool", {})
        if not isinstance(result, ToolResult) or not result.is_error:
            raise Fault(f"an unknown tool answers {shown(repr(result))} on the contract", _READABLE)
    finally:
        await raw.close()


async def missing_arguments(subject: Subject) -> None:
    """A call without its required arguments is an `is_error` result."""
    async with subject.episode(subject.tasks[0]) as episode:
        demanding = [spec for spec in episode.tools if spec.input_schema.get("required")]
        if not demanding:
            raise Skip("no tool requires an argument")
        for spec in demanding:
            result = await _answer(episode, spec.name, {}, "without its arguments")
            if not result.is_error:
                raise Fault(f"{spec.name!r} without its arguments answers {shown(result.content)!r}", _READABLE)


async def odd_arguments(subject: Subject) -> None:
    """Arguments of a wrong type, too many or very long ones are answered; the schema's own limits are kept."""
    async with subject.episode(subject.tasks[0]) as episode:
        for spec in episode.tools:
            for what, arguments, refused in _odd(spec):
                result = await _answer(episode, spec.name, arguments, what)
                if refused and not result.is_error:
                    raise Fault(f"{spec.name!r} with {what} answers {shown(result.content)!r}", _READABLE)


def _odd(spec: ToolSpec) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """(what is odd, arguments, whether the schema refuses them) of calls of a tool."""
    fitting = draw_arguments({**spec.input_schema, "required": []}, ["x1"], random.Random(0)) or {}
    needed = draw_arguments(spec.input_schema, ["x1"], random.Random(0))
    if needed is not None:
        refuses = spec.input_schema.get("additionalProperties") is False
        yield "an argument too many", {**needed, "no_such_argument_": 1}, refuses
        fitting = needed
    for name, schema in spec.input_schema.get("properties", {}).items():
        kind = schema.get("type") if isinstance(schema, dict) else None
        if isinstance(kind, str) and kind in _OTHERS:
            yield f"{name!r} of a wrong type", {**fitting, name: _OTHERS[kind]}, False
        if kind == "string":
            yield f"{name!r} of {LONG} characters", {**fitting, name: "x" * LONG}, False


async def parallel_calls(subject: Subject) -> Remark | None:
    """Calls that arrive at once are answered as one after the other."""
    task = subject.tasks[0]
    async with subject.episode(task) as episode:
        script = script_for(subject, task, episode.tools, 1)
    calls = [
        (one.name, one.arguments) for one in script if isinstance(one, ToolCall) and isinstance(one.arguments, dict)
    ]
    calls *= 2
    async with subject.episode(task) as episode:
        serial = [await _answer(episode, name, arguments, "valid arguments") for name, arguments in calls]
    async with subject.episode(task) as episode, connect(episode) as client:
        asked = [client.call_tool(name, arguments) for name, arguments in calls]
        try:
            at_once = [tool_result(result) for result in await asyncio.gather(*asked)]
        except InfrastructureError as error:
            raise Fault(f"{len(calls)} calls at once: {error}", "answer each call by itself") from error
    for (name, _), left, right in zip(calls, serial, at_once, strict=True):
        if left != right:
            found = f"{name!r} answers {shown(right.content)!r} at once, {shown(left.content)!r} one by one"
            raise Fault(found, "change the episode's state only between awaits")
    return only_errors(serial)


async def after_the_end(subject: Subject) -> None:
    """The user answers, or refuses with a `UsageError`, after the end of the conversation; calls do too."""
    task = subject.tasks[0]
    async with subject.episode(task) as episode:
        line = Line(episode, script_for(subject, task, episode.tools, 0))
        while await line.step():
            pass
        for text in ("Anything else?", "", "x" * LONG):
            try:
                turn = await episode.user_turn(text)
            except UsageError:
                continue
            except Exception as error:
                found = f"the user, asked after the end, raises {described(error)}"
                raise Fault(found, "answer UserTurn(content=None) once the conversation is over") from error
            if not isinstance(turn, UserTurn):
                raise Fault(f"the user, asked after the end, gives {shown(repr(turn))}", "return a UserTurn")
        for spec in list(episode.tools)[:1]:
            await _answer(episode, spec.name, {}, "after the end")


async def closing(subject: Subject) -> None:
    """Closing twice is fine, an episode that was never played too, and a closed one is refused."""
    task = subject.tasks[0]
    raw = await subject.environment.start(task)
    for time in ("first", "second"):
        try:
            await raw.close()
        except Exception as error:
            raise Fault(f"the {time} close raises {described(error)}", "make close idempotent") from error
    async with subject.episode(task) as episode:
        await episode.close()
        try:
            await episode.call(next((spec.name for spec in episode.tools), "any"), {})
        except (UsageError, InfrastructureError):
            return
        if episode.tools:
            raise Fault("a closed episode answers calls", "refuse calls after close")


async def evaluator_failure(subject: Subject) -> Remark | None:
    """An evaluation that raises is an `InfrastructureError`; other episodes, and later ones, go on."""
    task = subject.tasks[0]
    async with subject.episode(task) as episode:
        script = script_for(subject, task, episode.tools, 1)
    before = await play(subject, task, script)
    failing = GuardedEpisode(_FailingEvaluation(await subject.environment.start(task)))
    try:
        line = Line(failing, script)
        while await line.step():
            pass
        try:
            await line.finish()
        except InfrastructureError:
            pass
        else:
            raise Fault("an evaluation that raised gave a verdict", "let the evaluator's error through")
    finally:
        await failing.close()
    found = difference(before, await play(subject, task, script))
    if found:
        remedy = "free in close whatever the episode holds, judged or not"
        raise Fault(f"task {task.id!r} after an episode whose evaluation failed: {found}", remedy)
    return only_errors(results_of([before]))


class _FailingEvaluation:
    """An episode whose evaluation raises, and which is otherwise the one that it wraps."""

    def __init__(self, episode: Any) -> None:
        self._episode = episode

    def __getattr__(self, name: str) -> Any:
        return getattr(self._episode, name)

    async def evaluate(self, messages: Any) -> Any:
        raise ZeroDivisionError("an evaluator that fails")


async def _answer(episode: GuardedEpisode, name: str, arguments: Mapping[str, Any], what: str) -> ToolResult:
    """The result as a result; a failure of the environment is a fault."""
    try:
        return await episode.call(name, arguments)
    except InfrastructureError as error:
        raise Fault(f"{name!r}, {what}, fails: {error}", _READABLE) from error
