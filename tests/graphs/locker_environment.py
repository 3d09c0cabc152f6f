"""A tiny environment, a scripted agent for it, and a server: what the routed agent's tests are played with."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Literal

import uvicorn
from starlette.types import ASGIApp

from mcp_servers.http import environment_app
from trace_agents.endpoint import Completion, Sampling
from trace_agents.environment import Environment
from trace_agents.errors import UsageError, unknown
from trace_agents.types import Evaluation, Message, TaskInstance, ToolResult, ToolSpec, UserTurn
from training.chat import ChatFormat

CODES = {"3": "4711", "5": "0815", "7": "1234"}
_NUMBER = {"number": {"type": "string", "description": "Number of the locker."}}


def _tool(name: str, description: str, properties: Mapping[str, object]) -> ToolSpec:
    # An open object with a root key out of alphabetical order: neither may be changed on the way to the prompt.
    schema = {"type": "object", "required": list(properties), "properties": {**properties, "note": {"type": "object"}}}
    return ToolSpec(name=name, description=description, input_schema=schema)


TOOLS = (
    _tool("look", "Look up the code of a locker.", _NUMBER),
    _tool("open", "Open a locker with its code.", {**_NUMBER, "code": {"type": "string"}}),
)
POLICY = "Look up the code before you open a locker."


class LockerEpisode:
    """Lockers to be opened; the user asks for one after another."""

    def __init__(self, task: TaskInstance) -> None:
        self.task = task
        self.tools: Sequence[ToolSpec] = TOOLS
        self.policy = POLICY
        self.opened: list[str] = []
        self._wanted: list[str] = list(task.data["lockers"])
        self._asked = 1

    async def call(self, name: str, arguments: Mapping[str, object]) -> ToolResult:
        number = str(arguments["number"])
        if number not in CODES:
            return ToolResult(content=json.dumps({"error": f"no locker {number}"}), is_error=True)
        if name == "look":
            return ToolResult(content=json.dumps({"number": number, "code": CODES[number]}))
        if arguments["code"] != CODES[number]:
            return ToolResult(content=json.dumps({"error": "wrong code"}), is_error=True)
        self.opened.append(number)
        return ToolResult(content=json.dumps({"opened": number}))

    async def user_turn(self, message: str) -> UserTurn:
        if self._asked == len(self._wanted):
            return UserTurn()
        self._asked += 1
        return UserTurn(content=f"Now open locker {self._wanted[self._asked - 1]}.")

    async def evaluate(self, messages: Sequence[Message]) -> Evaluation:
        success = self.opened == self._wanted
        return Evaluation(reward=float(success), success=success)

    async def close(self) -> None: ...


class Lockers(Environment):
    """One split; each task is one or more lockers."""

    name = "lockers"
    splits: Mapping[str, int] = {"all": 3}

    def tasks(self, split: str) -> Sequence[TaskInstance]:
        if split not in self.splits:
            raise unknown("split", split, list(self.splits))
        return [self.task("-".join(lockers)) for lockers in (("3",), ("3", "5"), ("7", "5", "3"))]

    def task(self, task_id: str) -> TaskInstance:
        lockers = task_id.split("-")
        if not set(lockers) <= set(CODES):
            raise UsageError(f"unknown task {task_id!r}: use for example '3-5'")
        prompt = f"Open locker {lockers[0]}."
        return TaskInstance(id=task_id, environment=self.name, split="all", prompt=prompt, data={"lockers": lockers})

    def generate(self, seed: int) -> TaskInstance:
        raise UsageError(f"seed {seed!r}: lockers has fixed tasks only")

    async def start(self, task: TaskInstance) -> LockerEpisode:
        return LockerEpisode(task)


class ScriptedEndpoint:
    """A model endpoint whose models are functions from the conversation's text to the turn's text."""

    def __init__(self, chat: ChatFormat, scripts: Mapping[str, Callable[[str], str]]) -> None:
        self.chat, self.scripts = chat, scripts
        self.prompts: list[tuple[str, list[int]]] = []
        """Model and prompt of each call."""

    async def models(self) -> list[str]:
        return list(self.scripts)

    async def generate(self, prompt_ids: Sequence[int], model: str, sampling: Sampling) -> Completion:
        if model not in self.scripts:
            raise unknown("model", model, list(self.scripts))
        self.prompts.append((model, list(prompt_ids)))
        said = self.scripts[model](self.chat.tokenizer.decode(list(prompt_ids)))
        ids = [*self.chat.encode(said), *self.chat.stop_token_ids]
        return Completion(token_ids=ids, logprobs=[-0.5] * len(ids), model=model)

    async def score_next(self, prompt_ids: Sequence[int], candidates: Sequence[int], model: str) -> list[float]:
        raise NotImplementedError

    async def load_adapter(self, name: str, path: str) -> None:
        raise NotImplementedError

    async def unload_adapter(self, name: str) -> None:
        raise NotImplementedError


def calling(name: str, **arguments: str) -> str:
    """A turn that calls one tool."""
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


def _turns(text: str) -> tuple[str, str]:
    """Number of the locker asked for last, and the last message of the conversation."""
    number = text.rpartition("pen locker ")[2].partition(".")[0]
    return number, text.removesuffix("<|assistant|>").removesuffix("<|end|>").rpartition("|>")[2]


def careful(text: str) -> str:
    """Looks the code up, then opens: what the policy says."""
    number, last = _turns(text)
    if "code" in last:
        return calling("open", number=number, code=json.loads(last)["code"])
    return f"Locker {number} is open." if "opened" in last else calling("look", number=number)


def hasty(text: str) -> str:
    """Guesses a code and gives up."""
    number, last = _turns(text)
    return "I cannot open it." if "error" in last else calling("open", number=number, code="0000")


def serving(environment: Environment) -> AbstractContextManager[str]:
    """URL of an environment's server in a thread."""
    return served(environment_app(environment), lifespan="on")


@contextmanager
def served(app: ASGIApp, lifespan: Literal["on", "off"] = "off") -> Iterator[str]:
    """URL of an application in a thread; the socket listens before this returns, so nobody needs to wait."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan=lifespan, ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()
