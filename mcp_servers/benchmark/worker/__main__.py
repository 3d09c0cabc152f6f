"""A process that has loaded a benchmark and forks a fresh copy of itself for every session.

`python worker FOLDER FD [ARGUMENT]...` loads `program.py` of FOLDER and listens on the inherited socket FD: each byte
on it carries one end of a session's socket. A session is requests and answers in JSON lines, in a process of its own.
Forking makes a reset cheap, shares what was loaded until it is written to, and keeps an episode that hangs or crashes
away from all others. A session ends when its socket is closed, the worker when FD is.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from typing import Any, Protocol

BROKEN = 1
"""Exit status of a session whose socket broke."""
IDLE_S = 0.2
"""Seconds without a new session after which the program makes what sessions will need, so that they start at once."""


class Loaded(Protocol):
    """What a program's `load(*arguments)` gives; its methods `do_NAME` are the operations of a session."""

    is_stocked: bool
    """Sessions find all that they need."""

    def stock(self) -> Any:
        """Make some of what sessions will need."""


def main(folder: str, descriptor: int, arguments: list[str]) -> None:
    """Fork a session for every socket that arrives, until the host hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the host's; its end of the socket is what ends this.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # Ended sessions need no waiting for.
    control = socket.socket(fileno=descriptor)
    sys.path.insert(0, folder)
    loaded: Loaded = importlib.import_module("program").load(*arguments)
    _settle()
    while True:
        if not loaded.is_stocked and not select.select([control], [], [], IDLE_S)[0]:
            loaded.stock()
            _settle()
            continue
        signalled, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not signalled:
            return
        if os.fork() == 0:
            control.close()
            _serve(loaded, socket.socket(fileno=descriptors[0]))
        os.close(descriptors[0])


def _settle() -> None:
    """Keep collections in sessions off what is loaded: they would touch, and so copy, every page of it."""
    gc.collect()
    gc.freeze()


def _serve(loaded: Loaded, connection: socket.socket) -> None:
    """One session: answer until the host closes the socket, and end the process."""
    status = 0
    try:
        with connection.makefile("rwb") as stream:
            for line in stream:
                request = json.loads(line)
                stream.write(json.dumps({"id": request["id"], **_answer(loaded, request)}).encode() + b"\n")
                stream.flush()
    except (OSError, ValueError):
        status = BROKEN
    finally:
        os._exit(status)


def _answer(loaded: Loaded, request: dict[str, Any]) -> dict[str, Any]:
    """Do one operation within its time: one that takes longer ends the session, even in the middle of C code."""
    signal.setitimer(signal.ITIMER_REAL, request["seconds"])
    try:
        return {"value": getattr(loaded, "do_" + request["do"])(**request["given"])}
    except Exception as error:  # Whatever upstream raises is data for the host, which calls it infrastructure.
        return {"failure": f"{type(error).__name__}: {error}"}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
