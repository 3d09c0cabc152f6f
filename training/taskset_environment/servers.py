"""Where tool servers run: the host's side of the nursery, as a runtime of verifiers'."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import IO, Any

import verifiers.v1 as vf
from verifiers.v1.mcp import SharedToolServer
from verifiers.v1.runtimes.subprocess import SubprocessRuntime

from mcp_servers.said import last_words
from trace_agents.errors import InfrastructureError, UsageError
from trace_agents.scratch import scratch
from training.taskset_environment import nursery

STARTUP_S = 240.0
"""Seconds that a server may take until it answers: its `setup` may build an index."""
POLL_S = 0.005


class NurseryProcess:
    """The process that forks tool servers; it starts when first needed, and again when it has died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Start it, without waiting until it has loaded."""
        if self._lock.acquire(blocking=False):  # Else someone waits for it already.
            try:
                self._started()
            finally:
                self._lock.release()

    def fork(self, module: str, variables: Mapping[str, str], folder: Path, log: Path) -> int:
        """The process id of a new server; waits for the nursery.

        Raises:
            InfrastructureError: the nursery has ended.
        """
        request = {"module": module, "path": sys.path, "variables": dict(variables), "folder": str(folder)}
        return int(self._ask({**request, "log": str(log)})["pid"])

    def alive(self, pid: int) -> bool:
        """The server has not ended."""
        return bool(self._ask({"alive": pid})["alive"])

    def end(self, pid: int) -> None:
        """Ask a server to end, and see to it."""
        if self._process is not None and self._process.poll() is None:
            self._ask({"end": pid})

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        with self._lock:
            process = self._started()
            stdin, stdout = process.stdin, process.stdout
            assert stdin is not None
            assert stdout is not None
            try:
                stdin.write(json.dumps(request).encode() + b"\n")
                stdin.flush()
                line = stdout.readline()
            except OSError:
                line = b""
            if not line:
                raise InfrastructureError("the process that forks tool servers has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            if not hasattr(os, "fork"):
                raise UsageError(f"tool servers are forked, which {os.name!r} cannot: use Linux or macOS")
            self._process = subprocess.Popen(
                [sys.executable, "-P", nursery.__file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                env=variables(),
            )
            weakref.finalize(self, _hang_up, self._process, self._process.stdin, self._process.stdout)
        return self._process


@cache
def the_nursery() -> NurseryProcess:
    """The one of this process: what it has loaded is the same for every taskset."""
    return NurseryProcess()


def variables() -> dict[str, str]:
    """This process's variables without keys, as verifiers hands them on, and its import path."""
    kept = {name: value for name, value in os.environ.items() if "API_KEY" not in name.upper()}
    return {**kept, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def _hang_up(process: subprocess.Popen[bytes], *pipes: IO[bytes] | None) -> None:
    for pipe in pipes:
        if pipe is not None:
            pipe.close()
    try:
        process.wait(nursery.GRACE_S)
    except subprocess.TimeoutExpired:  # It is still loading, and reads only afterwards.
        process.kill()
        process.wait()


class ForkingRuntime(SubprocessRuntime):
    """verifiers' runtime on this machine, in which tool servers are forked rather than started."""

    def __init__(self, modules: Collection[str], name: str | None = None) -> None:
        """A runtime that has not started; `modules` are those that hold the toolsets."""
        super().__init__(vf.SubprocessConfig(), name)
        self._modules = frozenset(modules)
        self._forked: list[int] = []
        self._answering: set[str] = set()
        self._ports: list[Path] = []
        self._holding = ExitStack()

    async def start(self) -> None:
        """Make the folder that the rollout has for itself."""
        self.workdir = self._holding.enter_context(scratch("trace-agents-rollout-"))
        self.info.id = str(self.workdir)

    async def run_background(self, command: list[str], env: dict[str, str], log: str) -> None:
        """Run a program until the runtime stops; a tool server answers when this returns."""
        if command[:2] != [sys.executable, "-m"] or command[2] not in self._modules:
            await super().run_background(command, env, log)
            return
        assert self.workdir is not None
        said = self.workdir / log
        made = variables() | self.process_env(env)
        pid = await asyncio.to_thread(the_nursery().fork, command[2], made, self.workdir, said)
        self._forked.append(pid)
        self._ports.append(Path(env["MCP_PORT_FILE"]))
        port = await asyncio.to_thread(until_answering, pid, self._ports[-1], said)
        self._answering.add(f"http://127.0.0.1:{port}/mcp")

    async def run(self, argv: list[str], env: dict[str, str]) -> vf.ProgramResult:
        """Run a program to its end; whether a forked server answers is known without one."""
        if argv[-1] in self._answering:
            return vf.ProgramResult(exit_code=0, stdout="", stderr="")
        return await super().run(argv, env)

    async def teardown(self) -> None:
        """End the servers, and what else runs here."""
        forked, self._forked = self._forked, []
        for pid in forked:
            await asyncio.to_thread(the_nursery().end, pid)
        await super().teardown()
        self._holding.close()
        for path in self._ports:
            path.unlink(missing_ok=True)


def until_answering(pid: int, port_file: Path, log: Path) -> int:
    """The port of a forked server, once something listens on it.

    Raises:
        InfrastructureError: it ended before, or took longer than `STARTUP_S`.
    """
    deadline, port = time.monotonic() + STARTUP_S, ""
    for turn in range(int(STARTUP_S / POLL_S)):
        port = port or (port_file.read_text() if port_file.is_file() else "")
        if port:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", int(port))) == 0:
                    return int(port)
        if time.monotonic() > deadline or (turn % 20 == 19 and not the_nursery().alive(pid)):
            break
        time.sleep(POLL_S)
    raise InfrastructureError(f"a tool server ended or did not answer within {STARTUP_S:g} s: {words_in(log)}")


def words_in(log: Path) -> str:
    """What a server said last."""
    said = last_words(log.read_text(errors="replace")) if log.is_file() else ""
    return said or "it said nothing"


class SharedServers:
    """The servers that a taskset shares between all its rollouts, started once, when first needed."""

    def __init__(self, toolsets: Sequence[vf.Toolset]) -> None:
        self._toolsets = tuple(toolsets)
        self._lock = threading.Lock()
        self._served: dict[str, SharedToolServer] | None = None

    def serve(self) -> dict[str, SharedToolServer]:
        """Name -> server, as verifiers hands them to rollouts; waits until they answer.

        Raises:
            InfrastructureError: one does not start.
        """
        with self._lock:
            if self._served is None:
                self._served = {toolset.server_name: self._serve(toolset) for toolset in self._toolsets}
            return self._served

    def _serve(self, toolset: vf.Toolset) -> SharedToolServer:
        if toolset.config.url:
            return SharedToolServer(url=toolset.config.url, local=False, external=True)
        if not isinstance(toolset.config.runtime, vf.SubprocessConfig):
            raise UsageError(
                f"tool server {toolset.server_name!r}, which the taskset's rollouts share, runs in "
                f"{toolset.config.runtime.type!r}: start it yourself and set its url"
            )
        secret = secrets.token_urlsafe(24) if toolset._state_cls is not vf.State else ""
        holding = ExitStack()
        weakref.finalize(self, holding.close)
        folder = holding.enter_context(scratch("trace-agents-tools-"))
        log, port_file = folder / "log", folder / "port"
        made = variables() | {
            "VF_CONFIG": toolset.config.model_dump_json(),
            "VF_STATE_URL": "",
            "VF_STATE_SECRET": secret,
            "TMPDIR": str(folder),
            "MCP_PORT_FILE": str(port_file),
        }
        pid = the_nursery().fork(type(toolset).__module__, made, folder, log)
        port = until_answering(pid, port_file, log)
        return SharedToolServer(url=f"http://127.0.0.1:{port}/mcp", local=True, state_secret=secret)
