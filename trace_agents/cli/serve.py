"""`trace-agents serve`: an environment over MCP, by HTTP or standard input and output."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from trace_agents.environment import ChecksFiles, Environment, Prepares
from trace_agents.errors import InfrastructureError, UsageError
from trace_agents.registry import SPELLINGS, load_environment

if TYPE_CHECKING:
    from mcp_servers.user_tool import UserTool

LOOPBACK = ("127.0.0.1", "localhost", "::1")
TOKEN_VARIABLE = "TRACE_AGENTS_CONTROL_TOKEN"


def serve(
    env: Annotated[str, typer.Argument(help=f"Environment: {SPELLINGS}.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8000,
    stdio: Annotated[bool, typer.Option("--stdio", help="Play one episode over standard input and output.")] = False,
    task: Annotated[str | None, typer.Option(help="With --stdio: the task's id.")] = None,
    seed: Annotated[int | None, typer.Option(help="With --stdio: the seed to generate the task from.")] = None,
    max_episodes: Annotated[int, typer.Option(help="Most live episodes at once.")] = 256,
    idle_timeout: Annotated[float, typer.Option(help="Seconds without a call until an episode expires.")] = 900.0,
    control_token: Annotated[
        str | None, typer.Option(envvar=TOKEN_VARIABLE, help="Token that control requests must carry.")
    ] = None,
    allowed_host: Annotated[
        list[str] | None, typer.Option(help="Further host name to answer to (repeatable); '*' answers to any.")
    ] = None,
    user_tool: Annotated[
        bool, typer.Option("--user-tool", help="Let the agent reach the simulated user by a tool of its own.")
    ] = False,
    record: Annotated[
        Path | None,
        typer.Option(help="With --user-tool: file of JSON lines that gets each ended episode.", show_default=False),
    ] = None,
) -> None:
    """Serve an environment to agents over MCP.

    Over HTTP each episode has an MCP endpoint of its own, /episodes/{id}/mcp, and a control plane beside it creates
    episodes, plays the user, evaluates and deletes: see /openapi.json. With --stdio, one episode is played over
    standard input and output.

    With --user-tool there is one tool more, reply_to_user, for agents that can do nothing but call tools: it says a
    text to the simulated user and gives the answer. The server then keeps the conversation itself.
    """
    _check_record(record, user_tool)
    if stdio and (task is None) == (seed is None):
        raise UsageError("--stdio plays one episode: give its task with --task ID or --seed N, one of the two")
    if stdio:
        _serve_stdio(_prepared(env), (task, seed), _Talk(user_tool, record))
        return
    if task is not None or seed is not None:
        option, value = ("--task", task) if task is not None else ("--seed", seed)
        raise UsageError(f"{option} {value!r} is for --stdio: over HTTP, choose a task with POST /episodes")
    guard = (control_token, tuple(allowed_host or ()))
    environment = _prepared(env)
    _check_files(environment)
    _serve_http(environment, (host, port), (max_episodes, idle_timeout), guard, _Talk(user_tool, record))


def _prepared(env: str) -> Environment:
    """The environment, getting ready while MCP is imported, which takes most of a second."""
    environment = load_environment(env)
    if isinstance(environment, Prepares):
        environment.prepare()
    return environment


def _check_files(environment: Environment) -> None:
    """Refuse an environment whose files would make every episode fail; a server that is down may be up later."""
    if isinstance(environment, ChecksFiles):
        with contextlib.suppress(InfrastructureError):
            asyncio.run(environment.check())


class _Talk(NamedTuple):
    """Whether the user is a tool, and where ended episodes go."""

    wanted: bool
    record: Path | None

    def user_tool(self) -> UserTool | None:
        from mcp_servers.user_tool import UserTool

        return UserTool(self.record) if self.wanted else None


def _check_record(record: Path | None, user_tool: bool) -> None:
    if record is None:
        return
    if not user_tool:
        remedy = "give that too; without it, the host has the conversation"
        raise UsageError(f"--record {str(record)!r} is for --user-tool: {remedy}")
    if record.is_dir() or not record.parent.is_dir():
        raise UsageError(f"--record {str(record)!r} cannot be a file: give a file's name in a folder that exists")


def _serve_stdio(environment: Environment, choice: tuple[str | None, int | None], talk: _Talk) -> None:
    from mcp_servers.stdio import run_stdio
    from mcp_servers.wire import TaskChoice

    try:
        run_stdio(environment, TaskChoice(task_id=choice[0], seed=choice[1]), talk.user_tool())
    except InfrastructureError as error:
        raise UsageError(f"environment {environment.name!r} cannot start the episode: {error}") from error


def _serve_http(
    environment: Environment,
    address: tuple[str, int],
    lifetime: tuple[int, float],
    guard: tuple[str | None, tuple[str, ...]],
    talk: _Talk,
) -> None:
    from mcp_servers.episodes import Limits
    from mcp_servers.gatekeeper import Gatekeeper
    from mcp_servers.http import HttpConfig, serve_http

    host, (token, allowed_hosts) = address[0], guard
    config = HttpConfig(
        limits=Limits(max_episodes=lifetime[0], idle_timeout_s=lifetime[1]),
        gatekeeper=Gatekeeper.for_address(host, allowed_hosts, token),
        user_tool=talk.user_tool(),
    )
    listening = listen(*address)
    name = f"[{host}]" if ":" in host else host
    url = f"http://{name}:{listening.getsockname()[1]}"
    if host not in LOOPBACK and token is None:
        print(f"trace-agents: {host!r} is open to the network: protect it with --control-token", file=sys.stderr)
    print(f"serving {environment.name} on {url} (control plane: {url}/openapi.json)", file=sys.stderr, flush=True)
    serve_http(environment, listening, config)


def listen(host: str, port: int) -> socket.socket:
    """A TCP socket listening on `host`:`port`.

    Raises:
        UsageError: the port is in use, out of range or reserved, or `host` is no address of this machine.
    """
    if not 0 <= port <= 65535:
        raise UsageError(f"--port {port!r} is out of range: give 0 (any free port) to 65535")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        message = f"--host {host!r} is not an address ({error.strerror}): give for example '127.0.0.1'"
        raise UsageError(message) from error
    # asyncio turns Nagle's algorithm off only where the socket names TCP as its protocol, and every call would wait
    # 40 ms for it otherwise.
    listening = socket.socket(family, kind, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(256)
    except OSError as error:
        listening.close()
        raise UsageError(_refused(host, port, error)) from error
    return listening


def _refused(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port!r} on {host!r} is in use: choose another with --port, or --port 0 for a free one"
    if error.errno == errno.EACCES:
        return f"port {port!r} on {host!r} is reserved: choose one from 1024 on with --port"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"--host {host!r} is not an address of this machine: give for example '127.0.0.1'"
    return f"cannot listen on {host!r}:{port!r} ({error.strerror}): choose another --host or --port"
