"""Progress on the screen: a bar per stage on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from trace_agents.progress import Progress, Stage

PLAIN_WIDTH = 116
"""Columns where the output is no terminal."""
PLAIN_INTERVAL = 15.0
"""Least seconds between two plain lines of one stage."""


def console(stderr: bool = False) -> Console:
    """Standard output (or error), wide enough for the tables where it is no terminal."""
    screen = Console(highlight=False, stderr=stderr)
    return screen if screen.is_terminal else Console(highlight=False, stderr=stderr, width=PLAIN_WIDTH)


@contextmanager
def watch(screen: Console) -> Iterator[Progress]:
    """A `Progress` that shows a run on `screen`."""
    if not screen.is_terminal:
        yield PlainProgress(screen)
        return
    columns = (
        TextColumn("{task.description:<14}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[said]}"),
    )
    with Bars(*columns, console=screen) as bars:
        yield BarProgress(bars)


@dataclass
class BarProgress:
    """A bar per stage; the done ones stay on the screen."""

    bars: Bars

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Stage]:
        """A bar from now until the end of the context."""
        task = self.bars.add_task(escape(name), total=total, said="")
        yield _Bar(self.bars, task)
        done = self.bars.tasks[self.bars.task_ids.index(task)].completed
        # A stage may end before its total (training that stops early): the bar is full when the stage is over.
        self.bars.update(task, total=max(done, 1), completed=max(done, 1))
        self.bars.stop_task(task)

    def note(self, text: str) -> None:
        """A line above the bars."""
        self.bars.console.print(f"[dim]{escape(text)}")


@dataclass
class _Bar:
    bars: Bars
    task: TaskID

    def advance(self, amount: int = 1) -> None:
        self.bars.advance(self.task, amount)

    def note(self, text: str) -> None:
        self.bars.update(self.task, said=escape(text))

    def total(self, amount: int) -> None:
        self.bars.update(self.task, total=amount)


@dataclass
class PlainProgress:
    """Lines for logs: a stage's beginning, its state now and then, its end."""

    screen: Console

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Stage]:
        """Lines from now until the end of the context."""
        lines = _Lines(self.screen, name, total)
        yield lines
        lines.say(f"done in {_clock(time.monotonic() - lines.begun)}")

    def note(self, text: str) -> None:
        """One line."""
        self.screen.print(escape(text), soft_wrap=True)


@dataclass
class _Lines:
    screen: Console
    name: str
    units: int | None
    done: int = 0
    said: str = ""
    begun: float = field(default_factory=time.monotonic)
    shown: float = field(default_factory=time.monotonic)

    def advance(self, amount: int = 1) -> None:
        self.done += amount
        self._maybe()

    def note(self, text: str) -> None:
        self.said = text
        self._maybe()

    def total(self, amount: int) -> None:
        self.units = amount

    def say(self, text: str) -> None:
        count = f" {self.done}/{self.units}" if self.units else f" {self.done}" if self.done else ""
        self.screen.print(escape(f"{self.name}:{count} {text}"), soft_wrap=True)
        self.shown = time.monotonic()

    def _maybe(self) -> None:
        now = time.monotonic()
        if now - self.shown < PLAIN_INTERVAL:
            return
        left = (now - self.begun) / self.done * (self.units - self.done) if self.units and self.done else None
        eta = f", about {_clock(left)} left" if left is not None else ""
        self.say(f"after {_clock(now - self.begun)}{eta}{f' ({self.said})' if self.said else ''}")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(max(0.0, seconds), 60)
    return f"{int(minutes)} min {rest:02.0f} s" if minutes else f"{rest:.1f} s"
