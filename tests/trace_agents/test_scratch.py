"""Folders of what plays: gone with it, and gone at the next start where their process was killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from trace_agents import scratch as module
from trace_agents.scratch import scratch, sweep

PREFIX = "trace-agents-test-"
HOLDS = f"""\
import sys
from trace_agents.scratch import scratch
with scratch({PREFIX!r}) as folder:
    (folder / "locked").mkdir()
    (folder / "locked" / "state").write_text("x")
    (folder / "locked").chmod(0o500)
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files, for this process and those that it starts."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(module, "_swept", set())
    return tmp_path


@contextmanager
def holder() -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process that holds a folder until it is killed, or its input ends; and the folder."""
    command = [sys.executable, "-c", HOLDS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())


def test_a_folder_is_empty_and_gone_at_the_end_whatever_was_put_into_it(here: Path) -> None:
    with scratch(PREFIX) as folder:
        assert list(folder.iterdir()) == []
        (folder / "kept").mkdir()
        (folder / "kept" / "state").write_text("x")
        (folder / "kept").chmod(0o500)
    assert list(here.iterdir()) == []


def test_what_a_killed_process_left_goes_at_the_next_start_and_nothing_else_does(here: Path) -> None:
    (here / f"{PREFIX}of-another-program").mkdir()
    with holder() as (killed, left), holder() as (_, live):
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert (left / "locked" / "state").exists()
        with scratch(PREFIX) as folder:
            assert not left.parent.exists()
            assert live.exists()
            places = {live.parent, folder.parent, here / f"{PREFIX}of-another-program"}
            assert set(here.iterdir()) == places
    assert set(here.iterdir()) == {here / f"{PREFIX}of-another-program"}


def test_a_folder_is_no_way_to_one_that_is_elsewhere(here: Path) -> None:
    elsewhere = here / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / module.OWNER).touch()
    (here / f"{PREFIX}link").symlink_to(elsewhere)
    (here / f"{PREFIX}inner").mkdir()
    (here / f"{PREFIX}inner" / module.OWNER).symlink_to(elsewhere / module.OWNER)
    assert sweep(PREFIX) == []
    assert (elsewhere / module.OWNER).exists()


def test_a_sweep_has_an_end(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        (here / f"{PREFIX}{number}").mkdir()
        (here / f"{PREFIX}{number}" / module.OWNER).touch()
    monkeypatch.setattr(module, "MOST", 3)
    assert len(sweep(PREFIX)) == 3
    assert len(sweep(PREFIX)) == 1
    assert list(here.iterdir()) == []
