"""Memory is watched over a process and its children."""

import subprocess
import sys
import time

import pytest

from trace_agents.memory import PROC, MemoryWatch

pytestmark = pytest.mark.skipif(not (PROC / "self" / "status").exists(), reason="only Linux tells a process's memory")


def test_a_childs_memory_counts() -> None:
    code = "x = bytearray(200_000_000); print('held', flush=True); input()"
    with MemoryWatch(every=0.01) as watch:
        child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        before, deadline = watch.peak, time.monotonic() + 10
        while watch.peak < 200_000_000 and time.monotonic() < deadline:
            pass
        child.communicate(b"\n")
    assert watch.peak >= max(before, 200_000_000)
