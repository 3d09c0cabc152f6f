"""What an environment with a list of tasks answers when it is asked for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from trace_agents.errors import UsageError
from trace_agents.task_list import TaskList
from trace_agents.types import TaskInstance


def task(task_id: str, split: str | None) -> TaskInstance:
    return TaskInstance(id=task_id, environment="shelf", split=split, prompt="", data={})


class Shelf(TaskList):
    name = "shelf"
    instances: Mapping[str, TaskInstance] = {
        one.id: one for one in (task("b-2", "test"), task("a-1", "train"), task("c-3", None), task("a-0", "train"))
    }


class Shared(Shelf):
    split_ids: Mapping[str, Sequence[str]] = {"small": ["a-0"], "all": ["a-0", "b-2"], "none": []}


def test_tasks_are_in_the_split_that_they_name_in_the_lists_order() -> None:
    shelf = Shelf()
    assert shelf.splits == {"test": 1, "train": 2}
    assert [one.id for one in shelf.tasks("train")] == ["a-1", "a-0"]
    assert shelf.task("c-3").split is None


def test_splits_that_are_stated_may_share_tasks_and_may_be_empty() -> None:
    shared = Shared()
    assert shared.splits == {"small": 1, "all": 2, "none": 0}
    assert [one.id for one in shared.tasks("all")] == ["a-0", "b-2"]
    assert shared.tasks("none") == []


def test_what_there_is_not_is_refused_with_what_there_is() -> None:
    shelf = Shelf()
    with pytest.raises(UsageError, match="unknown split 'tain': use one of 'test', 'train'"):
        shelf.tasks("tain")
    with pytest.raises(UsageError, match="unknown task 'a_1' of environment 'shelf': use for example 'a-1'"):
        shelf.task("a_1")
    with pytest.raises(UsageError, match="environment 'shelf' has fixed tasks only, none for seed 3"):
        shelf.generate(3)


def test_an_environment_without_tasks_says_so() -> None:
    class Empty(Shelf):
        instances: Mapping[str, TaskInstance] = {}

    assert Empty().splits == {}
    with pytest.raises(UsageError, match="unknown task 'a-1' of environment 'shelf': it has no tasks at all"):
        Empty().task("a-1")
