"""Tool servers of the tasksets in `outside_tasksets`."""

from __future__ import annotations

import os

import verifiers.v1 as vf

SEEN: list[str] = []
"""The module's own state, as a toolset's author may keep it: verifiers runs a process for each rollout."""


class OddToolsetConfig(vf.ToolsetConfig):
    """How it is odd."""

    starts: bool = True


class OddToolset(vf.Toolset[OddToolsetConfig]):
    """Remembers in its module, and dies when told to."""

    TOOL_PREFIX = "odd"

    async def setup(self) -> None:
        """Refuse to start, where it is to."""
        if not self.config.starts:
            raise RuntimeError("the shelf is empty")

    async def setup_task(self, task: vf.TaskData) -> None:
        """Remember the task."""
        SEEN.append(task.id or "")

    @vf.tool
    def see(self, word: str) -> list[str]:
        """Remember a word; all that is remembered."""
        SEEN.append(word)
        return SEEN

    @vf.tool
    def die(self) -> str:
        """End the server."""
        os._exit(3)

    @vf.tool
    def process(self) -> int:
        """The server's process id."""
        return os.getpid()


if __name__ == "__main__":
    OddToolset.run()
