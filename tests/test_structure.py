"""The house keeps its plan: imports go down, heavy libraries stay in their rooms, importing does nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = {
    "trace_agents.cli": 6,
    "graphs": 5,
    "training": 4,
    "synth_envs": 3,
    "mcp_servers": 2,
    "trace_agents": 1,
}
"""Room -> floor. A module may import rooms of its own floor and below; nobody imports the front door."""

HEAVY = {
    "torch": {"training"},
    "transformers": {"training"},
    "tokenizers": {"training"},
    "safetensors": {"training"},
    "peft": {"training"},
    "verifiers": {"training"},
    "langgraph": {"graphs"},
    "langchain": {"graphs"},
    "langchain_core": {"graphs"},
    "mcp": {"mcp_servers", "training"},
    "starlette": {"mcp_servers", "training", "trace_agents.cli"},
    "uvicorn": {"mcp_servers", "training", "trace_agents.cli"},
    "typer": {"trace_agents.cli"},
    "rich": {"trace_agents.cli"},
}
"""Library -> rooms that may import it; the front door may start a web server, inside a command."""

TOP_LEVEL = {
    "pyproject.toml",
    "constraints.txt",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "AGENTS.md",
    "Makefile",
    ".ci",
    ".gitignore",
    ".pre-commit-config.yaml",
    "configs",
    "docs",
    "trace_agents",
    "mcp_servers",
    "graphs",
    "synth_envs",
    "training",
    "tests",
}


def modules() -> list[Path]:
    """Every module of the five rooms."""
    rooms = [ROOT / room for room in FLOORS if "." not in room]
    return sorted(path for room in rooms for path in room.rglob("*.py"))


def name_of(path: Path) -> str:
    """Dotted name of the module at `path`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(name: str) -> str | None:
    """The room that the dotted `name` belongs to; None outside the house."""
    return next((room for room in FLOORS if name == room or name.startswith(f"{room}.")), None)


def imports(tree: ast.AST, package: str) -> Iterator[tuple[str, int]]:
    """(dotted name, line) of every import, those inside functions too; relative ones resolved in `package`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module, node.lineno
            yield from ((f"{module}.{alias.name}", node.lineno) for alias in node.names)


@cache
def parsed(path: Path) -> ast.Module:
    """The module at `path`."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imported(path: Path) -> list[tuple[str, int]]:
    """Imports of the module at `path`."""
    name = name_of(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return list(imports(parsed(path), package))


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_only_go_down(path: Path) -> None:
    room = room_of(name_of(path))
    assert room is not None
    up = {
        f"{name_of(path)}:{line} imports {name}"
        for name, line in imported(path)
        if (other := room_of(name)) is not None and (FLOORS[other] > FLOORS[room])
    }
    assert not up


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_heavy_libraries_stay_in_their_rooms(path: Path) -> None:
    room = room_of(name_of(path))
    strays = {
        f"{name_of(path)}:{line} imports {name}"
        for name, line in imported(path)
        if (allowed := HEAVY.get(name.split(".")[0])) is not None and room not in allowed
    }
    assert not strays


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_every_module_says_its_role(path: Path) -> None:
    assert ast.get_docstring(parsed(path)) or not parsed(path).body


def loaded_by(code: str) -> set[str]:
    """Top-level modules in `sys.modules` after `code` ran in a fresh interpreter."""
    script = f"import sys\n{code}\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(run.stdout.splitlines()[-1].split())


def test_importing_the_package_loads_no_heavy_library_and_prints_nothing() -> None:
    run = subprocess.run(
        [sys.executable, "-c", "import trace_agents"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert (run.stdout, run.stderr) == ("", "")
    assert not loaded_by("import trace_agents") & set(HEAVY)


def test_the_help_page_loads_neither_torch_nor_langgraph() -> None:
    code = "from trace_agents.cli import main\nassert main(['--help']) == 0"
    assert not loaded_by(code) & (set(HEAVY) - {"typer", "rich"})


def test_importing_a_room_reads_no_network_setting_and_writes_nothing(tmp_path: Path) -> None:
    code = f"import os; os.chdir({str(tmp_path)!r})\nimport trace_agents, mcp_servers, synth_envs"
    assert "torch" not in loaded_by(f"sys.path.insert(0, {str(ROOT)!r})\n{code}")
    assert list(tmp_path.iterdir()) == []


def tracked() -> set[str] | None:
    """Top-level names that git knows or would add; None outside a checkout."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    except (OSError, subprocess.CalledProcessError):
        return None
    return {line.split("/")[0] for line in run.stdout.splitlines() if (ROOT / line).exists()}


def test_the_top_level_is_exactly_the_plan() -> None:
    found = tracked()
    if found is None:
        pytest.skip("not a git checkout")
    assert found == TOP_LEVEL


def test_continuous_integration_runs_the_tests() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert "make test" in script.read_text()
