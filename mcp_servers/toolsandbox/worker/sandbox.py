"""All that is done with upstream's `tool_sandbox`: its tools, execution environment, user and evaluator do the work.

`standins.install` comes before this module is imported.
"""

from __future__ import annotations

import hashlib
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import dill
import tool_sandbox
from catalogue import Agent, catalogue
from facts import Facts
from frozen import freeze_clock, hide_addresses, number_identifiers
from limits import CALL_S, computing
from recording import results
from standins import completion, tool_call
from tool_sandbox.common.evaluation import EvaluationResult
from tool_sandbox.common.execution_context import DatabaseNamespace, RoleType, get_current_context, set_current_context
from tool_sandbox.common.message_conversion import Message, openai_tool_call_to_python_code
from tool_sandbox.common.scenario import Scenario
from tool_sandbox.roles.execution_environment import ExecutionEnvironment
from tool_sandbox.roles.openai_api_user import OpenAIAPIUser

JUDGED_BY = ("polars", "rouge-score", "rapidfuzz", "holidays", "scipy")
"""Libraries whose version may change a result."""


class Sandbox:
    """All scenarios, loaded once; the operations of one session on one of them, named `do_*`."""

    is_stocked = True

    def __init__(self, folder: str, instant: str) -> None:
        self._code = code_digest(Path(tool_sandbox.__file__).parent)
        freeze_clock(instant)
        hide_addresses()
        self._catalogue = catalogue(Path(folder), instant, self._code)
        self._online = {entry["name"] for entry in self._catalogue["index"] if entry["online"]}

    def stock(self) -> None:
        """Nothing more is needed."""

    def do_describe(self) -> dict[str, Any]:
        """The scenarios, and what they run on."""
        return {
            "scenarios": self._catalogue["index"],
            "tools": self._catalogue["tools"],
            "code": self._code,
            "libraries": {name: version(name) for name in JUDGED_BY},
            "python": platform.python_version(),
        }

    def do_start(self, name: str, facts: list[dict[str, Any]] | None, key: str) -> list[dict[str, Any]]:
        """Begin a scenario, with the RapidAPI answers that are known and a key to ask for others; the agent's tools."""
        self._scenario, tools = self._load(name)
        self._facts = Facts(facts, key, name in self._online)
        context = self._scenario.starting_context
        set_current_context(context)
        number_identifiers(name)
        self._begun = context.max_sandbox_message_index
        self._verdicts: dict[tuple[int, str | None], EvaluationResult] = {}
        rows = context.get_database(DatabaseNamespace.SANDBOX, get_all_history_snapshots=True).to_dicts()
        for index, row in enumerate(rows):
            if (row["sender"], row["recipient"]) == (RoleType.SYSTEM, RoleType.EXECUTION_ENVIRONMENT):
                ExecutionEnvironment().respond(ending_index=index)
        return tools

    def do_call(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """The agent calls a tool: its result, whether it is an error, and RapidAPI answers that were asked for."""
        context = get_current_context()
        offered = Agent.get_available_tools()
        number = f"call_{self._last()['sandbox_message_index']}"
        if self._is_over():
            return {"content": None, "error": True, "learned": []}
        call = tool_call(number, name, json.dumps(arguments))
        try:
            real = context.get_execution_facing_tool_name(name) if name in offered else None
            code = openai_tool_call_to_python_code(call, set(offered), real)
        except KeyError as error:
            return {"content": str(error.args[0]), "error": True, "learned": []}
        self._add(RoleType.AGENT, RoleType.EXECUTION_ENVIRONMENT, code, number, name)
        if self._is_over():
            return {"content": None, "error": True, "learned": []}
        with computing(CALL_S):
            ExecutionEnvironment().respond()
        answer = self._last()
        failed = answer["tool_call_exception"] is not None
        return {"content": answer["content"], "error": failed, "learned": self._facts.learned()}

    def do_say(self, text: str) -> bool:
        """The agent speaks to the user: whether the conversation is over before they answer."""
        if self._is_over():
            return True
        self._add(RoleType.AGENT, RoleType.USER, text)
        return self._is_over()

    def do_tell(self, text: str) -> bool:
        """A scripted user speaks to the agent: whether the conversation is over before they act."""
        self._add(RoleType.USER, RoleType.AGENT, text)
        return self._is_over()

    def do_end(self) -> None:
        """A scripted user ends the conversation, as upstream's does."""
        self._add(RoleType.USER, RoleType.EXECUTION_ENVIRONMENT, "end_conversation()")
        if self._last()["recipient"] == RoleType.EXECUTION_ENVIRONMENT and not self._is_over():
            ExecutionEnvironment().respond()

    def do_wanted(self) -> dict[str, Any]:
        """The completion that upstream's simulated user asks for."""
        user = _User(None)
        try:
            user.respond()
        except _Asked as asked:
            return asked.request
        raise RuntimeError("the simulated user asked for no completion")

    def do_reply(self, message: dict[str, Any]) -> dict[str, Any]:
        """The simulated user answers with a completion: what is said to the agent, or who is to act next."""
        before = get_current_context().max_sandbox_message_index
        _User(message).respond()
        while not self._is_over() and self._last()["recipient"] == RoleType.EXECUTION_ENVIRONMENT:
            ExecutionEnvironment().respond()
        last, over = self._last(), self._is_over()
        said = last["content"] if last["recipient"] == RoleType.AGENT else None
        added = get_current_context().max_sandbox_message_index - before
        return {"said": said, "over": over, "wanted": said is None and not over, "added": added}

    def do_evaluate(self, unheard: str | None) -> dict[str, Any]:
        """Upstream's verdict, with a last text of the agent's that nobody answered."""
        return results(self._judged(unheard))

    def do_record(self, unheard: str | None) -> dict[str, Any]:
        """What upstream's own runner writes about a scenario that was played."""
        from recording import recorded

        judged, held = self._judged(unheard), self._with(unheard)
        try:
            return recorded(self._scenario, get_current_context(), judged)
        finally:
            get_current_context()._dbs = held

    def do_state(self) -> dict[str, str]:
        """SHA-256 of each of the databases, as they are now."""
        context = get_current_context()
        rows = {name: context.get_database(name).to_dicts() for name in DatabaseNamespace}
        return {str(name): hashlib.sha256(json.dumps(each).encode()).hexdigest() for name, each in rows.items()}

    def do_solve(self, name: str, facts: list[dict[str, Any]] | None, key: str) -> dict[str, Any]:
        """Actions that reach every milestone of a scenario, and what they are worth."""
        from solving import Solver

        self.do_start(name, facts, key)
        return Solver(self, self._scenario).solve()

    def _load(self, name: str) -> tuple[Scenario, list[dict[str, Any]]]:
        loaded: tuple[Scenario, list[dict[str, Any]]] = dill.loads(self._catalogue["scenarios"][name])
        return loaded

    def _judged(self, unheard: str | None) -> EvaluationResult:
        """The verdict on what there is now. Upstream tries all ways to match milestones: that may take long."""
        there = (self._last()["sandbox_message_index"], unheard)
        if there not in self._verdicts:
            held = self._with(unheard)
            try:
                judged = self._scenario.evaluation.evaluate(get_current_context(), self._scenario.max_messages)
            finally:
                get_current_context()._dbs = held
            self._verdicts = {there: judged}
        return self._verdicts[there]

    def _with(self, unheard: str | None) -> dict[str, Any]:
        """Add the agent's last text; the databases before, whose frames are never changed in place."""
        held = dict(get_current_context()._dbs)
        if unheard is not None and not self._is_over():
            self._add(RoleType.AGENT, RoleType.USER, unheard)
        return held

    def _add(self, sender: RoleType, recipient: RoleType, text: str, number: str | None = None, tool: str = "") -> None:
        message = Message(sender, recipient, text, openai_tool_call_id=number, openai_function_name=tool or None)
        Agent.add_messages([message])

    def _last(self) -> dict[str, Any]:
        """The last message. Asked for often, and upstream's way to it takes milliseconds."""
        row: dict[str, Any] = get_current_context()._dbs[DatabaseNamespace.SANDBOX].row(-1, named=True)
        return row

    def _is_over(self) -> bool:
        """As the condition of upstream's loop has it."""
        last = self._last()
        used = last["sandbox_message_index"] - self._begun
        return not last["conversation_active"] or used >= self._scenario.max_messages


class _Asked(BaseException):
    """Upstream wants a completion: `request` is what it would send. No `Exception`, so that it is not asked again."""

    def __init__(self, request: dict[str, Any]) -> None:
        super().__init__("a completion")
        self.request = request


class _User(OpenAIAPIUser):
    """Upstream's simulated user, with the completion that the host has given."""

    def __init__(self, message: dict[str, Any] | None) -> None:
        super().__init__()
        self._message = message

    def model_inference(self, openai_messages: Any, openai_tools: Any) -> Any:
        """The completion, or `_Asked`."""
        if self._message is None:
            raise _Asked(
                {"messages": openai_messages, "tools": openai_tools if isinstance(openai_tools, list) else None}
            )
        calls = [call["function"] for call in self._message.get("tool_calls") or ()]
        begun = get_current_context().max_sandbox_message_index
        made = [
            tool_call(f"user_{begun}_{place}", call["name"], call.get("arguments") or "{}")
            for place, call in enumerate(calls)
        ]
        return completion(self._message.get("content"), made)


def code_digest(folder: Path) -> str:
    """SHA-256 over upstream's Python files: their paths and contents in order."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*.py"), key=lambda path: path.relative_to(folder).as_posix()):
        total.update(f"{path.relative_to(folder).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return total.hexdigest()
