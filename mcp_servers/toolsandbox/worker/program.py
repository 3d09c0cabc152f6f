"""What the worker loads for ToolSandbox: all scenarios; a session plays one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import standins

if TYPE_CHECKING:
    from sandbox import Sandbox


def load(folder: str, instant: str) -> Sandbox:
    """All scenarios, kept in `folder`, with upstream's clock standing at `instant`."""
    standins.install()
    from sandbox import Sandbox

    return Sandbox(folder, instant)
