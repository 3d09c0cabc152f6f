"""A process that has loaded verifiers, and forks one to run a tool server in, as `python -m MODULE` would.

verifiers starts a process for each tool server of each rollout, and importing verifiers takes seconds of a core. A
fork of a process that has imported it already takes milliseconds, and is as isolated: nothing of the taskset's is
imported before it.

Requests and answers are JSON lines on standard input and output. `{"module", "path", "variables", "folder", "log"}`
forks a server and answers `{"pid"}`; `{"alive": PID}` answers `{"alive"}`; `{"end": PID}` asks it to end, and answers
`{}`. Servers that do not end are killed, and all are when the host hangs up.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import sys
import time
import traceback
import warnings
from typing import Any

PRELOADED = (
    "verifiers.v1",
    "mcp.server.mcpserver",
    "mcp.server.transport_security",
    "anyio._backends._asyncio",
    "httpcore",
    "httpx",
    "rich.logging",
    "tenacity",
    "uvicorn.lifespan.on",
    "uvicorn.protocols.http.auto",
    "uvicorn.protocols.websockets.auto",
)
"""What verifiers' tool servers import, sooner or later, besides their own modules."""
GRACE_S = 5.0
"""Seconds that a server may take to end, as verifiers gives it."""


class Nursery:
    """The servers that were forked and have not ended."""

    def __init__(self) -> None:
        self._live: set[int] = set()
        self._deadlines: dict[int, float] = {}

    def run(self) -> None:
        """Answer until the host hangs up."""
        buffer = b""
        while True:
            ready = select.select([0], [], [], GRACE_S / 10 if self._deadlines else None)[0]
            self._reap()
            if not ready:
                continue
            read = os.read(0, 65536)
            if not read:
                return self._kill_all()
            *lines, buffer = (buffer + read).split(b"\n")
            for line in lines:
                os.write(1, json.dumps(self._answer(json.loads(line))).encode() + b"\n")

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if "alive" in request:
            self._reap()
            return {"alive": request["alive"] in self._live}
        if "end" in request:
            self._end(request["end"])
            return {}
        pid = os.fork()
        if pid == 0:
            _serve(request)
        self._live.add(pid)
        return {"pid": pid}

    def _end(self, pid: int) -> None:
        if pid in self._live:
            _signal(pid, signal.SIGTERM)
            self._deadlines[pid] = time.monotonic() + GRACE_S

    def _reap(self) -> None:
        for pid in [pid for pid in self._live if os.waitpid(pid, os.WNOHANG)[0]]:
            self._live.discard(pid)
            self._deadlines.pop(pid, None)
        for pid, deadline in list(self._deadlines.items()):
            if time.monotonic() > deadline:
                _signal(pid, signal.SIGKILL)

    def _kill_all(self) -> None:
        for pid in self._live:
            _signal(pid, signal.SIGKILL)


def _signal(pid: int, number: signal.Signals) -> None:
    """To the server and whatever it has started: each leads a process group of its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _serve(request: dict[str, Any]) -> None:
    """Be the server; never returns."""
    status = 1
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        said = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for old, new in ((nothing, 0), (said, 1), (said, 2)):
            os.dup2(old, new)
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["variables"])
        sys.path[:] = request["path"]
        sys.argv = [request["module"]]
        warnings.filterwarnings("ignore", category=RuntimeWarning, module="runpy")  # It was imported too, as with `-m`.
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def main() -> None:
    """Load, then fork on request."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the host's, whose hanging up ends this.
    for name in PRELOADED:
        with contextlib.suppress(ImportError):  # What is missing here, the server's own log says.
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # Collections in servers would touch, and so copy, every page of what is shared.
    Nursery().run()


if __name__ == "__main__":
    main()
