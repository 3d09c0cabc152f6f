"""Documentation holds: its commands and targets exist, its paths exist, its Python runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from trace_agents.cli._app import COMMANDS, LazyGroup
from trace_agents.environment import Environment
from trace_agents.registry import load_environment

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "AGENTS.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
PAGES += sorted(ROOT.glob("*/README.md"))
ROOMS = ("trace_agents", "mcp_servers", "graphs", "synth_envs", "training", "tests", "docs", "configs", ".ci")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def page_id(value: Any) -> str | None:
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else None


def blocks(language: str) -> list[tuple[Path, str]]:
    """(page, text) of every fenced block of `language`."""
    return [(page, text) for page in PAGES for kind, text in FENCE.findall(page.read_text()) if kind == language]


def commands() -> list[tuple[Path, list[str]]]:
    """(page, words) of every shell command that is ours."""
    found = []
    for page, text in blocks("sh"):
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] in ("make", "trace-agents"):
                found.append((page, words))
    return found


def targets() -> set[str]:
    """Targets of the Makefile."""
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def options_of(command: str) -> set[str]:
    """Every option of a command."""
    group = typer.main.get_command(_group())
    single = group.get_command(None, command)
    return {"--help"} | {name for parameter in single.params for name in (*parameter.opts, *parameter.secondary_opts)}


def _group() -> typer.Typer:
    app = typer.Typer(cls=LazyGroup)
    app.callback()(lambda: None)
    return app


@pytest.mark.parametrize(("page", "words"), commands(), ids=lambda value: page_id(value) or " ".join(value)[:60])
def test_every_shell_command_exists(page: Path, words: list[str]) -> None:
    if words[0] == "make":
        assert {word for word in words[1:] if "=" not in word and not word.startswith("-")} <= targets()
        return
    if words[1].startswith("--"):
        assert words[1] in ("--help", "--version")
        return
    assert words[1] in COMMANDS
    options = {word.partition("=")[0] for word in words[2:] if word.startswith("--")}
    assert options <= options_of(words[1])


@pytest.mark.parametrize(("page", "text"), blocks("python"), ids=lambda value: page_id(value) or "code")
def test_every_python_block_runs(page: Path, text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(text, f"{page.name} block", "exec"), {"__name__": "block"})


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    named = re.findall(r"`([\w.\-/]+/[\w.\-/]*)`", page.read_text())
    ours = {name for name in named if name.split("/")[0] in ROOMS}
    links = set(re.findall(r"\]\(([^)#:]+)\)", page.read_text()))
    missing = {name for name in ours if not (ROOT / name).exists()}
    missing |= {link for link in links if not (page.parent / link).exists()}
    assert not missing


def test_the_help_page_of_make_lists_every_target() -> None:
    text = (ROOT / "Makefile").read_text()
    assert targets() == set(re.findall(r"^([a-z-]+):.*## ", text, re.MULTILINE))


def test_the_readme_shows_real_output_of_the_demo_on_its_first_screen() -> None:
    head = (ROOT / "README.md").read_text().splitlines()[:60]
    assert "<!-- demo-output -->" in head
    assert "make demo" in " ".join(head)


def test_the_readmes_environment_is_registered() -> None:
    assert isinstance(load_environment("helpdesk"), Environment)
