"""Whatever object a row is, a reader gives a trajectory or says what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trace_agents.errors import UsageError
from trace_agents.importers import FORMATS, Format, Outcomes, load_trajectories, read
from trace_agents.importers.rows import BadRow, Reading, Row
from trace_agents.importers.sources import HOLDERS
from trace_agents.types import Trajectory

WORDS = {
    "tau-bench": "task_id trial reward info traj error role content tool_calls",
    "tau2": "id task_id trial termination_reason reward_info reward messages ticks tool_messages requestor turn_idx "
    "agent_chunk agent_tool_calls agent_tool_results role content tool_calls error",
    "toolsandbox": "name similarity milestone_similarity exception_type traceback",
    "langsmith": "id run_type inputs outputs messages generations choices output error extra metadata feedback_stats "
    "feedback key score avg parent_run_id parent_run_ids root_run run_id is_root custom_metadata status trace_id "
    "child_runs end_time lc kwargs data type content tool_calls",
    "verifiers": "id version task data nodes parent message rewards score weight metrics success info tool_errors ok "
    "errors prompt completion example_id reward semantic_parents tools role content",
    "adp": "id content class_ details source function kwargs tool_call_id reward success language axtree "
    "schema_version steps message tool_calls function_name arguments observation results source_call_id extra agent "
    "tool_definitions trial verifier_result rewards reward_valid step_results exception_info subagent_trajectory_ref "
    "final_metrics",
    "messages": "task_id trial success reward messages tools role content tool_calls function_call function name "
    "arguments type text call_id output parameters error stop id",
}
"""Format → the keys that its reader looks at, and those below them."""

VALUES = [
    *("user", "assistant", "tool", "system", "function_call", "function_call_output", "tool_use", "tool_result"),
    *("api_action", "code_action", "text_observation", "web_observation", "llm", "LLM", "chain", "agent"),
    *("too_many_errors", "{", ""),
]


def json_of(keys: list[str]) -> st.SearchStrategy[Any]:
    """JSON values whose objects use the format's own keys."""
    scalars = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=4),
        st.sampled_from(VALUES),
        st.just(10**400),
    )
    return st.recursive(
        scalars,
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(keys), inner, max_size=6)),
        max_leaves=25,
    )


def rows_for(name: str) -> st.SearchStrategy[dict[str, Any]]:
    keys = WORDS[name].split()
    return st.dictionaries(st.sampled_from(keys), json_of(keys), max_size=len(keys))


def reading(form: Format, row: Row, column: str | None) -> Trajectory | str:
    """The trajectory, which can be written; or the reason why there is none."""
    try:
        made = read(form, row, Reading(Outcomes(reward_column=column)))
    except BadRow as reason:
        return str(reason)
    made.model_dump_json()
    return made


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_any_object_gives_a_trajectory_or_a_reason(name: str, tmp_path: Path) -> None:
    form = FORMATS[name]

    @settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(row=rows_for(name), context=rows_for(name), column=st.sampled_from([None, "reward", "info.x", "success"]))
    def check(row: dict[str, Any], context: dict[str, Any], column: str | None) -> None:
        form.looks_like(row)
        whole = Row(tmp_path / "rows.jsonl", 1, row, None, context)
        for one in form.joined([whole]) if form.joined else [whole]:
            if one.value is None or (form.wanted is not None and not form.wanted(one.value)):
                continue
            made = reading(form, one, column)
            assert made if isinstance(made, str) else made.success is not None or made.error

    check()


def complaint(path: Path, name: str | None) -> str:
    """What is wrong with a file; empty where it can be read."""
    try:
        load_trajectories(path, name, skip_bad=True)
    except UsageError as error:
        return str(error)
    return ""


def test_any_file_gives_a_report_or_one_line_of_what_is_wrong(tmp_path: Path) -> None:
    words = {key for words in WORDS.values() for key in words.split()}
    every = sorted(words | set(HOLDERS) | {"info", "env", "cursors"})
    path, names = tmp_path / "any.json", st.sampled_from([None, *FORMATS])

    @settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(value=json_of(every), indent=st.sampled_from([None, 1]), cut=st.integers(0, 3), name=names)
    def check(value: Any, indent: int | None, cut: int, name: str | None) -> None:
        text = json.dumps(value, indent=indent)
        path.write_text(text[: len(text) - cut])
        assert "\n" not in complaint(path, name)

    check()
