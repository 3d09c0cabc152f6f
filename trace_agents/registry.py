"""Finding environments by name: entry points, `module:attribute` and `file.py:attribute` paths, URLs, or files."""

from __future__ import annotations

import importlib
import importlib.util
import traceback
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import cast

from trace_agents.environment import Environment
from trace_agents.errors import UsageError, unknown

GROUP = "trace_agents.environments"
SCHEME_GROUP = "trace_agents.environment_schemes"
"""Entry points that open environments by URL: the name is a scheme (`http`), the object is called with the URL."""
FILE_GROUP = "trace_agents.environment_files"
"""Entry points that open environments described by a file: the name is the file's suffix without its dot (`toml`), the
object is called with the path."""

DESCRIPTION = "benchmark.toml"
"""The file that is meant where a folder is named."""
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
    with a task file and a checker, and so is the folder that holds it.

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
    elif Path(spec).is_dir():
        return load_environment(_described_in(spec))
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
        module = _imported(module_name, kind)
    except UsageError:
        raise
    except Exception as error:  # A file of someone else's may fail in any way while it is imported.
        raise UsageError(f"{kind} {spec!r} cannot be imported: {_import_fault(module_name, error)}") from error
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        made = [
            name
            for name, value in vars(module).items()
            if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
        ]
        remedy = f"use one of {', '.join(map(repr, sorted(made)))}" if made else "give the name of what it defines"
        fault = f"{module_name!r} defines no {attribute!r}"
        raise UsageError(f"{kind} {spec!r} cannot be imported: {fault}: {remedy}") from error


def _imported(module_name: str, kind: str) -> ModuleType:
    if not module_name.endswith(".py"):
        return importlib.import_module(module_name)
    path = Path(module_name)
    found = importlib.util.spec_from_file_location(path.stem, path)
    if found is None or found.loader is None or not path.exists():
        raise UsageError(f"{kind} file {module_name!r} does not exist: give a path to a Python file")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def _import_fault(module_name: str, error: Exception) -> str:
    """Why a module cannot be imported, and the remedy: it is not there, or its own code fails."""
    if isinstance(error, ModuleNotFoundError) and error.name and f"{module_name}.".startswith(f"{error.name}."):
        return f"there is no module {error.name!r}: install it, mend the name, or give the path of a Python file"
    frames = [one for one in traceback.extract_tb(error.__traceback__) if not one.filename.startswith("<frozen")]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames[-1].filename != __file__ else ""
    missing = isinstance(error, ModuleNotFoundError)
    remedy = "install what it imports, or mend the name there" if missing else "mend that file"
    return f"it raises {type(error).__name__}: {error}{place}: {remedy}"


def _described_in(folder: str) -> str:
    """The description of an environment in a folder."""
    found = Path(folder) / DESCRIPTION
    if not found.is_file():
        remedy = f"name a folder or a file that describes an environment, or begin with 'new-benchmark' ({SPELLINGS})"
        raise UsageError(f"folder {folder!r} holds no {DESCRIPTION!r}: {remedy}")
    return str(found)


def _open_url(url: str) -> object:
    scheme = url.partition(":")[0].lower()
    openers = _openers(SCHEME_GROUP)
    if scheme not in openers:
        raise unknown("URL scheme", scheme, list(openers))
    return openers[scheme].load()(url)


def _openers(group: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=group)}
