"""A worker process in a benchmark's own Python environment, and sessions with it: the host's side of `worker/`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from mcp_servers.said import in_brackets, tail
from trace_agents.errors import InfrastructureError, UsageError

FOLDER = Path(__file__).with_name("worker")
"""What the other Python runs; it loads a benchmark's `program`."""
LONGEST_LINE = 256 * 2**20
"""Bytes of the longest answer that is read."""
LOADING_S = 600.0
"""Seconds that a worker may take to load: what it builds once takes seconds alone, and minutes on a busy machine."""
GRACE_S = 5.0
"""Seconds after a session should have ended itself until it is given up."""


@dataclass(frozen=True)
class Program:
    """What a worker loads."""

    benchmark: str
    """The benchmark's name."""
    python: Path
    """Interpreter of the benchmark's environment."""
    folder: Path
    """Folder with `program.py`, whose `load` gives the object that answers (see `worker/__main__.py`)."""
    arguments: tuple[str, ...] = ()
    """What `load` is called with."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables that the process gets besides."""
    seconds: float = 60.0
    """The longest that one operation may take; a session that needs more is killed."""


class Worker:
    """A program, loaded in a process of its own; started when first needed, and again when it has died.

    The process ends when this object does.
    """

    def __init__(self, program: Program) -> None:
        """A worker that has not started."""
        self.program = program
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._end: weakref.finalize[..., Any] | None = None
        self._log: IO[bytes] | None = None

    def start(self) -> None:
        """Start the process, where none runs yet: it loads while the caller does something else.

        Raises:
            UsageError: the environment cannot run the worker.
        """
        with self._lock:
            if self._control is None:
                self._start()

    def ask(self, do: str, **given: Any) -> Any:
        """The answer of a session made for this one operation, waited for on this thread.

        Raises:
            UsageError: the environment cannot run the worker. InfrastructureError: the operation failed.
        """
        with self._connection() as connection:
            connection.settimeout(LOADING_S + self.program.seconds + GRACE_S)
            with connection.makefile("rwb") as stream:
                try:
                    stream.write(_request(0, do, given, self.program.seconds))
                    stream.flush()
                    line = stream.readline()
                except OSError:
                    line = b""
        if not line:
            raise InfrastructureError(self._ended(do))
        return _value(self.program, json.loads(line), do)

    async def session(self) -> Session:
        """A fresh session on the running event loop.

        Raises:
            UsageError: the environment cannot run the worker.
        """
        reader, writer = await asyncio.open_connection(sock=self._connection(), limit=LONGEST_LINE)
        return Session(self, reader, writer)

    def _connection(self) -> socket.socket:
        """The host's end of a new session's socket."""
        ours, theirs = socket.socketpair()
        try:
            with theirs, self._lock:
                self._send(theirs.fileno())
        except BaseException:
            ours.close()
            raise
        return ours

    def _send(self, descriptor: int) -> None:
        if self._control is not None:
            with contextlib.suppress(OSError):  # It has died since it was used last: it is started again.
                socket.send_fds(self._control, [b"."], [descriptor])
                return
        socket.send_fds(self._start(), [b"."], [descriptor])

    def _start(self) -> socket.socket:
        named, python = self.program.benchmark, self.program.python
        if not hasattr(os, "fork"):
            raise UsageError(f"benchmark {named!r} needs fork, which {os.name!r} lacks: use Linux or macOS")
        self.close()
        ours, theirs = socket.socketpair()
        # Without a name, so that nothing is left of it however this process ends.
        log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
        command = [str(python), "-s", str(FOLDER), str(self.program.folder), str(theirs.fileno())]
        try:
            process = subprocess.Popen(
                [*command, *self.program.arguments],
                env=self._variables(),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        except OSError as error:
            ours.close()
            log.close()
            problem = f"{str(python)!r}, the Python of benchmark {named!r}, cannot be run ({error.strerror})"
            raise UsageError(f"{problem}: install it again with 'trace-agents benchmarks install {named}'") from error
        finally:
            theirs.close()
        self._control, self._log = ours, log
        self._end = weakref.finalize(self, _end, ours, process, log)
        return ours

    def _variables(self) -> dict[str, str]:
        """The process's environment: nothing of ours, keys least, and the same order of sets in every process."""
        ours = ("PYTHON", "TRACE_AGENTS_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return kept | {"PYTHONHASHSEED": "0"} | dict(self.program.variables)

    def close(self) -> None:
        """End the process; the sessions that are open go on until they are closed."""
        if self._end is not None:
            self._end()
        self._control = self._end = None

    def _ended(self, do: str) -> str:
        words = in_brackets(tail(self._log)) if self._log is not None and not self._log.closed else ""
        ended = f"benchmark {self.program.benchmark!r} ended during {do!r}"
        return f"{ended}: it crashed, or took longer than {self.program.seconds:g} s{words}"


class Session:
    """One process of the worker's: requests are answered in order."""

    def __init__(self, worker: Worker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._worker, self._reader, self._writer = worker, reader, writer
        self._asked = 0

    async def ask(self, do: str, **given: Any) -> Any:
        """The answer to one operation.

        Raises:
            InfrastructureError: upstream raised, or the session has ended or takes too long.
        """
        self._asked += 1
        seconds = self._worker.program.seconds
        try:
            self._writer.write(_request(self._asked, do, given, seconds))
            async with asyncio.timeout(seconds + GRACE_S):
                await self._writer.drain()
                while line := await self._reader.readline():
                    answer = json.loads(line)
                    if answer["id"] == self._asked:  # An earlier one's, whose asker was cancelled, is passed over.
                        return _value(self._worker.program, answer, do)
        except (OSError, TimeoutError):
            self._writer.close()
        raise InfrastructureError(self._worker._ended(do))

    async def close(self) -> None:
        """End the process. Idempotent."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


def _request(number: int, do: str, given: Mapping[str, Any], seconds: float) -> bytes:
    return json.dumps({"id": number, "do": do, "given": given, "seconds": seconds}).encode() + b"\n"


def _value(program: Program, answer: Mapping[str, Any], do: str) -> Any:
    if "failure" in answer:
        raise InfrastructureError(f"benchmark {program.benchmark!r} failed during {do!r}: {answer['failure']}")
    return answer["value"]


def _end(control: socket.socket, process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
    control.close()
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:  # It is still loading, and reads its socket only afterwards.
        process.kill()
        process.wait()
    log.close()
