"""A process that has loaded one domain of τ²-bench and forks a fresh copy of itself for every session.

`python worker DOMAIN FD` listens on the inherited socket FD: each byte on it carries one end of a session's socket.
A session is requests and answers in JSON lines, in a process of its own. Forking makes a reset cheap, shares the parsed
database until it is written to, and keeps an episode that hangs or crashes away from all others. A session ends when
its socket is closed, the worker when FD is.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

import standins

if TYPE_CHECKING:
    from upstream import Domain

BROKEN = 1
"""Exit status of a session whose socket broke."""
IDLE_S = 0.2
"""Seconds without a new session after which the database is parsed once more, so that evaluations start at once."""


def main(domain_name: str, descriptor: int) -> None:
    """Fork a session for every socket that arrives, until the host hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the host's; its end of the socket is what ends this.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # Ended sessions need no waiting for.
    control = socket.socket(fileno=descriptor)
    standins.install()
    from upstream import Domain

    domain = Domain(domain_name)
    _settle()
    while True:
        if not domain.is_stocked and not select.select([control], [], [], IDLE_S)[0]:
            domain.stock()
            _settle()
        signalled, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not signalled:
            return
        if os.fork() == 0:
            control.close()
            _serve(domain, socket.socket(fileno=descriptors[0]))
        os.close(descriptors[0])


def _settle() -> None:
    """Keep collections in sessions off what is loaded: they would touch, and so copy, every page of it."""
    gc.collect()
    gc.freeze()


def _serve(domain: Domain, connection: socket.socket) -> None:
    """One session: answer until the host closes the socket, and end the process."""
    status = 0
    try:
        with connection.makefile("rwb") as stream:
            for line in stream:
                request = json.loads(line)
                stream.write(json.dumps({"id": request["id"], **_answer(domain, request)}).encode() + b"\n")
                stream.flush()
    except (OSError, ValueError):
        status = BROKEN
    finally:
        os._exit(status)


def _answer(domain: Domain, request: dict[str, Any]) -> dict[str, Any]:
    """Do one operation within its time: one that takes longer ends the session, even in the middle of C code."""
    signal.setitimer(signal.ITIMER_REAL, request["seconds"])
    try:
        return {"value": getattr(domain, "do_" + request["do"])(**request["given"])}
    except Exception as error:  # Whatever upstream raises is data for the host, which calls it infrastructure.
        return {"failure": f"{type(error).__name__}: {error}"}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
