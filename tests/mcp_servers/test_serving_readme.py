"""The room's README runs, and names files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import mcp_servers

ROOM = Path(mcp_servers.__file__).parent
TEXT = (ROOM / "README.md").read_text(encoding="utf-8")


def test_the_files_that_the_readme_names_are_the_rooms_files() -> None:
    named = set(re.findall(r"^\| `([\w./]+)` \|", TEXT, re.MULTILINE))
    assert all((ROOM / name).exists() for name in named)
    assert {path.name for path in ROOM.glob("*.py")} - {"__init__.py"} <= named


def test_the_readmes_example_runs(capsys) -> None:
    [example] = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    exec(compile(example, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "10 tools" in printed
    assert "is_error=True" in printed
