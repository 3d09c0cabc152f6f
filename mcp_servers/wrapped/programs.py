"""Programs of the benchmark's own: the one that resets, and the one that judges."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from mcp_servers.said import in_brackets
from trace_agents.errors import InfrastructureError


async def run(command: Sequence[str], place: tuple[Path, float], given: str, what: str) -> str:
    """The output of a program that is given `given` on standard input.

    Args:
        command: program and arguments.
        place: the folder it runs in, and the seconds it may take.
        given: its input.
        what: what errors call it.

    Raises:
        InfrastructureError: it cannot be run, fails, or takes too long.
    """
    folder, seconds = place
    named = f"{what} {' '.join(command)!r}"
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=folder,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env=_variables(),
            start_new_session=True,  # So that what it starts ends with it.
        )
    except OSError as error:
        raise InfrastructureError(f"{named} cannot be run: {error.strerror}") from error
    try:
        async with asyncio.timeout(seconds):
            out, said = await process.communicate(given.encode())
    except BaseException as error:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        if not isinstance(error, TimeoutError):
            raise
        raise InfrastructureError(f"{named} took longer than {seconds:g} s") from None
    if process.returncode:
        raise InfrastructureError(
            f"{named} ended with {process.returncode}{in_brackets(said.decode(errors='replace'))}"
        )
    return out.decode(errors="replace")


def _variables() -> dict[str, str]:
    """This process's environment variables, without the project's own: a control token is not the server's."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TRACE_AGENTS_")}
