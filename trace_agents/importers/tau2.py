"""`tau2`: simulation files of τ²-bench (sierra-research/tau2-bench), v0.1 to v1.0.

A run is one JSON object `{timestamp, info, tasks, simulations}`; since v1.0 also a folder: `results.json` without the
simulations, and `simulations/<id>.json` one each. A simulation has `task_id`, `trial`, `termination_reason`,
`reward_info.reward` and `messages`, each `{role, content, tool_calls, turn_idx}`; a tool message is
`{id, role, content, requestor, error}`, several may be wrapped as `tool_messages`. Voice runs (v1.0) have `ticks` in
place of messages: what agent and user said in a tick, in chunks that are joined here.

The user has tools of its own (telecom): calls and results whose `requestor` is `user`. The agent sees neither, so both
are left out, and counted in `info.user_tool_calls`. The policy, which stands in the agent's prompt and not among the
messages, is the system message. `tasks` hold the gold actions and are left out.

Success is a reward of 1; a run that ended early (`max_steps`, `agent_error`) has reward 0. Not the agent's doing, and
so infrastructure failures: `infrastructure_error`, `unexpected_error`, `timeout`, `context_window_exceeded`,
`user_error` (the simulated user broke the protocol), and `too_many_errors` where most of the failed calls were the
user's. Where they were the agent's own, that ending is its failure, as upstream scores it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trace_agents.errors import UsageError
from trace_agents.importers.rows import BadRow, Reading, Row, label, listing, mapping, need, text_of
from trace_agents.importers.sources import read_json
from trace_agents.types import StopReason, Trajectory

INFRASTRUCTURE = frozenset(
    {"infrastructure_error", "unexpected_error", "timeout", "context_window_exceeded", "user_error"}
)
"""Endings that are never the agent's doing."""

_STOPS = {
    "user_stop": StopReason.USER,
    "agent_stop": StopReason.AGENT,
    "max_steps": StopReason.MAX_TURNS,
}


def looks_like(row: Mapping[str, Any]) -> bool:
    """Whether a row is of this format."""
    return "task_id" in row and ("termination_reason" in row or "reward_info" in row)


def owns(folder: Path) -> bool:
    """Whether a folder is a run in v1.0's layout."""
    return (folder / "results.json").is_file() and (folder / "simulations").is_dir()


def rows_in(folder: Path) -> Iterator[Row]:
    """The simulations of a run's folder.

    Raises:
        UsageError: `results.json` cannot be read, or lists a simulation whose file is missing.
    """
    context = mapping(read_json(folder / "results.json"))
    files = sorted((folder / "simulations").glob("*.json"))
    listed = {text_of(mapping(one).get("id")) for one in context.get("simulation_index") or ()} - {""}
    if missing := sorted(listed - {file.stem for file in files}):
        raise UsageError(
            f"{str(folder)!r} lacks {len(missing)} of the simulations that its results.json lists, the first "
            f"{missing[0]!r}: copy the whole folder"
        )
    for number, file in enumerate(files, start=1):
        try:
            value = read_json(file)
            problem = None if isinstance(value, dict) else f"a JSON object is wanted, not {type(value).__name__}"
        except UsageError as error:
            value, problem = None, str(error)
        yield Row(file, number, None if problem else value, problem, context)


def read_row(row: Mapping[str, Any], reading: Reading) -> Trajectory:
    """The trajectory of a simulation."""
    task = label(need(row, "task_id"), "task_id")
    ending = text_of(row.get("termination_reason"))
    entries = _ordered(listing(row.get("messages"), "messages")) or _from_ticks(listing(row.get("ticks"), "ticks"))
    failed = _infrastructure(ending, entries)
    info = mapping(reading.row.context.get("info"))
    setting = mapping(info.get("environment_info"))
    policy = text_of(row.get("policy")) or text_of(setting.get("policy"))
    seen, hidden = _as_agent_saw(entries)
    messages = reading.chat([{"role": "system", "content": policy}, *seen] if policy else seen)
    verdict = mapping(row.get("reward_info")).get("reward")
    reward, success = (None, None) if failed else reading.outcomes.decide(row, reward=verdict)
    trial = reading.trial(task, row.get("trial"))
    return Trajectory(
        id=text_of(row.get("id")) or f"{task}#{trial}",
        task_id=task,
        trial=trial,
        environment=text_of(setting.get("domain_name")),
        agent=text_of(mapping(info.get("agent_info")).get("llm")),
        messages=messages,
        reward=reward,
        success=success,
        stop=StopReason.ERROR if failed else _STOPS.get(ending),
        error=failed,
        info={"user_tool_calls": hidden} if hidden else {},
    )


def _ordered(entries: Any) -> list[Mapping[str, Any]]:
    """Messages one by one, wrapped ones unwrapped, in the order of their turns where all have one."""
    found: list[Mapping[str, Any]] = []
    for index, entry in enumerate(entries):
        if not isinstance(entry, Mapping):
            raise BadRow(f"message {index} is not an object")
        wrapped = entry.get("tool_messages")
        found.extend([one for one in wrapped if isinstance(one, Mapping)] if isinstance(wrapped, list) else [entry])
    if all(isinstance(entry.get("turn_idx"), int) for entry in found):
        found.sort(key=lambda entry: int(entry["turn_idx"]))
    return found


def _as_agent_saw(entries: list[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """(chat messages, number of the user's own tool calls, which are not among them)."""
    seen: list[dict[str, Any]] = []
    users: set[str] = set()
    hidden = 0
    for entry in entries:
        role, content = entry.get("role"), entry.get("content")
        if role == "tool":
            if entry.get("requestor") != "user" and text_of(entry.get("id")) not in users:
                seen.append({**entry, "tool_call_id": entry.get("id")})
            continue
        calls = listing(entry.get("tool_calls"), "tool_calls")
        own = [call for call in calls if role != "user" and mapping(call).get("requestor") != "user"]
        users |= {text_of(mapping(call).get("id")) for call in calls if call not in own} - {""}
        hidden += len(calls) - len(own)
        if own or content or not calls:
            seen.append({"role": role, "content": content, "tool_calls": own})
    return seen, hidden


def _infrastructure(ending: str, entries: list[Mapping[str, Any]]) -> str | None:
    """Why the ending is not the agent's doing; None where it is."""
    if ending in INFRASTRUCTURE:
        return ending
    if ending != "too_many_errors":
        return None
    errors = Counter(str(one.get("requestor")) for one in entries if one.get("role") == "tool" and one.get("error"))
    return ending if errors["user"] >= errors["assistant"] + errors["None"] else None


def _from_ticks(ticks: Any) -> list[Mapping[str, Any]]:
    """Messages of a voice run: chunks of one speaker joined until the other speaks or a tool is called."""
    found: list[dict[str, Any]] = []
    for index, tick in enumerate(ticks):
        if not isinstance(tick, Mapping):
            raise BadRow(f"tick {index} is not an object")
        for side, role in (("agent", "assistant"), ("user", "user")):
            calls = listing(tick.get(f"{side}_tool_calls"), f"{side}_tool_calls")
            _speak(found, role, _said(mapping(tick.get(f"{side}_chunk"))), calls)
            results = listing(tick.get(f"{side}_tool_results"), f"{side}_tool_results")
            found.extend(dict(result) for result in results if isinstance(result, Mapping))
    return list(found)


def _said(chunk: Mapping[str, Any]) -> str:
    """Text of a chunk; an audio chunk's content is sound, its script the text."""
    return text_of(chunk.get("audio_script_gold") if chunk.get("is_audio") is True else chunk.get("content"))


def _speak(found: list[dict[str, Any]], role: str, text: str, calls: Any) -> None:
    if not text and not calls:
        return
    last = found[-1] if found else {}
    if last.get("role") == role and not last.get("tool_calls") and not calls:
        last["content"] += text
    else:
        found.append({"role": role, "content": text, "tool_calls": calls})
