"""Checks of shapes: what an environment lists, refuses and generates, and what an episode offers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from mcp_servers.conformance.findings import Fault, Skip, shown
from mcp_servers.conformance.subject import Subject
from trace_agents.environment import Environment, Episode
from trace_agents.errors import UsageError
from trace_agents.types import TaskInstance, ToolSpec, UserTurn

SEEDS = (0, 1, 7)
NOWHERE = "no-such-thing-0b1f"


async def task_lists(subject: Subject) -> None:
    """Splits of the stated size, the same lists each time, a task alike in all of them, and found by its id."""
    environment = subject.environment
    listed: dict[str, TaskInstance] = {}
    members: dict[str, set[str]] = {}
    for split, count in environment.splits.items():
        tasks = list(environment.tasks(split))
        if len(tasks) != count:
            raise Fault(f"split {split!r} is said to have {count} tasks and has {len(tasks)}", "make `splits` say so")
        if tasks != list(environment.tasks(split)):
            raise Fault(f"split {split!r} is another list when asked again", "list the same tasks in the same order")
        members[split] = {task.id for task in tasks}
        if len(members[split]) < len(tasks):
            [(task_id, times)] = Counter(task.id for task in tasks).most_common(1)
            raise Fault(f"task id {task_id!r} is used {times} times in split {split!r}", "name apart")
        for task in tasks:
            if listed.setdefault(task.id, task) != task:
                raise Fault(f"task id {task.id!r} names two tasks, one of split {split!r}", "name apart")
    strays = [task for task in listed.values() if task.id not in members.get(task.split or "", ())]
    if strays:
        found = f"task {strays[0].id!r} says split {strays[0].split!r}, which does not list it"
        raise Fault(found, "set `split` of each task to one that lists it")
    for task in subject.tasks:
        if environment.task(task.id) != task:
            raise Fault(f"task({task.id!r}) is not the task that is listed or generated", "make `task` find that one")
        if task.environment != environment.name:
            found = f"task {task.id!r} says environment {task.environment!r}, not {environment.name!r}"
            raise Fault(found, "give each task the environment's name")


async def travel(subject: Subject) -> None:
    """Task instances are the same after a journey as JSON."""
    for task in subject.tasks:
        try:
            same = TaskInstance.model_validate_json(task.model_dump_json()) == task
        except ValueError as error:
            raise Fault(f"task {task.id!r} is not JSON: {shown(str(error))}", "keep `data` to JSON values") from error
        if not same:
            raise Fault(f"the data of task {task.id!r} changes as JSON", "keep `data` to lists, not tuples or sets")


async def refusals(subject: Subject) -> None:
    """Unknown splits and ids are a `UsageError`."""
    environment = subject.environment
    for what, ask in (("split", environment.tasks), ("task id", environment.task)):
        try:
            found: object = ask(NOWHERE)
        except UsageError:
            continue
        except Exception as error:
            found = error
        raise Fault(f"an unknown {what} gives {shown(repr(found))}", "raise UsageError that names what there is")


async def generation(subject: Subject) -> None:
    """A seed gives the same task each time, other seeds others, and its id finds it again."""
    environment = subject.environment
    try:
        made = [environment.generate(seed) for seed in SEEDS]
    except UsageError as error:
        if not environment.splits:
            raise Fault(f"there are no splits, and seed 0 gives {error}", "list tasks or generate them") from error
        raise Skip("it has fixed tasks only") from None
    for seed, task in zip(SEEDS, made, strict=True):
        if environment.generate(seed) != task:
            raise Fault(f"seed {seed} gives another task when asked again", "draw from random.Random(seed) only")
        if environment.task(task.id) != task:
            raise Fault(f"task({task.id!r}) is not what seed {seed} gives", "make `task` find generated tasks too")
        if task.seed != seed:
            raise Fault(f"the task of seed {seed} says seed {task.seed!r}", "set `seed` of generated tasks")
    if len({task.id for task in made}) < len(SEEDS):
        raise Fault(f"seeds {SEEDS} share task ids: {[task.id for task in made]}", "put the seed into the id")


async def episode_shape(subject: Subject) -> None:
    """An episode has its task, tools and policy; the first message is there; the user's answer is a `UserTurn`."""
    if not isinstance(subject.environment, Environment) or not subject.environment.name:
        raise Fault("it has no name", "give the environment a name")
    for task in subject.tasks:
        episode = await subject.environment.start(task)
        try:
            _check_episode(episode, task)
            turn = await episode.user_turn("Hello.")
            if not isinstance(turn, UserTurn):
                raise Fault(f"user_turn gives {shown(repr(turn))}", "return a UserTurn")
        finally:
            await episode.close()


def _check_episode(episode: Episode, task: TaskInstance) -> None:
    if not isinstance(episode, Episode):
        raise Fault(f"start gives a {type(episode).__name__}", "return an Episode (trace_agents.environment.Episode)")
    if episode.task.id != task.id:
        raise Fault(f"the episode of task {task.id!r} plays {episode.task.id!r}", "play the task that is asked for")
    if not episode.task.prompt.strip():
        raise Fault(f"the episode of task {task.id!r} has no prompt", "give the user's first message")
    if not isinstance(episode.policy, str):
        raise Fault(f"the policy is a {type(episode.policy).__name__}", "give the policy as text, empty for none")


async def schemas(subject: Subject) -> None:
    """Tools have unique names and valid JSON Schemas of objects, as MCP carries them."""
    for task in subject.tasks:
        async with subject.episode(task) as episode:
            check_schemas(episode.tools)


def check_schemas(tools: Sequence[ToolSpec]) -> None:
    """Every schema of `tools` is JSON Schema.

    Raises:
        Fault: one is not.
    """
    for spec in tools:
        for kind, schema in (("input_schema", spec.input_schema), ("output_schema", spec.output_schema)):
            try:
                Draft202012Validator.check_schema(schema if schema is not None else {})
            except SchemaError as error:
                found = f"{kind} of tool {spec.name!r} is not JSON Schema: {error.message}"
                raise Fault(found, f"mend it at {error.json_path}") from error
