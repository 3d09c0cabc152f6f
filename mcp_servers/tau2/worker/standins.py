"""Stand-ins for libraries that upstream imports and playing does not need.

`litellm` and `pandas` take most of upstream's start-up time (seconds, 230 MB); numpy and `deepdiff`, that shows how two
of its runs differ, a quarter of the rest. Upstream's own `generate` asks `litellm.completion`: here the host is asked,
which samples from any endpoint. Anything else of them raises when it is used.
"""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

MODULES = ("deepdiff", "httpx", "pandas", "litellm", "litellm.caching", "litellm.caching.caching", "litellm.main")
VOICE = ("aiohttp", "audioop", "elevenlabs", "numpy", "pyaudio", "requests", "scipy", "scipy.signal", "websockets")
"""What v1.0.0 imports besides, to speak and to hear; v1.0.1 goes on without, where it is missing, but for numpy."""
SEARCH = ("openai", "rank_bm25")
"""The same, to look up the documents of the banking domain."""


class Asked(BaseException):
    """Upstream wants a completion: `request` is what it would send. No `Exception`, so that upstream lets it pass."""

    def __init__(self, request: dict[str, Any]) -> None:
        super().__init__("a completion")
        self.request = request


class Completions:
    """What `litellm.completion` answers: the one completion that the host has given, or `Asked`."""

    def __init__(self) -> None:
        self.given: dict[str, Any] | None = None
        """An OpenAI chat message."""

    def __call__(self, **request: Any) -> Any:
        if self.given is None:
            raise Asked({"messages": request["messages"], "tools": request.get("tools")})
        message, self.given = self.given, None
        calls = [_call(call) for call in message.get("tool_calls") or ()]
        said = SimpleNamespace(role="assistant", content=message.get("content"), tool_calls=calls or None)
        raw = {"message": message}
        choice = SimpleNamespace(finish_reason="stop", message=said, to_dict=lambda: raw)
        return SimpleNamespace(model="", choices=[choice], get=lambda key: None, to_dict=lambda: raw)


COMPLETIONS = Completions()
"""What upstream's `generate` asks."""


def install() -> None:
    """Put the stand-ins where upstream will import them from."""
    for name in (*MODULES, *VOICE, *SEARCH):
        sys.modules[name] = _StandIn(name)
    sys.modules["litellm"].__dict__.update(
        completion=COMPLETIONS, completion_cost=lambda **_: 0.0, disable_cache=lambda: None
    )
    connections = ("Limits", "Client", "AsyncClient")  # Made as upstream is imported, for litellm.
    sys.modules["httpx"].__dict__.update(dict.fromkeys(connections, lambda **_: None))
    sys.modules["elevenlabs"].__dict__.update(VoiceSettings=lambda **_: None)


class _StandIn(ModuleType):
    """A module whose attributes can be named, as annotations do, and not used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (_Absent,), {"library": self.__name__})


class _Absent:
    library = ""

    def __init__(self, *given: Any, **named: Any) -> None:
        raise RuntimeError(f"{type(self).__name__} of {self.library} is not there while a benchmark is played")


def _call(call: dict[str, Any]) -> Any:
    function = call["function"]
    named = SimpleNamespace(name=function["name"], arguments=function.get("arguments") or "{}")
    return SimpleNamespace(id=call.get("id") or "", function=named)
