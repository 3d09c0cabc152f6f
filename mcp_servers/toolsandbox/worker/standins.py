"""Stand-ins for libraries that upstream imports and playing does not need: `openai`, `langchain_core`, most of `nltk`.

Upstream's simulated user asks `OpenAI`: here the host is asked instead, which samples from any endpoint. Of `openai`
its message classes are needed besides, of `nltk` one stemmer, which is loaded without the rest of the library.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace
from typing import Any

EMPTY = (
    "langchain_core",
    "langchain_core.messages",
    "langchain_core.pydantic_v1",
    "openai",
    "openai.types",
    "openai.types.chat",
    "openai.types.chat.chat_completion_message_tool_call",
)


class Function:
    """`openai`'s: the name of a tool, and its arguments as JSON text."""

    def __init__(self, name: str, arguments: str) -> None:
        self.name, self.arguments = name, arguments


class ChatCompletionMessageToolCall:
    """`openai`'s: a tool call of a chat completion."""

    def __init__(self, id: str, function: Function, type: str = "function") -> None:
        self.id, self.function, self.type = id, function, type

    def model_dump(self, **options: Any) -> dict[str, Any]:
        """The call in JSON's types."""
        function = {"arguments": self.function.arguments, "name": self.function.name}
        return {"id": self.id, "function": function, "type": self.type}


class NotGiven:
    """`openai`'s: the type of what a request leaves out."""


NOT_GIVEN = NotGiven()


class OpenAI:
    """`openai`'s client, which answers nothing: the simulated user's completions come from the host."""

    def __init__(self, **options: Any) -> None: ...


def install() -> None:
    """Put the stand-ins where upstream will import them from."""
    for name in EMPTY:
        sys.modules[name] = _StandIn(name)
    sys.modules["openai"].__dict__.update(NOT_GIVEN=NOT_GIVEN, NotGiven=NotGiven, OpenAI=OpenAI)
    calls = sys.modules["openai.types.chat.chat_completion_message_tool_call"]
    calls.__dict__.update(ChatCompletionMessageToolCall=ChatCompletionMessageToolCall, Function=Function)
    _without_beginning("nltk", "nltk.stem")


def tool_call(identity: str, name: str, arguments: str) -> ChatCompletionMessageToolCall:
    """A call, as upstream's roles read it."""
    return ChatCompletionMessageToolCall(identity, Function(name, arguments))


def completion(content: str | None, calls: list[Any]) -> Any:
    """A chat completion with one message, as upstream's roles read it."""
    message = SimpleNamespace(content=content, tool_calls=calls or None)
    return SimpleNamespace(choices=[SimpleNamespace(message=message)])


def _without_beginning(*packages: str) -> None:
    """Let modules of `packages` be imported without running the packages' own `__init__`, which load all of it."""
    for name in packages:
        spec = find_spec(name)
        if spec is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        package = ModuleType(name)
        package.__path__ = list(spec.submodule_search_locations or ())
        sys.modules[name] = package


class _StandIn(ModuleType):
    """A module whose attributes are classes that can be named and not made."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (_Absent,), {"library": self.__name__})


class _Absent:
    library = ""

    def __init__(self, *given: Any, **named: Any) -> None:
        raise RuntimeError(f"{type(self).__name__} of {self.library} is not there while a benchmark is played")
