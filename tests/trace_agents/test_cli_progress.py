"""Progress shows a bar per stage on a terminal and readable lines anywhere else."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from trace_agents.cli._progress import console, watch
from trace_agents.progress import Progress, SilentProgress


def drive(progress: Progress) -> None:
    """A run of two stages."""
    progress.note("resuming [run]")
    with progress.stage("rollouts", 480) as stage:
        stage.advance(400)
        stage.note("reward 0.61")
        stage.advance(80)
    with progress.stage("analysis") as stage:
        stage.total(10)
        stage.advance()


def shown(terminal: bool) -> str:
    out = io.StringIO()
    screen = Console(file=out, force_terminal=terminal, width=110, highlight=False, color_system=None)
    with watch(screen) as progress:
        assert isinstance(progress, Progress)
        drive(progress)
    return out.getvalue()


def test_lines_without_a_terminal_say_what_was_done() -> None:
    lines = shown(terminal=False).splitlines()
    assert lines[0] == "resuming [run]"
    assert lines[1].startswith("rollouts: 480/480 done in ")
    assert lines[2].startswith("analysis: 1/10 done in ")
    assert len(lines) == 3


def test_a_long_line_is_not_broken() -> None:
    out = io.StringIO()
    with watch(Console(file=out, width=40)) as progress:
        progress.note("word " * 30)
    assert out.getvalue().count("\n") == 1


def test_bars_on_a_terminal_name_each_stage_and_end_full() -> None:
    last = shown(terminal=True)
    assert "rollouts" in last
    assert "480/480" in last
    assert "1/1 " in last
    assert "resuming [run]" in last


@pytest.mark.parametrize("terminal", [False, True])
def test_a_stage_that_fails_lets_the_error_through(terminal: bool) -> None:
    screen = Console(file=io.StringIO(), force_terminal=terminal)
    with pytest.raises(RuntimeError, match="boom"), watch(screen) as progress, progress.stage("training", 3):
        raise RuntimeError("boom")


def test_the_silent_listener_takes_everything() -> None:
    silent = SilentProgress()
    assert isinstance(silent, Progress)
    drive(silent)


def test_output_that_is_no_terminal_is_wide_enough_for_the_tables() -> None:
    assert console().width >= 110
