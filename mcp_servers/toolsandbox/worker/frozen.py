"""What upstream takes from outside, made the same in every episode: the time, random identifiers, addresses."""

from __future__ import annotations

import datetime
import random
import re
import sys
import uuid
from types import ModuleType
from typing import Any

PACKAGE = "tool_sandbox"
ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+(?=>$)")


def freeze_clock(instant: str) -> None:
    """Stop upstream's clock at `instant`, an ISO time with its zone; nobody else's."""
    moment = datetime.datetime.fromisoformat(instant).timestamp()

    class Stopped(datetime.datetime):
        """Upstream's `datetime`, whose now is always the same."""

        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Stopped:
            return cls.fromtimestamp(moment, tz)

    module = ModuleType("datetime")
    module.__dict__.update({name: value for name, value in vars(datetime).items() if not name.startswith("__")})
    module.__dict__["datetime"] = Stopped
    for each in _modules():
        if vars(each).get("datetime") is datetime:
            each.__dict__["datetime"] = module


def hide_addresses() -> None:
    """Leave the address in memory out of how an expression is written: upstream's tools tell it to the agent."""
    import polars

    written = polars.Expr.__repr__
    polars.Expr.__repr__ = lambda expression: ADDRESS.sub("", written(expression))


def now() -> float:
    """Upstream's time, in POSIX seconds."""
    from tool_sandbox.tools import utilities

    return float(utilities.datetime.datetime.now().timestamp())


def number_identifiers(seed: str) -> None:
    """Let upstream's tools draw their identifiers from `seed`, so that an episode can be played again."""
    drawn = random.Random(seed)

    def uuid4() -> uuid.UUID:
        return uuid.UUID(int=drawn.getrandbits(128), version=4)

    for each in _modules():
        if "uuid4" in vars(each):
            each.__dict__["uuid4"] = uuid4


def _modules() -> list[Any]:
    return [module for name, module in list(sys.modules.items()) if name.split(".")[0] == PACKAGE]
