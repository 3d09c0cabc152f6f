"""`langsmith`: runs exported from LangSmith (langchain-ai/langsmith-sdk, `schemas.Run`): JSON lines, an array, pages of
its API, or Parquet; `trace_agents/importers/langsmith_runs.py` says how the exports differ.

A run is `{id, name, run_type, inputs, outputs, error, extra, parent_run_id, trace_id, dotted_order, feedback_stats,
reference_example_id, ...}`. A trace is a root run (no `parent_run_id`) and what it called: nested as `child_runs`, or
flat, its runs anywhere in the files, of which those that a trajectory needs are kept until the last file ends.

The conversation is the longer of two: that of the `llm` run with the longest input (`inputs.messages`, then the
answer in `outputs.generations`, OpenAI's `outputs.choices` or the Responses API's `outputs.output`), and the root's
`outputs.messages`. Where neither has messages, it is the root's input, its `tool` runs in order and its output.
Messages are read in LangChain's constructor form (`lc`, `kwargs`), as dictionaries (`type`, `data`) and as OpenAI's.

The task is `reference_example_id` (the example of a dataset), else `task_id` of the metadata, else the input itself.
The reward is the average of `feedback_stats` (or `score` of the `feedback` list) where there is one key, or one of
`success`, `correctness`, `correct`, `reward`, `score`; `--reward-column feedback.KEY` picks another. 1 is a success.
A root with an `error`, or that never ended, and without feedback is an infrastructure failure, save
`GraphRecursionError`: there the agent used up its turns, which is a failure of its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trace_agents.importers.langchain import answer_of, chat_of, messages_in
from trace_agents.importers.langsmith_runs import is_run, plain
from trace_agents.importers.rows import BadRow, Reading, Row, label, listing, mapping, need, one_line, text_of
from trace_agents.types import Message, StopReason, ToolSpec, Trajectory

_REWARDS = ("success", "correctness", "correct", "reward", "score")
"""Feedback keys that are the reward where a run has several."""


def looks_like(row: Mapping[str, Any]) -> bool:
    """Whether a row is of this format."""
    return is_run(row)


@dataclass
class _Trace:
    """What is kept of a trace's runs, as JSON text: that takes a fifth of the memory while the file is read on."""

    row: Row
    root: str | None = None
    llm: str | None = None
    rank: tuple[int, str] = (-1, "")
    """Number of input messages of `llm`, and when it began."""
    tools: list[Mapping[str, Any]] = field(default_factory=list)

    def add(self, row: Row, run: Mapping[str, Any]) -> None:
        kind = run.get("run_type")
        if not run.get("parent_run_id"):
            self.row = Row(row.file, row.number, {"id": run.get("id")})
            self.root = _text({key: value for key, value in run.items() if key != "child_runs"})
        if kind == "llm":
            rank = (len(messages_in(run.get("inputs"))), _start(run))
            if self.llm is None or rank > self.rank:
                self.llm, self.rank = _text({key: run.get(key) for key in ("inputs", "outputs", "extra")}), rank
        elif kind == "tool":
            self.tools.append({key: run.get(key) for key in ("name", "inputs", "outputs", "error", "start_time")})

    def joined(self) -> Row:
        if self.root is None:
            reason = f"no root run of the trace of run {text_of(mapping(self.row.value).get('id'))!r}: export it too"
            return Row(self.row.file, self.row.number, None, reason)
        context = {"llm": json.loads(self.llm or "null"), "tools": self.tools}
        return Row(self.row.file, self.row.number, json.loads(self.root), None, context)


def _text(run: Mapping[str, Any]) -> str:
    return json.dumps(run, ensure_ascii=False)


def joined(rows: Iterable[Row]) -> Iterator[Row]:
    """One row for each trace: its root run, the telling runs below it as context."""
    traces: dict[str, _Trace] = {}
    for row in rows:
        if row.value is None:
            yield row
            continue
        first = plain(row.value)
        if not isinstance(first.get("run_type"), str):
            yield Row(row.file, row.number, None, "no 'run_type'")
            continue
        name = _trace_of(first)
        trace = traces.setdefault(name, _Trace(Row(row.file, row.number, {"id": first.get("id")})))
        for run in _runs(first):
            trace.add(row, run)
        if trace.root is not None and first.get("child_runs"):
            # A nested trace is whole, so it need not wait for the end of the files.
            yield traces.pop(name).joined()
    for key in list(traces):
        yield traces.pop(key).joined()


def _trace_of(run: Mapping[str, Any]) -> str:
    return text_of(run.get("trace_id")) or text_of(run.get("parent_run_id")) or text_of(run.get("id"))


def _runs(run: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A run and all below it, under the SDK's names."""
    waiting = [run]
    while waiting:
        current = waiting.pop()
        yield current
        children = current.get("child_runs")
        if isinstance(children, list):
            above = {"parent_run_id": current.get("id") or "above"}
            waiting.extend(plain(above | child) for child in children if isinstance(child, dict))


def _start(run: Mapping[str, Any]) -> str:
    return text_of(run.get("dotted_order")) or text_of(run.get("start_time"))


def read_row(row: Mapping[str, Any], reading: Reading) -> Trajectory:
    """The trajectory of a root run, whose telling runs are the context."""
    identity = label(need(row, "id"), "id")
    context = reading.row.context
    llm, tool_runs = mapping(context.get("llm")), listing(context.get("tools"), "tools")
    metadata = mapping(mapping(row.get("extra")).get("metadata"))
    inputs = row.get("inputs")
    given = row.get("reference_example_id") or metadata.get("task_id")
    task = text_of(given) or f"input-{hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:12]}"
    scores = _scores(row)
    error = _error(row)
    used_up = error is not None and "GraphRecursionError" in error
    failed = None if scores or used_up else error
    messages = _conversation(row, llm, tool_runs, reading)
    reward, success = (None, None) if failed else _outcome(row, scores, error, reading)
    llm_metadata = mapping(mapping(llm.get("extra")).get("metadata"))
    return Trajectory(
        id=identity,
        task_id=task,
        trial=reading.trial(task, metadata.get("trial")),
        environment=text_of(row.get("session_name")) or text_of(row.get("name")),
        agent=text_of(llm_metadata.get("ls_model_name")) or text_of(metadata.get("ls_model_name")),
        messages=messages,
        tools=_tools(llm, reading),
        reward=reward,
        success=success,
        stop=StopReason.ERROR if failed else StopReason.MAX_TURNS if used_up else None,
        error=failed,
    )


def _error(row: Mapping[str, Any]) -> str | None:
    if row.get("error"):
        return one_line(row["error"])
    if row.get("status") == "error":
        return "the run failed"
    ended = row.get("end_time") or row.get("outputs") or row.get("status") == "success"
    return None if ended else "the run did not end"


def _scores(row: Mapping[str, Any]) -> dict[str, Any]:
    """Feedback key → its score."""
    scores: dict[str, Any] = {}
    for key, stats in mapping(row.get("feedback_stats")).items():
        average = stats.get("avg") if isinstance(stats, Mapping) else stats
        if isinstance(average, int | float):
            scores[key] = float(average) if isinstance(average, bool) else average
    told = row.get("feedback")
    for entry in map(mapping, told if isinstance(told, list) else ()):
        name, score = entry.get("key"), entry.get("score")
        if isinstance(name, str) and isinstance(score, int | float):
            scores[name] = float(score) if isinstance(score, bool) else score
    return scores


def _outcome(
    row: Mapping[str, Any], scores: Mapping[str, Any], error: str | None, reading: Reading
) -> tuple[float | None, bool]:
    """(reward, success) by feedback, which columns may name as `feedback.KEY`."""
    outcomes = reading.outcomes
    told = [key for key in _REWARDS if key in scores]
    chosen = next(iter(scores)) if len(scores) == 1 else told[0] if len(told) == 1 else None
    if chosen is None and outcomes.success_column is None and outcomes.reward_column is None:
        if error and not scores:
            return None, False
        known = ", ".join(repr(f"feedback.{key}") for key in list(scores)[:8])
        raise BadRow(
            f"several feedback keys: name the reward with --reward-column, one of {known}"
            if scores
            else "no feedback score: name the column that has the verdict with --success-column or --reward-column"
        )
    return outcomes.decide({**row, "feedback": scores}, reward=None if chosen is None else scores[chosen])


def _conversation(
    row: Mapping[str, Any], llm: Mapping[str, Any], tool_runs: Sequence[Any], reading: Reading
) -> tuple[Message, ...]:
    asked = [*messages_in(llm.get("inputs")), *answer_of(llm.get("outputs"))]
    kept = messages_in(row.get("outputs"))
    if not kept and not asked:
        kept = _from_tools(row, tool_runs)
        return reading.chat(kept, "messages of the run")
    asked, kept = chat_of(asked), chat_of(kept)
    if len(asked) < len(kept):
        # A graph's state leaves out the system prompt, which only the model was sent.
        prompt = [entry for entry in asked[:1] if _is_system(entry) and not _is_system(kept[0])]
        asked = prompt + kept
    return reading.chat(asked, "messages of the run")


def _is_system(entry: Any) -> bool:
    return mapping(entry).get("role") == "system"


def _from_tools(row: Mapping[str, Any], tool_runs: Sequence[Any]) -> list[dict[str, Any]]:
    """Input, tool runs in order, output: for agents that are traced without messages."""
    entries: list[dict[str, Any]] = [{"role": "user", "content": _plain(row.get("inputs"))}]
    for run in sorted(map(mapping, tool_runs), key=lambda run: text_of(run.get("start_time"))):
        call = {"name": text_of(run.get("name")) or "tool", "arguments": _arguments(run.get("inputs"))}
        entries.append({"role": "assistant", "content": None, "tool_calls": [call]})
        failed = run.get("error")
        said = one_line(failed) if failed else _plain(run.get("outputs"))
        entries.append({"role": "tool", "content": said, "is_error": bool(failed)})
    if row.get("outputs"):
        entries.append({"role": "assistant", "content": _plain(row.get("outputs"))})
    return entries


def _plain(value: Any) -> str:
    """Text of an input or output: its only value where that is text, else its JSON."""
    only = next(iter(value.values())) if isinstance(value, Mapping) and len(value) == 1 else value
    return only if isinstance(only, str) else json.dumps(value)


def _arguments(inputs: Any) -> Any:
    """Arguments of a tool run; LangChain keeps them as the text `input`."""
    only = mapping(inputs).get("input") if len(mapping(inputs)) == 1 else None
    return only if isinstance(only, str) else inputs


def _tools(llm: Mapping[str, Any], reading: Reading) -> tuple[ToolSpec, ...]:
    """Tools that the model was offered; none where they are in a form of another provider."""
    parameters = mapping(mapping(llm.get("extra")).get("invocation_params"))
    try:
        return reading.tools(parameters.get("tools") or mapping(llm.get("inputs")).get("tools"))
    except BadRow:
        return ()
