"""The command tree. A command's module is imported when the command is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from trace_agents.errors import unknown

COMMANDS = {
    "demo": "trace_agents.cli.run:demo",
    "run": "trace_agents.cli.run:run",
    "report": "trace_agents.cli._report:report",
    "evaluate": "trace_agents.cli.evaluate:evaluate",
    "analyze": "trace_agents.cli.analyze:analyze",
    "handoff": "trace_agents.cli.handoff:handoff",
    "serve": "trace_agents.cli.serve:serve",
    "endpoint": "trace_agents.cli.endpoint:endpoint",
    "environments": "trace_agents.cli._environments:environments",
    "new-benchmark": "trace_agents.cli.new_benchmark:new_benchmark",
    "conform": "trace_agents.cli.conform:conform",
    "benchmarks": "trace_agents.cli.benchmarks:benchmarks",
}
"""Command -> `module:function` with typer's annotations; its docstring is the help text."""


class LazyGroup(TyperGroup):
    """The group of `COMMANDS`."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of the help page."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, its module imported now; None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, function = COMMANDS[cmd_name].partition(":")
        single = typer.Typer(add_completion=False)
        single.command(cmd_name)(getattr(import_module(module), function))
        return typer.main.get_command(single)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As typer's, with an error that lists the commands."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise unknown("command", args[0], list(COMMANDS))
        return super().resolve_command(ctx, args)


def build() -> Any:
    """The command line as an object with `main(args, ...)`."""
    app = typer.Typer(cls=LazyGroup, add_completion=False, pretty_exceptions_enable=False)
    app.callback(invoke_without_command=True)(_root)
    return typer.main.get_command(app)


def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    """Turn recurrent agent failures into capability-targeted training environments, adapters and a routed agent."""
    if version:
        from trace_agents import __version__

        typer.echo(f"trace-agents {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit
