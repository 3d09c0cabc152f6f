"""A taskset of verifiers' as an environment: `load_environment("verifiers:NAME")`."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from importlib.metadata import packages_distributions, version
from typing import Any, Literal, get_args, get_origin
from urllib.parse import urlsplit

import verifiers.v1 as vf
from pydantic import BaseModel
from verifiers.v1.configs.agent import agent_config_fields
from verifiers.v1.configs.client import resolve_api_key
from verifiers.v1.utils.loaders import env_config_type, load_environment, resolve_env_config, taskset_config_type

from trace_agents.environment import ResultsRequest
from trace_agents.errors import TaskUnavailable, UsageError, unknown
from trace_agents.types import Action, TaskInstance, ToolCall
from training.taskset_environment.conversation import opening
from training.taskset_environment.episode import Table, TasksetEpisode
from training.taskset_environment.options import Options, problems, read_options
from training.taskset_environment.servers import SharedServers, the_nursery

WHOLE = "all"
"""The split of a taskset that has none."""
DEALT = ("train", "validation", "test")
LOCAL = ("localhost", "127.0.0.1", "::1")


def open_taskset(spec: str) -> TasksetEnvironment:
    """The environment of `verifiers:NAME?setting=value&…`.

    NAME is what verifiers finds the taskset by, or a folder that holds its package. Settings are those of the taskset's
    config, nested ones with dots (`task.rewards.NAME.weight=0.5`); ours are `success` (least reward of a success, 1),
    `env` (verifiers' environment that plays it) and `deal` (shares of train, validation and test).

    Raises:
        UsageError: there is no such taskset, or it cannot be an environment.
    """
    options = read_options(spec)
    try:
        splits = _splits(options)
        envs = {split: _load(options, config) for split, config in splits.items()}
        solved = callable(getattr(type(next(iter(envs.values())).taskset).task_type(), "oracle", None))
        return (SolvedTasksetEnvironment if solved else TasksetEnvironment)(options, envs)
    except UsageError:
        raise
    except Exception as error:  # A package of someone else's may fail in any way while it is imported.
        raise UsageError(f"environment {spec!r} cannot be opened: {_said(error)}") from error


def _splits(options: Options) -> dict[str, dict[str, Any]]:
    """Split -> the taskset's settings: one for each value of a setting `split` that lists its values."""
    field = taskset_config_type(options.taskset).model_fields.get("split")
    values = get_args(field.annotation) if field is not None and get_origin(field.annotation) is Literal else ()
    if "split" in options.config:
        return {str(options.config["split"]): options.config}
    return {value: {**options.config, "split": value} for value in values} or {WHOLE: options.config}


def _load(options: Options, config: Mapping[str, Any]) -> vf.Env:
    """verifiers' own environment over the taskset.

    Raises:
        UsageError: it seats other than one agent, or holds resources between episodes.
    """
    fields = env_config_type(options.taskset, options.env).model_fields
    seats = [name for name, field in fields.items() if isinstance(field.default, vf.AgentConfig)]
    if len(seats) != 1:
        raise UsageError(
            f"taskset {options.taskset!r} is played by {len(seats)} agents ({', '.join(seats)}), an episode by one: "
            "name an environment of one agent, as in 'verifiers:NAME?env=single-agent'"
        )
    quiet = {seats[0]: {"harness": {"id": "null"}, "runtime": {"type": "subprocess"}}}
    env = load_environment(
        resolve_env_config({"id": options.env, "taskset": {**config, "id": options.taskset}, **quiet})
    )
    assert list(agent_config_fields(env.config)) == seats
    if type(env).start is not vf.Env.start or type(env).stop is not vf.Env.stop:
        raise UsageError(f"environment {type(env).__name__!r} of {options.taskset!r} holds resources between episodes")
    return env


class TasksetEnvironment:
    """The `Environment` contract over a taskset; each episode is a rollout of verifiers'."""

    def __init__(self, options: Options, envs: Mapping[str, vf.Env]) -> None:
        """The environment over `envs`, one for each split of the taskset's own.

        Raises:
            UsageError: it deals tasks without end, or a taskset that has splits.
        """
        self.name = options.spec
        self._options, self._envs = options, dict(envs)
        self._taskset = next(iter(envs.values())).taskset
        if options.deal and (len(envs) > 1 or not self._taskset.bounded):
            why = "has splits of its own" if len(envs) > 1 else "has no end"
            raise UsageError(f"taskset {options.taskset!r} {why}, so that its tasks cannot be dealt: leave 'deal' out")
        self._stream: Iterator[vf.Task] | None = None
        self._drawn: list[vf.Task] = []
        kind = type(self._taskset)
        config = self._taskset.config
        toolsets = [*kind.toolsets(config), *kind.task_type().toolsets(config.task)]
        modules = frozenset(type(one).__module__ for one in toolsets if _is_local(one))
        self._table = Table(modules, SharedServers(kind.toolsets(config)), options.success)

    @property
    def splits(self) -> Mapping[str, int]:
        """Number of fixed tasks of each split; none where the taskset has no end."""
        return {split: len(tasks) for split, tasks in self._fixed.items()}

    @property
    def provenance(self) -> Mapping[str, str]:
        """Versions of verifiers and the taskset, and a hash of its tasks."""
        module = type(self._taskset).__module__.partition(".")[0]
        known = packages_distributions().get(module, [])
        tasks = hashlib.sha256("".join(task.data["hash"] for task in self._every.values()).encode()).hexdigest()
        return {
            "verifiers": version("verifiers"),
            "taskset": " ".join(f"{name} {version(name)}" for name in known) or module,
            "tasks": tasks if self._every else "generated",
        }

    def prepare(self) -> None:
        """Start loading what forks the tool servers."""
        if self._table.modules:
            the_nursery().prepare()

    def tasks(self, split: str) -> Sequence[TaskInstance]:
        """The split's tasks, in the taskset's order."""
        if split not in self._fixed:
            raise unknown(f"split of {self.name!r}", split, list(self._fixed))
        return self._fixed[split]

    def task(self, task_id: str) -> TaskInstance:
        """The task with this id."""
        if self._taskset.bounded:
            if task_id not in self._every:
                raise unknown(f"task of {self.name!r}", task_id, list(self._every))
            return self._every[task_id]
        seed = task_id.removeprefix("seed-")
        if not seed.isdecimal() or task_id != f"seed-{int(seed)}":
            raise UsageError(f"unknown task of {self.name!r} {task_id!r}: its tasks are 'seed-0', 'seed-1' and so on")
        return self.generate(int(seed))

    def generate(self, seed: int) -> TaskInstance:
        """The task at place `seed` of a taskset without end."""
        if self._taskset.bounded:
            raise UsageError(f"environment {self.name!r} has fixed tasks only, none for seed {seed!r}: use a split's")
        if seed < 0:
            raise UsageError(f"seed {seed!r} of {self.name!r} is negative: its tasks are counted from 0")
        if self._stream is None:
            self._stream = iter(self._taskset)
        try:
            self._drawn += itertools.islice(self._stream, max(0, seed + 1 - len(self._drawn)))
        except Exception as error:
            raise UsageError(f"environment {self.name!r} cannot load its tasks: {_said(error)}") from error
        return self._instance(f"seed-{seed}", self._drawn[seed], None, seed)

    async def start(self, task: TaskInstance) -> TasksetEpisode:
        """A fresh rollout of `task`.

        Raises:
            TaskUnavailable: it needs what is not here. InfrastructureError: it could not be set up.
        """
        self.task(task.id)
        split, found = self._found[task.id]
        _check_judges(task, found)
        episode = TasksetEpisode(task, self._envs.get(split or "", next(iter(self._envs.values()))), self._table)
        await episode.begin(found)
        return episode

    def results(self, request: ResultsRequest) -> Mapping[str, str]:
        """`traces.jsonl`, as verifiers' own evaluation writes it."""
        return {"traces.jsonl": "".join(_line(request, request.records.get(one.id)) for one in request.trajectories)}

    @cached_property
    def _found(self) -> dict[str, tuple[str | None, vf.Task]]:
        """Task id -> the taskset's split that it is from, and verifiers' task; filled as tasks are listed or drawn."""
        return {}

    @cached_property
    def _fixed(self) -> dict[str, tuple[TaskInstance, ...]]:
        if not self._taskset.bounded:
            return {}
        listed: dict[str, tuple[TaskInstance, ...]] = {}
        for split, env in self._envs.items():
            tasks = self._loaded(env)
            names = _names(tasks)
            if len(self._envs) > 1:
                names = [f"{split}-{name}" for name in names]
            listed[split] = tuple(self._instance(name, task, split) for name, task in zip(names, tasks, strict=True))
        return _dealt(next(iter(listed.values())), self._options.deal) if self._options.deal else listed

    def _loaded(self, env: vf.Env) -> list[vf.Task]:
        try:
            return list(env.taskset)
        except Exception as error:  # Data may be missing, or what reads it.
            raise UsageError(f"environment {self.name!r} cannot load its tasks: {_said(error)}") from error

    @cached_property
    def _every(self) -> dict[str, TaskInstance]:
        return {task.id: task for tasks in self._fixed.values() for task in tasks}

    def _instance(self, name: str, task: vf.Task, split: str | None, seed: int | None = None) -> TaskInstance:
        self._found[name] = (split, task)
        try:
            prompt = opening(task.data)[1]
        except TaskUnavailable:  # It is listed, and says so when it is to be played.
            prompt = task.data.prompt_text
        if type(next(iter(self._envs.values()))).run is not vf.SingleAgentEnv.run:
            prompt = ""  # Its user speaks first, who may keep what the data calls a prompt to herself.
        return TaskInstance(
            id=name, environment=self.name, split=split, seed=seed, prompt=prompt, data={"hash": task.hash}
        )


class SolvedTasksetEnvironment(TasksetEnvironment):
    """A taskset whose tasks have a method `oracle`, which says how they are solved."""

    def oracle(self, task: TaskInstance) -> Sequence[Action]:
        """Gold actions: calls as `{"name": …, "arguments": {…}}`, and texts."""
        self.task(task.id)
        asked: Callable[[], Sequence[Any]] = self._found[task.id][1].oracle  # type: ignore[attr-defined]
        actions = [one if isinstance(one, str) else ToolCall.model_validate(one) for one in asked()]
        if not actions:
            raise UsageError(f"task {task.id!r} of {self.name!r} has no gold actions")
        return actions


def _said(error: Exception) -> str:
    """An error of the taskset's package, in one line, with the cause that verifiers leaves out."""
    said = problems(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
    return f"{said} ({error.__cause__})" if isinstance(error.__cause__, ImportError) else said


def _is_local(toolset: vf.Toolset) -> bool:
    """The toolset's server runs on this machine, in a process of its own."""
    if toolset.config.url:
        return False
    return isinstance(toolset.config.runtime, vf.SubprocessConfig)


def _names(tasks: Sequence[vf.Task]) -> list[str]:
    """An id for each task: the first of its id, key and name that all have, each its own; else its place."""
    for candidates in (
        [task.data.id for task in tasks],
        [task.key if type(task).key is not vf.Task.key else None for task in tasks],
        [task.data.name for task in tasks],
    ):
        if all(candidates) and max(Counter(candidates).values(), default=1) == 1:
            return [str(one) for one in candidates]
    return [str(place) for place in range(len(tasks))]


def _dealt(tasks: Sequence[TaskInstance], shares: Sequence[int]) -> dict[str, tuple[TaskInstance, ...]]:
    """The tasks in three splits, by a hash of their ids: new tasks leave the others nearly where they were."""
    mixed = sorted(tasks, key=lambda task: hashlib.sha256(task.id.encode()).digest())
    ends = [round(len(tasks) * share / sum(shares)) for share in itertools.accumulate(shares)]
    blocks = [mixed[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    return {
        split: tuple(task.model_copy(update={"split": split}) for task in block)
        for split, block in zip(DEALT, blocks, strict=True)
    }


def _check_judges(instance: TaskInstance, task: vf.Task) -> None:
    """Raise TaskUnavailable where a judge model of the task's config has no key."""
    for judge in _judges(task.config):
        if resolve_api_key(judge) == "EMPTY" and urlsplit(judge.base_url).hostname not in LOCAL:
            raise TaskUnavailable(
                f"task {instance.id!r} of {instance.environment!r} is judged by {judge.model!r} at {judge.base_url!r}: "
                f"set {judge.api_key_var}, or set the judge's base_url and model to a local one"
            )


def _judges(config: Any) -> Iterator[vf.JudgeConfig]:
    if isinstance(config, vf.JudgeConfig):
        yield config
    elif isinstance(config, BaseModel):
        for name in type(config).model_fields:
            yield from _judges(getattr(config, name))
    elif isinstance(config, list | tuple):
        for one in config:
            yield from _judges(one)


def _line(request: ResultsRequest, record: Mapping[str, Any] | None) -> str:
    """A trace as its line, with the model that acted."""
    if record is None:
        return ""
    agent = {**record["agent"], "config": {**record["agent"]["config"], "model": request.model}}
    return json.dumps({**record, "agent": agent}) + "\n"
