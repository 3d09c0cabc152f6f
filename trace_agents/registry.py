"""Finding environments by name: entry points, or `module:attribute` and `file.py:attribute` paths."""

from __future__ import annotations

import importlib
import importlib.util
from importlib.metadata import entry_points
from pathlib import Path
from typing import cast

from trace_agents.environment import Environment
from trace_agents.errors import UsageError, unknown

GROUP = "trace_agents.environments"


def environment_names() -> list[str]:
    """Names of the registered environments."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def load_environment(spec: str) -> Environment:
    """The environment called `spec`: a registered name, `package.module:factory` or `path/file.py:factory`.

    A class or function is called without arguments; an instance is used as it is.

    Raises:
        UsageError: nothing is registered or importable under `spec`, or it is not an environment.
    """
    points = {point.name: point for point in entry_points(group=GROUP)}
    if spec in points:
        target = points[spec].load()
    elif ":" in spec:
        target = _import_path(spec)
    else:
        raise unknown("environment", spec, [*points, "package.module:Class", "file.py:Class"])
    made = target if not callable(target) else target()
    if not isinstance(made, Environment):
        raise UsageError(
            f"{spec!r} gives a {type(made).__name__}, not an environment: it needs name, splits, tasks, task, "
            "generate and start (trace_agents.environment.Environment)"
        )
    return cast(Environment, made)


def _import_path(spec: str) -> object:
    module_name, _, attribute = spec.rpartition(":")
    try:
        if module_name.endswith(".py"):
            path = Path(module_name)
            found = importlib.util.spec_from_file_location(path.stem, path)
            if found is None or found.loader is None or not path.exists():
                raise UsageError(f"environment file {module_name!r} does not exist: give a path to a Python file")
            module = importlib.util.module_from_spec(found)
            found.loader.exec_module(module)
        else:
            module = importlib.import_module(module_name)
        return getattr(module, attribute)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"environment {spec!r} cannot be imported ({error}): give 'module:attribute'") from error
