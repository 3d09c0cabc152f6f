"""What a generator family is: seeded task instances that need one capability, with an oracle and a counterexample.

Families are found as environments are: by the name of an entry point (`helpdesk/unlock`), by
`package.module:attribute`, or by `path/to/file.py:attribute`, so that a family that a person or a language model
wrote into a run's folder loads like one that ships with the package.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, Protocol, cast, runtime_checkable

from trace_agents.environment import SyntheticEnvironment
from trace_agents.errors import UsageError, unknown
from trace_agents.registry import import_attribute
from trace_agents.types import Action, Capability, TaskInstance

GROUP = "trace_agents.families"


@runtime_checkable
class Family(Protocol):
    """A generator family: environments that train one capability of one target (G of Definition 2).

    The attribute that a spec names is called with the family's parameters as keywords and returns this.
    """

    slug: str
    """Names the family among those of its target."""
    target: str
    """Registered name of the target environment whose tools, state and policy the family keeps."""
    capability: Capability
    """What it trains, in its author's words; never compared with a mined capability's name (see `match.py`)."""
    parameters: Mapping[str, Any]
    """JSON values that make the same family again."""

    def environment(self, capability: Capability | None = None) -> SyntheticEnvironment:
        """The environment, in the name of the mined `capability` or of the family's own."""

    def targets(self, task: TaskInstance) -> bool:
        """The task needs the capability; False for a balance case, in which over-doing it fails."""

    def counterexample(self, task: TaskInstance) -> Sequence[Action]:
        """What an agent does that lacks exactly this capability; on a balance case it succeeds."""

    def easier(self) -> Family | None:
        """The family with less around the capability, so that an agent reaches it more often; None where nothing is
        left to take away."""


def family_names() -> list[str]:
    """Names of the registered families."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def load_family(spec: str, parameters: Mapping[str, Any] | None = None) -> Family:
    """The family called `spec` with `parameters` (None: its defaults).

    Raises:
        UsageError: nothing is registered or importable under `spec`, it is not a family, or takes other parameters.
    """
    points = {point.name: point for point in entry_points(group=GROUP)}
    if spec in points:
        factory = points[spec].load()
    elif ":" in spec:
        factory = import_attribute(spec, "family")
    else:
        raise unknown("family", spec, [*points, "package.module:Class", "file.py:Class"])
    if not callable(factory):
        raise UsageError(
            f"family {spec!r} is a {type(factory).__name__}: name a class or function that makes the family"
        )
    try:
        made = factory(**(parameters or {}))
    except TypeError as error:
        raise UsageError(f"family {spec!r} does not take the parameters {dict(parameters or {})!r}: {error}") from error
    if not isinstance(made, Family):
        raise UsageError(
            f"{spec!r} gives a {type(made).__name__}, not a family: it needs slug, target, capability, parameters, "
            "environment, targets, counterexample and easier (synth_envs.contract.Family)"
        )
    return cast(Family, made)


def families_of(target: str) -> dict[str, Family]:
    """The registered families of the target environment `target`, by spec."""
    loaded = {name: load_family(name) for name in family_names()}
    return {name: family for name, family in loaded.items() if family.target == target}


def targeted_tasks(family: Family, environment: SyntheticEnvironment, seeds: range) -> Iterator[TaskInstance]:
    """The tasks of `seeds` that need the capability, in order."""
    return (task for task in map(environment.generate, seeds) if family.targets(task))
