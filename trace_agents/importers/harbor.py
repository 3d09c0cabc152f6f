"""A trial's folder of Harbor, where an ATIF trajectory has its verdict: `result.json`, with `agent/trajectory.json`.

A trajectory may go on in the file that its `continued_trajectory_ref` names, whose first steps are copies
(`is_copied_context`); a trial of several steps has a trajectory in `steps/<name>/agent/` for each of its
`step_results`. Either is read as one. What else lies in the folder (subagents' trajectories, summaries, the agent's own
logs) is no trajectory.

The reward is `verifier_result.rewards.reward`, or the only one of `verifier_result.rewards`; 1 is a success. Harbor
says itself whether a trial's exception leaves its reward valid (`reward_valid`): an agent that ran out of time or
context does, a sandbox that did not start does not. Where it says no, or gave no reward, infrastructure failed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trace_agents.errors import UsageError
from trace_agents.importers.rows import BadRow, Reading, Row, mapping, one_line, text_of
from trace_agents.importers.sources import read_json

RESULT = "result.json"
TRAJECTORY = Path("agent") / "trajectory.json"


def owns(folder: Path) -> bool:
    """Whether a folder is a trial's; a job's, which holds trials, has a `result.json` too."""
    return (folder / RESULT).is_file() and any((folder / name).exists() for name in ("agent", "steps", "trial.log"))


def rows_in(folder: Path) -> Iterator[Row]:
    """The one row of a trial, its result as context."""
    file = folder / RESULT
    try:
        trial = read_json(file)
        if not isinstance(trial, Mapping):
            raise UsageError(f"a JSON object is wanted, not {type(trial).__name__}")
        names = [text_of(step.get("step_name")) for step in _steps(trial)]
        places = [folder / "steps" / name / TRAJECTORY for name in names if _is_name(name)]
        segments = [part for place in places or [folder / TRAJECTORY] for part in _segments(place)]
        # A trial that failed before its agent began has no trajectory; its row says so without one.
        first = segments[0] if segments else {"schema_version": "ATIF-v1.7"}
        value = {**first, "steps": [step for part in segments for step in part["steps"]]}
    except UsageError as error:
        yield Row(file, 1, None, one_line(str(error)))
        return
    yield Row(file, 1, value, None, {"trial": trial})


def _steps(trial: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    steps = trial.get("step_results")
    return [mapping(step) for step in steps] if isinstance(steps, list) else []


def _is_name(name: str) -> bool:
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name


def _segments(place: Path) -> Iterator[dict[str, Any]]:
    """The trajectory in a file, and those that it goes on in, without the steps that they copy."""
    seen: set[Path] = set()
    while place.is_file() and place not in seen:
        seen.add(place)
        part = mapping(read_json(place))
        steps = part.get("steps")
        if not isinstance(steps, list):
            raise UsageError(f"{str(place)!r} has no list of 'steps'")
        copied = len(seen) > 1
        yield {**part, "steps": [step for step in steps if not (copied and mapping(step).get("is_copied_context"))]}
        following = text_of(part.get("continued_trajectory_ref"))
        if not _is_name(following):
            return
        place = place.parent / following


def outcome(
    row: Mapping[str, Any], trial: Mapping[str, Any], reading: Reading
) -> tuple[float | None, bool | None, str | None]:
    """(reward, success, infrastructure failure) of a trial; columns may name its rewards as `rewards.KEY`."""
    rewards = mapping(mapping(trial.get("verifier_result")).get("rewards"))
    if trial.get("reward_valid") is False or not rewards:
        return None, None, _failure(trial)
    if not row.get("steps"):
        raise BadRow(f"no {str(TRAJECTORY)!r} beside it: take an agent that writes ATIF, or leave the trial out")
    outcomes = reading.outcomes
    chosen = "reward" if "reward" in rewards else next(iter(rewards)) if len(rewards) == 1 else None
    if chosen is None and outcomes.reward_column is None and outcomes.success_column is None:
        known = ", ".join(repr(f"rewards.{key}") for key in list(rewards)[:8])
        raise BadRow(f"several rewards: name one with --reward-column, one of {known}")
    told = {**row, "rewards": rewards, "trial": trial}
    return *outcomes.decide(told, reward=None if chosen is None else rewards[chosen]), None


def _failure(trial: Mapping[str, Any]) -> str:
    raised = (mapping(one.get("exception_info")) for one in (trial, *_steps(trial)))
    found = next((one for one in raised if one), None)
    if found is None:
        return "the verifier gave no reward"
    return one_line(f"{text_of(found.get('exception_type'))}: {text_of(found.get('exception_message'))}")
