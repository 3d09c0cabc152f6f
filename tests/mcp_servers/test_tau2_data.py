"""τ²-bench's tasks, as its data states them; none of its code is needed for these."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tau2_benchmark import NOWHERE, SHARED, data_folder, needs_data, rebuilt, unplayed

from mcp_servers.benchmark.users import UserChoice, UserKind
from mcp_servers.tau2 import Tau2Environment
from mcp_servers.tau2.settings import Settings, release
from trace_agents.environment import Environment
from trace_agents.errors import UsageError
from trace_agents.types import ToolCall

pytestmark = needs_data

CANNOT_FAIL = "create_task_1_with_env_assertions"
BAD_MODE = "[mobile_data_issue]data_mode_off|data_usage_exceeded[PERSONA:None]"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return data_folder(tmp_path)


@pytest.mark.parametrize(("domain", "count"), [("airline", 50), ("retail", 114), ("telecom", 114), ("mock", 6)])
def test_every_task_is_in_the_base_split(domain: str, count: int, data: Path) -> None:
    environment = unplayed(domain, data)
    assert isinstance(environment, Environment)
    assert environment.splits == {"base": count}
    tasks = environment.tasks("base")
    assert len({task.id for task in tasks}) == count
    assert all(environment.task(task.id) == task for task in tasks)
    assert {(task.environment, task.split) for task in tasks} == {(f"tau2/{domain}", "base")}


def test_tasks_that_begin_in_the_middle_of_a_conversation_are_left_out(data: Path) -> None:
    every = json.loads((SHARED / "domains/mock/tasks.json").read_text())
    begun = {task["id"] for task in every if (task.get("initial_state") or {}).get("message_history")}
    mock = unplayed("mock", data)
    assert {task["id"] for task in every} - {task.id for task in mock.tasks("base")} == begun | {CANNOT_FAIL}
    assert len(begun) == 2
    for task_id in begun:
        with pytest.raises(UsageError, match="unknown task"):
            mock.task(task_id)


def test_a_task_that_upstream_cannot_judge_unsolved_is_in_no_split_but_there_by_its_id(data: Path) -> None:
    mock = unplayed("mock", data)
    assert CANNOT_FAIL not in {task.id for task in mock.tasks("base")}
    assert mock.task(CANNOT_FAIL).split is None
    assert mock.oracle(mock.task(CANNOT_FAIL))


def test_upstreams_splits_are_offered_where_its_data_states_them(data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(data / "tau2/domains/mock", copy / "tau2/domains/mock")
    shutil.copytree(data / "tau2/user_simulator", copy / "tau2/user_simulator")
    stated = {"train": ["create_task_1", "not there"], "test": ["update_task_1"]}
    (copy / "tau2/domains/mock/split_tasks.json").write_text(json.dumps(stated))
    settings = Settings(python=NOWHERE, data=copy, user=UserChoice(kind=UserKind.NONE))
    environment = Tau2Environment("mock", settings)
    assert environment.splits == {"train": 1, "test": 1, "base": 6}
    assert [task.id for task in environment.tasks("test")] == ["update_task_1"]
    assert [task.split for task in environment.tasks("base")][:1] == ["train"]


def test_a_stated_base_split_is_the_one_that_upstream_reports_on(data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(data / "tau2/domains/mock", copy / "tau2/domains/mock")
    shutil.copytree(data / "tau2/user_simulator", copy / "tau2/user_simulator")
    stated = {
        "small": ["update_task_1"],
        "base": ["update_task_1", "create_task_1"],
        "train": ["update_task_1"],
        "test": ["create_task_1"],
    }
    (copy / "tau2/domains/mock/split_tasks.json").write_text(json.dumps(stated))
    environment = Tau2Environment("mock", Settings(python=NOWHERE, data=copy, user=UserChoice(kind=UserKind.NONE)))
    assert environment.splits == {"small": 1, "base": 2, "train": 1, "test": 1}
    tasks = environment.tasks("base")
    assert [(task.id, task.split) for task in tasks] == [("create_task_1", "test"), ("update_task_1", "train")]
    assert environment.task("impossible_task_1").split is None


def test_the_scripted_user_states_the_whole_scenario_and_a_model_opens_by_itself(data: Path) -> None:
    scripted = unplayed("airline", data).task("0").prompt
    assert scripted.startswith("You want to cancel reservation EHGLP3.")
    assert "Your user id is emma_kim_9957." in scripted
    assert unplayed("airline", data, UserKind.MODEL).task("0").prompt == ""
    assert unplayed("mock", data).task("impossible_task_1").prompt == "You want to delete all your current tasks."


def test_the_oracle_acts_says_what_is_due_and_lets_the_user_act(data: Path) -> None:
    assert unplayed("telecom", data).oracle(unplayed("telecom", data).task(BAD_MODE)) == [
        "Please go ahead.",
        ToolCall(name="refuel_data", arguments={"customer_id": "C1001", "line_id": "L1002", "gb_amount": 2.0}),
        "That is all done.",
    ]
    retail = unplayed("retail", data)
    told = [task for task in retail.tasks("base") if task.data["task"]["evaluation_criteria"]["communicate_info"]]
    for task in told:
        last = retail.oracle(task)[-1]
        assert all(part in last for part in task.data["task"]["evaluation_criteria"]["communicate_info"])


def test_altered_data_is_refused_with_both_hashes_and_accepted_by_its_own(data: Path) -> None:
    user = UserChoice(kind=UserKind.NONE)
    found, upstream = rebuilt(data), release("v0.2.0")["data"]["tau2/domains/airline/db.json"].removeprefix("git:")
    with pytest.raises(UsageError) as refused:
        assert Tau2Environment("airline", Settings(python=NOWHERE, data=data, user=user)).splits
    assert found in str(refused.value)
    assert upstream in str(refused.value)
    assert f"TRACE_AGENTS_TAU2_ACCEPT={found}" in str(refused.value)
    accepted = Settings(python=NOWHERE, data=data, accept=(found,), user=user)
    assert Tau2Environment("airline", accepted).splits == {"base": 50}
    other = accepted.model_copy(update={"accept": (found[:-1] + "x",)})
    with pytest.raises(UsageError, match="is not the one of tau2"):
        assert Tau2Environment("airline", other).splits


def test_missing_data_is_one_clear_line(tmp_path: Path) -> None:
    settings = Settings(python=NOWHERE, data=tmp_path, user=UserChoice(kind=UserKind.NONE))
    with pytest.raises(UsageError, match=r"tau2/domains/retail/db.json' cannot be read .*: set TAU2_DATA_DIR"):
        assert Tau2Environment("retail", settings).splits


def test_unknown_tasks_splits_and_seeds_are_refused(data: Path) -> None:
    environment = unplayed("retail", data)
    with pytest.raises(UsageError, match="unknown task '999' of environment 'tau2/retail': use for example '99'"):
        environment.task("999")
    with pytest.raises(UsageError, match="unknown split 'train': use one of 'base'"):
        environment.tasks("train")
    with pytest.raises(UsageError, match="fixed tasks only, none for seed 7"):
        environment.generate(7)


async def test_a_python_that_is_gone_and_a_user_without_a_model_are_refused(data: Path) -> None:
    environment = unplayed("mock", data)
    with pytest.raises(UsageError, match="'/nonexistent/python', the Python of benchmark 'tau2', cannot be run"):
        await environment.start(environment.task("create_task_1"))
    with pytest.raises(UsageError, match=r"model has no url .* set TRACE_AGENTS_USER_URL"):
        await unplayed("mock", data, UserKind.MODEL).start(environment.task("create_task_1"))
    with pytest.raises(UsageError, match="is of environment 'tau2/mock', not of 'tau2/retail'"):
        await unplayed("retail", data).start(environment.task("create_task_1"))
    with pytest.raises(UsageError, match="cannot be run"):
        assert environment.provenance
