"""All that is done with upstream's `tau2`: its environments, its user simulator and its evaluators do the work.

`standins.install` comes before this module is imported.
"""

from __future__ import annotations

import hashlib
import platform
from collections import defaultdict
from pathlib import Path
from typing import Any

import pydantic
import tau2
from standins import COMPLETIONS, Asked
from tau2.data_model.message import AssistantMessage, MultiToolMessage, ToolCall, ToolMessage, UserMessage
from tau2.data_model.simulation import SimulationRun
from tau2.data_model.tasks import RewardType, Task
from tau2.environment.db import DB
from tau2.environment.environment import Environment
from tau2.evaluator import evaluator
from tau2.evaluator.evaluator import EvaluationType, evaluate_simulation
from tau2.orchestrator.orchestrator import DEFAULT_FIRST_AGENT_MESSAGE
from tau2.registry import registry
from tau2.user.user_simulator import UserSimulator

COPIES = 3 if hasattr(evaluator, "get_tool_types") else 2
"""Parsed databases in stock: an episode uses one, an evaluation two, and from v1.0.0 on a third to see its tools."""


class Domain:
    """One domain, loaded once; the operations of one session on it, named `do_*`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._construct = registry.get_env_constructor(name)
        _load_from_stock()
        environment = self.stock()
        self._tools = [tool.openai_schema["function"] for tool in environment.get_tools()]
        self._user_tools = environment.get_user_tools() if environment.user_tools is not None else None
        self._policy = environment.get_policy()

    @property
    def is_stocked(self) -> bool:
        """Evaluations find all that they need."""
        return all(len(copies) >= COPIES for copies in _STOCK.values())

    def stock(self) -> Environment:
        """Parse the databases once more, and put them in stock for one environment of a session."""
        held = {kind: copies[:] for kind, copies in _STOCK.items()}
        _STOCK.clear()
        environment: Environment = self._construct()
        for kit in (environment.tools, environment.user_tools):
            if kit is not None:
                _STOCK[type(kit.db)] = [*held.get(type(kit.db), ()), kit.db]
        return environment

    def do_describe(self) -> dict[str, Any]:
        """What the domain offers, and what it runs on."""
        return {
            "tools": self._tools,
            "user_tools": [tool.openai_schema["function"] for tool in self._user_tools or ()],
            "policy": self._policy,
            "greeting": DEFAULT_FIRST_AGENT_MESSAGE.content,
            "code": code_digest(Path(tau2.__file__).parent),
            "pydantic": pydantic.VERSION,
            "python": platform.python_version(),
        }

    def do_start(self, task: dict[str, Any]) -> None:
        """Set the state that the task begins in."""
        self._task = Task.model_validate(task)
        self._environment = self._construct()
        initial = self._task.initial_state
        self._environment.set_state(
            initialization_data=initial.initialization_data if initial else None,
            initialization_actions=initial.initialization_actions if initial else None,
            message_history=[],
        )
        self._environment.sync_tools()
        self._user: Any = None

    def do_call(self, id: str, name: str, arguments: dict[str, Any], requestor: str) -> dict[str, Any]:
        """Run a tool for the agent or the user; the answer is a message of upstream's trajectory."""
        call = ToolCall(id=id, name=name, arguments=arguments, requestor=requestor)
        answer = self._environment.get_response(call)
        self._environment.sync_tools()
        return _plain(answer)

    def do_hash(self) -> list[str | None]:
        """Hashes of the agent's and the user's database."""
        return [self._environment.get_db_hash(), self._environment.get_user_db_hash()]

    def do_hear(self, text: str) -> dict[str, Any]:
        """The agent speaks to upstream's user simulator: the completion that the user needs for an answer."""
        if self._user is None:
            instructions = str(self._task.user_scenario)
            self._user = UserSimulator(tools=self._tools_of_user(), instructions=instructions, llm="host", llm_args={})
            self._user_state = self._user.get_init_state()
        self._heard: Any = AssistantMessage(role="assistant", content=text)
        return self._wanted()

    def do_say(self, completion: dict[str, Any]) -> dict[str, Any]:
        """The user's answer from a completion: new messages, whether it stops, and the next completion it needs."""
        COMPLETIONS.given = completion
        said, self._user_state = self._user.generate_next_message(self._heard, self._user_state)
        said.validate()
        if not said.is_tool_call():
            return {"messages": [_plain(said)], "done": UserSimulator.is_stop(said), "wanted": None}
        answers = [self._environment.get_response(call) for call in said.tool_calls]
        self._environment.sync_tools()
        several = len(answers) > 1
        self._heard = MultiToolMessage(role="tool", tool_messages=answers) if several else answers[0]
        return {"messages": [_plain(said), *map(_plain, answers)], "done": False, "wanted": self._wanted()}

    def _tools_of_user(self) -> Any:
        """Those of the domain, or the ones among them that the task names, which it can from v1.0.0 on."""
        named = getattr(self._task, "user_tools", None)
        if named is None or self._user_tools is None:
            return self._user_tools
        return [tool for tool in self._user_tools if tool.name in named] or None

    def _wanted(self) -> dict[str, Any]:
        """The request that the user simulator makes; it is asked again once the completion is there."""
        COMPLETIONS.given = None
        try:
            self._user.generate_next_message(self._heard, self._user_state.model_copy(deep=True))
        except Asked as asked:
            return asked.request
        raise RuntimeError("the user simulator asked for no completion")

    def do_evaluate(
        self,
        task: dict[str, Any],
        messages: list[dict[str, Any]],
        ending: str,
        completion: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Upstream's verdict on a trajectory that ended in `ending`; or the completion that its judge needs for one."""
        run = SimulationRun(
            id="", task_id=task["id"], start_time="", end_time="", duration=0.0,
            termination_reason=ending, messages=[_message(message) for message in messages],
        )  # fmt: skip
        COMPLETIONS.given = completion
        judged = Task.model_validate(task)
        try:
            reward = evaluate_simulation(run, judged, _parts(judged), False, self.name)
        except Asked as asked:
            return {"wanted": asked.request}
        return {"wanted": None, **reward.model_dump(mode="json")}


_STOCK: dict[type[DB], list[DB]] = defaultdict(list)


def _load_from_stock() -> None:
    """Let upstream's loading take an unused database from the stock; a session is a fork, so each uses its own copy."""
    parse = DB.load.__func__

    def load(cls: type[DB], path: str) -> DB:
        return _STOCK[cls].pop() if _STOCK[cls] else parse(cls, path)

    DB.load = classmethod(load)


def _parts(task: Task) -> EvaluationType:
    """All that the task's reward is made of.

    Where assertions in plain language are a part, `ALL` has them from v1.0.1 on, and raises before.
    """
    criteria = task.evaluation_criteria
    stated = criteria is not None and RewardType.NL_ASSERTION in criteria.reward_basis
    return EvaluationType.ALL_WITH_NL_ASSERTIONS if stated else EvaluationType.ALL


_KEPT = {"id", "role", "content", "tool_calls", "requestor", "error"}
"""What evaluations read of a message: not when it came, what it cost, or how it would sound."""


def _plain(message: Any) -> dict[str, Any]:
    return dict(message.model_dump(mode="json", include=_KEPT))


_ROLES = {"assistant": AssistantMessage, "user": UserMessage, "tool": ToolMessage}


def _message(message: dict[str, Any]) -> Any:
    return _ROLES[message["role"]].model_validate(message)


def code_digest(folder: Path) -> str:
    """SHA-256 over upstream's Python files: their paths and contents in order."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*.py"), key=lambda path: path.relative_to(folder).as_posix()):
        total.update(f"{path.relative_to(folder).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return total.hexdigest()
