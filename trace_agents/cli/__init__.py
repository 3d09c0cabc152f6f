"""The front door: `trace-agents`. Wires every room to the command line; nothing imports it.

A `UsageError`, a full disk and a missing permission become one line on standard error and exit code 2. Any
other exception is a defect and keeps its traceback.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from trace_agents.errors import UsageError

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

_OS_ERRORS = {
    errno.ENOSPC: ("the disk is full", "free some space"),
    errno.EDQUOT: ("the disk quota is used up", "free some space"),
    errno.EACCES: ("permission denied", "choose a folder that you may write to"),
    errno.EPERM: ("the operation is not permitted", "choose a folder that you may write to"),
    errno.EROFS: ("the file system is read-only", "choose another folder"),
    errno.EADDRINUSE: ("the address is in use", "choose another --port"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line on `arguments` (default: the process's own); returns the exit code."""
    from typer import Abort, TyperException

    from trace_agents.cli._app import build

    try:
        code = build().main(
            args=None if arguments is None else list(arguments), prog_name="trace-agents", standalone_mode=False
        )
        sys.stdout.flush()
    except UsageError as error:
        return _fail(str(error))
    except TyperException as error:
        return _fail(_with_help(error))
    except BrokenPipeError:
        _drop_output()  # The reader (`head`, a pager) has gone.
        return 1
    except OSError as error:
        if error.errno not in _OS_ERRORS:
            raise
        if not error.filename:
            _drop_output()
        return _fail(_explain(error))
    except (KeyboardInterrupt, Abort):
        return _fail("interrupted", INTERRUPTED)
    return code if isinstance(code, int) else 0


def _drop_output() -> None:
    """Give the interpreter's last flush somewhere to go; else it would fail again and choose its own exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, code: int = 2) -> int:
    line = " ".join(message.split())
    print(f"trace-agents: {line}", file=sys.stderr)
    return code


def _with_help(error: Exception) -> str:
    """The parser's complaint, and where to read how it is done."""
    message = str(getattr(error, "format_message", error.__str__)()).rstrip(".")
    context = getattr(error, "ctx", None)
    return f"{message}: see `{context.command_path} --help`" if context is not None else message


def _explain(error: OSError) -> str:
    """One line: what happened to which file, what to do, and what was kept."""
    what, remedy = _OS_ERRORS[error.errno or 0]
    if error.errno == errno.EADDRINUSE:
        return f"{what} ({error}): {remedy}"
    name = str(error.filename) if error.filename else "standard output"
    run = next((folder for folder in Path(name).absolute().parents if (folder / "run.json").is_file()), None)
    kept = "whatever was written before is kept"
    if run is not None:
        return f"{what} at {name!r}: {remedy}, then `trace-agents run --resume {run}`; {kept}"
    return f"{what} at {name!r}: {remedy}; {kept}"
