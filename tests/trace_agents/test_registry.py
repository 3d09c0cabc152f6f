"""What is named by a path is found, or the refusal says which of its parts is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from trace_agents.errors import UsageError
from trace_agents.registry import import_attribute, load_environment

MODULE = """\
import json
LIMIT = 3
def check(): ...
class Desk: ...
"""
REFUSED: dict[str, tuple[str, str, str]] = {
    "no such attribute": (MODULE, "check.py:chek", r"'.*check.py' defines no 'chek': use one of 'Desk', 'check'$"),
    "nothing is defined": ("import json\n", "check.py:check", "defines no 'check': give the name of what it defines$"),
    "an import of its own fails": (
        "\nimport jsonn\n",
        "check.py:check",
        r"raises ModuleNotFoundError: No module named 'jsonn' \(check.py, line 2\): install what it imports, or mend",
    ),
    "its code fails": (
        "1 / 0\n",
        "check.py:check",
        r"raises ZeroDivisionError: .* \(check.py, line 1\): mend that file$",
    ),
    "it is no Python": (
        "def oops(:\n",
        "check.py:check",
        r"raises SyntaxError: .* \(check.py, line 1\): mend that file$",
    ),
    "no such file": (MODULE, "chek.py:check", "checker file '.*chek.py' does not exist: give a path to a Python file$"),
}


@pytest.mark.parametrize(("text", "spec", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_imported_is_told_by_its_cause(tmp_path: Path, text: str, spec: str, message: str) -> None:
    (tmp_path / "check.py").write_text(text)
    with pytest.raises(UsageError, match=message):
        import_attribute(f"{tmp_path}/{spec}", "checker")


def test_a_module_that_is_not_there_is_told_from_one_that_it_imports() -> None:
    for spec in ("no_such_room.desk:Desk", "trace_agents.no_such_room:Desk"):
        with pytest.raises(UsageError, match=r"there is no module '\w*\.?no_such_room': install it, mend the name"):
            import_attribute(spec)


def test_a_folder_is_opened_by_the_description_that_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = Path(__file__).parents[2] / "docs" / "examples" / "library"
    monkeypatch.chdir(library)
    assert {load_environment(spec).name for spec in (".", str(library), str(library / "benchmark.toml"))} == {"library"}
    with pytest.raises(UsageError, match=r"folder '.*' holds no 'benchmark.toml': name a folder or a file"):
        load_environment(str(tmp_path))
