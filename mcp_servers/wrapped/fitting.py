"""Whether what a benchmark itself calls fits its server's tools, found out before any episode is played."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

from mcp_servers.guard import argument_fault
from mcp_servers.wrapped.benchmark import Benchmark
from mcp_servers.wrapped.description import Call, TaskRow
from trace_agents.errors import InfrastructureError, UsageError
from trace_agents.types import ToolSpec

Placed = tuple[str, Call]
"""Where a call is written, in words, and the call."""


def check_calls(benchmark: Benchmark, row: TaskRow, tools: Sequence[ToolSpec]) -> None:
    """Every tool that the files name is the server's, and every call fits its tool's input schema; looked at once.

    Of a server whose command names the task, only what concerns `row`: its tools may differ from task to task.

    Raises:
        UsageError: one is not, or does not: the file, the task, the tool, its value, and what there is.
    """
    if row.id in benchmark.fitting:
        return
    rows = [row] if benchmark.described.by_task else [*benchmark.rows.values()]
    specs = {spec.name: spec for spec in tools}
    chosen = benchmark.described.tools
    for name in (*chosen.offer, *chosen.hide):
        _specified(f"[tools] of {str(benchmark.path)!r}", name, specs)
    offered = {name: specs[name] for name in specs if chosen.offers(name)}
    for place, call in _own(benchmark, rows):
        _check(place, call, specs)
    for place, call in _gold(benchmark, rows):
        _check(place, call, offered)
    benchmark.fitting.update(one.id for one in [row, *rows])


def signature(spec: ToolSpec) -> str:
    """A tool's name and its arguments; those with a question mark may be left out."""
    required = spec.input_schema.get("required", ())
    arguments = ", ".join(name if name in required else f"{name}?" for name in spec.input_schema.get("properties", {}))
    return f"{spec.name}({arguments})"


def _own(benchmark: Benchmark, rows: Iterable[TaskRow]) -> Iterator[Placed]:
    """The calls that agents do not see: they may be of any tool."""
    described = benchmark.described
    for call in described.reset.calls:
        yield f"[reset] calls of {str(benchmark.path)!r}", call
    for read in described.check.reads:
        if read.name is not None:
            yield f"[check] reads of {str(benchmark.path)!r}", Call(name=read.name, arguments=read.arguments)
    for row in rows:
        for call in row.setup:
            yield f"'setup' of {benchmark.place(row)}", call


def _gold(benchmark: Benchmark, rows: Iterable[TaskRow]) -> Iterator[Placed]:
    """The calls of gold actions, which are of what agents are offered."""
    for row in rows:
        for action in row.gold or ():
            if isinstance(action, Call):
                yield f"'gold' of {benchmark.place(row)}", action


def _check(place: str, call: Call, specs: Mapping[str, ToolSpec]) -> None:
    spec, fault = _specified(place, call.name, specs), None
    with contextlib.suppress(InfrastructureError):  # The schema itself is broken, of which `conform` says more.
        fault = argument_fault(spec, call.arguments)
    if fault:
        given = json.dumps(call.arguments, ensure_ascii=False)
        raise UsageError(
            f"arguments {given:.200} of tool {call.name!r} in {place} do not fit its input schema ({fault:.300}): "
            f"mend them, it takes {signature(spec)}"
        )


def _specified(place: str, name: str, specs: Mapping[str, ToolSpec]) -> ToolSpec:
    if name not in specs:
        raise UsageError(f"unknown tool {name!r} in {place}: use one of {', '.join(map(repr, sorted(specs)))}")
    return specs[name]
