"""A tool server that a taskset shares between its rollouts, each with its own state."""

from __future__ import annotations

import os

import verifiers.v1 as vf
from pydantic import Field


class PadState(vf.State):
    """What a rollout has noted."""

    notes: list[str] = Field(default_factory=list)


class PadToolset(vf.Toolset[vf.SharedToolsetConfig, PadState]):
    """A notepad."""

    TOOL_PREFIX = None

    @vf.tool
    def note(self, word: str) -> str:
        """Note a word; all notes."""
        self.state.notes = [*self.state.notes, word]
        return " ".join(self.state.notes)

    @vf.tool
    def process(self) -> int:
        """The server's process id."""
        return os.getpid()


if __name__ == "__main__":
    PadToolset.run()
