"""Finding environments by name: entry points, `module:attribute` and `file.py:attribute` paths, URLs, or files."""

from __future__ import annotations

import importlib
import importlib.util
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import cast

from trace_agents.environment import Environment
from trace_agents.errors import UsageError, unknown

GROUP = "trace_agents.environments"
SCHEME_GROUP = "trace_agents.environment_schemes"
"""Entry points that open environments by URL: the name is a scheme (`http`), the object is called with the URL."""
FILE_GROUP = "trace_agents.environment_files"
"""Entry points that open environments described by a file: the name is the file's suffix without its dot (`toml`), the
object is called with the path."""

NOT_REGISTERED = ("package.module:Class", "file.py:Class", "path/benchmark.toml", "verifiers:NAME", "http://HOST:PORT")
"""How environments are named that are not registered."""
SPELLINGS = f"a registered name, {', '.join(map(repr, NOT_REGISTERED[:-1]))} or {NOT_REGISTERED[-1]!r}"
"""How an environment is named, for help texts: everywhere in the same words."""


def environment_names() -> list[str]:
    """Names of the registered environments."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def load_environment(spec: str) -> Environment:
    """The environment called `spec`: a registered name, `module:factory`, `path/file.py:factory`, a URL or a file.

    A class or function is called without arguments; an instance is used as it is. A URL is opened by what is
    registered for its scheme (`SCHEME_GROUP`): `http://host:port` is an environment that another process serves. A
    path is opened by what is registered for its suffix (`FILE_GROUP`): `path/benchmark.toml` is an existing MCP server
    with a task file and a checker.

    Raises:
        UsageError: nothing is registered or importable under `spec`, or it is not an environment.
    """
    points = _openers(GROUP)
    if spec in points:
        target = points[spec].load()
    elif "://" in spec or spec.partition(":")[0] in _openers(SCHEME_GROUP):
        target = _open_url(spec)
    elif (suffix := Path(spec).suffix.removeprefix(".")) in _openers(FILE_GROUP):
        target = _openers(FILE_GROUP)[suffix].load()(Path(spec))
    elif ":" in spec:
        target = import_attribute(spec)
    else:
        raise unknown("environment", spec, [*points, *NOT_REGISTERED])
    made = target if not callable(target) else target()
    if not isinstance(made, Environment):
        raise UsageError(
            f"{spec!r} gives a {type(made).__name__}, not an environment: it needs name, splits, tasks, task, "
            "generate and start (trace_agents.environment.Environment)"
        )
    return cast(Environment, made)


def import_attribute(spec: str, kind: str = "environment") -> object:
    """What `package.module:attribute` or `path/file.py:attribute` names; `kind` is what errors call it.

    Raises:
        UsageError: no such file, module or attribute.
    """
    module_name, _, attribute = spec.rpartition(":")
    try:
        if module_name.endswith(".py"):
            path = Path(module_name)
            found = importlib.util.spec_from_file_location(path.stem, path)
            if found is None or found.loader is None or not path.exists():
                raise UsageError(f"{kind} file {module_name!r} does not exist: give a path to a Python file")
            module = importlib.util.module_from_spec(found)
            found.loader.exec_module(module)
        else:
            module = importlib.import_module(module_name)
        return getattr(module, attribute)
    except UsageError:
        raise
    except Exception as error:  # A file of someone else's may fail in any way while it is imported.
        raise UsageError(f"{kind} {spec!r} cannot be imported ({error}): give 'module:attribute'") from error


def _open_url(url: str) -> object:
    scheme = url.partition(":")[0].lower()
    openers = _openers(SCHEME_GROUP)
    if scheme not in openers:
        raise unknown("URL scheme", scheme, list(openers))
    return openers[scheme].load()(url)


def _openers(group: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=group)}
