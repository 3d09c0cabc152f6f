"""The room's README holds: its files exist and its example runs."""

import re
from pathlib import Path

import pytest

import synth_envs

ROOM = Path(synth_envs.__file__).parent
TEXT = (ROOM / "README.md").read_text(encoding="utf-8")


def test_every_file_of_the_table_exists_and_every_module_is_in_the_table():
    named = set(re.findall(r"^\| `(\w+(?:\.py|/))` \|", TEXT, re.MULTILINE))
    assert all((ROOM / name).exists() for name in named)
    modules = {path.name for path in ROOM.glob("*.py")} - {"__init__.py"}
    folders = {f"{path.parent.name}/" for path in ROOM.glob("*/__init__.py")}
    assert modules | folders == named


@pytest.mark.parametrize("code", re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL))
def test_every_example_runs(code, capsys):
    exec(compile(code, "README.md", "exec"), {"__name__": "example"})
    assert "counterexample 0.0 <= 0.05" in capsys.readouterr().out
