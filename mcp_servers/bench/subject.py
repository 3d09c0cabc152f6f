"""What is timed: a served environment and one of its calls; and the commands that serve it and its floor."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp import StdioServerParameters

from trace_agents.environment import Environment
from trace_agents.registry import load_environment


@dataclass(frozen=True)
class Subject:
    """A served environment, and the call that is timed."""

    name: str
    """The environment's registered name."""
    environment: Environment
    task: str
    tool: str
    arguments: dict[str, Any]

    def over_stdio(self) -> StdioServerParameters:
        """The command that serves one episode of the task over stdio."""
        arguments = ["-m", "trace_agents.cli", "serve", self.name, "--stdio", "--task", self.task]
        return StdioServerParameters(command=sys.executable, args=arguments, env=dict(os.environ))

    def over_http(self) -> list[str]:
        """The arguments of Python that serve the environment over HTTP."""
        return ["-m", "trace_agents.cli", "serve", self.name, "--port", "0"]


CALLS = {
    "helpdesk": ("train-000", "get_order", {"order_id": "W1"}),
    "tau2/airline": ("0", "get_user_details", {"user_id": "mia_li_3668"}),
    "tau2/retail": ("0", "find_user_id_by_name_zip", {"first_name": "Yusuf", "last_name": "Rossi", "zip": "19122"}),
    "tau2/telecom": ("", "get_customer_by_phone", {"phone_number": "555-123-2002"}),
}
"""Environment -> a task ('' for the first of `base`), a tool and its arguments: a look-up that may be repeated."""


def subject(name: str) -> Subject:
    """The environment of `CALLS` by its name.

    Raises:
        UsageError: it is not installed.
    """
    environment = load_environment(name)
    task, tool, arguments = CALLS[name]
    return Subject(name, environment, task or environment.tasks("base")[0].id, tool, arguments)


@dataclass(frozen=True)
class Floor:
    """The plain server of a subject."""

    file: Path
    """What it lists and answers: a `Bare` in JSON."""

    def over_stdio(self) -> StdioServerParameters:
        """The command that serves it over stdio."""
        return StdioServerParameters(command=sys.executable, args=self.arguments("stdio"), env=dict(os.environ))

    def arguments(self, door: str) -> list[str]:
        """The arguments of Python that serve it over `stdio` or `http`, or its lines back by `echo`."""
        return ["-m", "mcp_servers.bench.bare", str(self.file), door]


@contextmanager
def serving(arguments: Sequence[str]) -> Iterator[str]:
    """The URL that a server's first line on standard error tells; it ends with the context."""
    with subprocess.Popen([sys.executable, *arguments], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            yield next(word for word in line.split() if word.startswith("http://"))
        finally:
            process.terminate()
