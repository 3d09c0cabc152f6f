"""`toolsandbox`: the output folder of ToolSandbox (apple/ToolSandbox), or its `result_summary.json`.

`result_summary.json` is `{per_scenario_results, category_aggregated_results, git_sha}`; a result is `{name, categories,
traceback, exception_type, milestone_similarity, minefield_similarity, similarity, turn_count, ...}`. Each scenario has
a folder `trajectories/<name>/`:

- `conversation.json`, OpenAI chat messages (with `*_details` that hold the milestones, left out), written after
  evaluation, so missing where the run broke off;
- `execution_context.json`, always written: the message table `_dbs.SANDBOX`, whose tool calls are Python code. From
  it come the messages where there is no conversation, which tool results were exceptions (`tool_call_exception`), and
  whether the user ended the talk;
- `pretty_print.txt`, the same table drawn for people, is not read.

The reward is `similarity`, between 0 and 1; success is 1, unless `--threshold` says less. An exception upstream is
scored 0: where the agent named a tool that it does not have, or wrote arguments that are no JSON, it is the agent's
failure; any other is an infrastructure failure.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trace_agents.errors import UsageError
from trace_agents.importers.rows import BadRow, Reading, Row, label, listing, mapping, need, text_of
from trace_agents.importers.sources import read_json, rows_of
from trace_agents.types import StopReason, Trajectory

SUMMARY = "result_summary.json"

_CALL = re.compile(r"^(?P<id>.+)_parameters = (?P<arguments>[^\n]+)\n(?P=id)_response = (?P<name>[^(]+)")
"""The Python code of a tool call in the message table."""

_FOLDER = re.compile(r"^agent_(?P<agent>.+)_user_.+_\d\d_\d\d_\d{4}_\d\d_\d\d_\d\d$")


def looks_like(row: Mapping[str, Any]) -> bool:
    """Whether a row is of this format."""
    return "similarity" in row and "milestone_similarity" in row


def owns(folder: Path) -> bool:
    """Whether a folder is a run."""
    return (folder / SUMMARY).is_file()


def rows_in(folder: Path) -> Iterator[Row]:
    """The results of a run's folder."""
    return rows_of(folder / SUMMARY)


def read_row(row: Mapping[str, Any], reading: Reading) -> Trajectory:
    """The trajectory of a scenario's result, with what its folder beside the summary holds."""
    name, folder = label(need(row, "name"), "name"), reading.row.file.parent
    if "/" in name or "\0" in name or name in ("", ".", ".."):
        raise BadRow(f"the name {name!r} is no name of a folder")
    failed = _infrastructure(row)
    conversation, table = _read(folder / "trajectories" / name)
    if conversation is None and table is None and failed is None:
        raise BadRow(f"no 'trajectories/{name}/conversation.json' beside the summary")
    entries = _from_table(table or ()) if conversation is None else _marked(conversation, table or ())
    messages = reading.chat(entries, "conversation.json")
    reward, success = (None, None) if failed else reading.outcomes.decide(row, reward=row.get("similarity"))
    trial = reading.trial(name)
    made_by = _FOLDER.match(folder.name)
    return Trajectory(
        id=f"{name}#{trial}",
        task_id=name,
        trial=trial,
        environment="toolsandbox",
        agent=made_by["agent"] if made_by else "",
        messages=messages,
        reward=reward,
        success=success,
        stop=StopReason.ERROR if failed else _stop(table),
        error=failed,
    )


def _infrastructure(row: Mapping[str, Any]) -> str | None:
    """The exception that ended a run, where it is not the agent's."""
    kind, trace = text_of(row.get("exception_type")), text_of(row.get("traceback"))
    agents_own = (kind == "KeyError" and "not a known allowed tool" in trace) or kind == "JSONDecodeError"
    return None if not kind or agents_own else kind


def _read(folder: Path) -> tuple[Sequence[Any] | None, Sequence[Any] | None]:
    """(conversation, message table) of a scenario; None for a file that is missing."""
    try:
        told, context = (
            read_json(path) if path.is_file() else None
            for path in (folder / "conversation.json", folder / "execution_context.json")
        )
    except UsageError as error:
        raise BadRow(str(error)) from error
    table = None if context is None else listing(mapping(mapping(context).get("_dbs")).get("SANDBOX"), "_dbs.SANDBOX")
    return None if told is None else listing(told, "conversation.json"), table


def _stop(table: Sequence[Any] | None) -> StopReason | None:
    if not table:
        return None
    return StopReason.USER if mapping(table[-1]).get("conversation_active") is False else StopReason.MAX_TURNS


def _marked(conversation: Sequence[Any], table: Sequence[Any]) -> list[Any]:
    """The conversation, with the tool results marked that were exceptions."""
    failed = {row.get("openai_tool_call_id") for row in map(mapping, table) if row.get("tool_call_exception")}
    return [
        {**entry, "is_error": text_of(entry.get("tool_call_id")) in failed} if isinstance(entry, Mapping) else entry
        for entry in conversation
    ]


def _from_table(table: Sequence[Any]) -> list[dict[str, Any]]:
    """Chat messages of the rows that the agent sent or received, without the user's examples."""
    entries: list[dict[str, Any]] = []
    for row in map(mapping, table):
        if row.get("visible_to") == ["USER"]:
            continue
        way = (text_of(row.get("sender")), text_of(row.get("recipient")))
        if way[1] == "AGENT" and way[0] in ("SYSTEM", "USER"):
            entries.append({"role": way[0].lower(), "content": row.get("content")})
        elif way == ("EXECUTION_ENVIRONMENT", "AGENT"):
            entries.append(_result(row))
        elif way == ("AGENT", "EXECUTION_ENVIRONMENT"):
            call = _call(row)
            if entries and entries[-1].get("tool_calls"):
                entries[-1]["tool_calls"].append(call)
            else:
                entries.append({"role": "assistant", "content": "", "tool_calls": [call]})
        elif way == ("AGENT", "USER"):
            entries.append({"role": "assistant", "content": row.get("content")})
    return entries


def _result(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "role": "tool",
        "content": row.get("content"),
        "tool_call_id": row.get("openai_tool_call_id"),
        "name": row.get("openai_function_name"),
        "is_error": row.get("tool_call_exception") is not None,
    }


def _call(row: Mapping[str, Any]) -> dict[str, Any]:
    """The tool call in a row's Python code; code that is none is the argument of a call of `python`."""
    code = text_of(row.get("content"))
    found = _CALL.match(code)
    identity = row.get("openai_tool_call_id") or (found["id"] if found else None)
    if found is None:
        return {"id": identity, "name": row.get("openai_function_name") or "python", "arguments": {"code": code}}
    try:
        arguments = json.dumps(ast.literal_eval(found["arguments"]))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        arguments = found["arguments"]
    return {"id": identity, "name": row.get("openai_function_name") or found["name"], "arguments": arguments}
