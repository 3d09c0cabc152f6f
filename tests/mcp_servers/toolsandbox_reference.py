"""Upstream alone: its own loop and evaluator on scripted roles, for comparison.

`python toolsandbox_reference.py STAND_INS INSTANT < plays > verdicts`, in JSON lines, by the benchmark's Python: a play
is `{name, actions, lines}`, a verdict upstream's. Of the adapter only stand-ins for model libraries are used, from the
folder STAND_INS, where upstream's real ones are not installed. The clock stands at INSTANT.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import random
import sys
from typing import Any


class Stop(BaseException):
    """The scripted agent has nothing more to do."""


def main(stand_ins: str, instant: str) -> None:
    """Play and judge every line."""
    prepare(stand_ins, instant)
    from tool_sandbox.common.tool_discovery import ToolBackend
    from tool_sandbox.scenarios import named_scenarios

    random.seed(42)
    scenarios = named_scenarios(ToolBackend.DEFAULT)
    for line in sys.stdin:
        play = json.loads(line)
        print(json.dumps(verdict(scenarios[play["name"]], play)), flush=True)


def prepare(stand_ins: str, instant: str) -> None:
    """Stop the clock of everything that is imported from here on, and import upstream's needs."""
    try:
        import openai  # noqa: F401
    except ImportError:
        sys.path.insert(0, stand_ins)
        import standins

        standins.install()
    real, moment = datetime.datetime, datetime.datetime.fromisoformat(instant).timestamp()

    class Anything(type):
        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, real)

    class Standing(real, metaclass=Anything):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return real.fromtimestamp(moment, tz)

    import tool_sandbox.scenarios  # noqa: F401

    datetime.datetime = Standing  # type: ignore[misc]


def verdict(scenario: Any, play: dict[str, Any]) -> dict[str, Any]:
    """Upstream's evaluation after upstream's loop."""
    from tool_sandbox.common.execution_context import RoleType, get_current_context
    from tool_sandbox.common.message_conversion import Message
    from tool_sandbox.roles.base_role import BaseRole
    from tool_sandbox.roles.execution_environment import ExecutionEnvironment

    class Agent(BaseRole):
        role_type = RoleType.AGENT

        def __init__(self) -> None:
            self.rest, self.made = list(play["actions"]), 0

        def respond(self, ending_index: int | None = None) -> None:
            if not self.rest:
                raise Stop
            action, self.made = self.rest.pop(0), self.made + 1
            if isinstance(action, str):
                self.add_messages([Message(RoleType.AGENT, RoleType.USER, action)])
                return
            number, name = f"a{self.made}", action["name"]
            tool = get_current_context().get_execution_facing_tool_name(name)
            code = f"{number}_parameters = {action['arguments']}\n{number}_response = {tool}(**{number}_parameters)\n"
            code += f"print(repr({number}_response))"
            self.add_messages(
                [
                    Message(
                        RoleType.AGENT,
                        RoleType.EXECUTION_ENVIRONMENT,
                        code,
                        openai_tool_call_id=number,
                        openai_function_name=name,
                    )
                ]
            )

    class User(BaseRole):
        role_type = RoleType.USER

        def __init__(self) -> None:
            self.rest = list(play["lines"])

        def respond(self, ending_index: int | None = None) -> None:
            if self.rest:
                self.add_messages([Message(RoleType.USER, RoleType.AGENT, self.rest.pop(0))])
            else:
                self.add_messages([Message(RoleType.USER, RoleType.EXECUTION_ENVIRONMENT, "end_conversation()")])

    roles = {
        RoleType.AGENT: Agent(),
        RoleType.USER: User(),
        RoleType.EXECUTION_ENVIRONMENT: ExecutionEnvironment(),
    }
    with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(Stop):
        scenario.play(roles, play["name"])
    judged = scenario.evaluation.evaluate(get_current_context(), scenario.max_messages)
    return {
        "similarity": judged.similarity,
        "milestone": judged.milestone_similarity,
        "minefield": judged.minefield_similarity,
        "turns": judged.turn_count,
    }


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
