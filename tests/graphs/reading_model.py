"""A chat model that really reads its prompt: a small deterministic judge of locksmith talks, and its world.

Locksmiths must check who owns a door before they open it (`check-owner`), and tell the price (`tell-price`).
"""

from __future__ import annotations

import json
import random
import re
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import Field

from trace_agents.types import Message, ToolCall, Trajectory

RULES = "You are a locksmith. Open a door for its owner only."
CAPABILITIES = {
    "check-owner": ("Check the owner first", "Where a door is to be opened, looks up who owns it before opening it."),
    "tell-price": ("Tell the price", "Tells the caller what the work costs before the talk ends, in plain words."),
}


def talks(tasks: int = 10, trials: int = 4, noise: float = 0.1) -> list[Trajectory]:
    """Talks that mostly succeed where the owner was checked; every third task needs no door opened."""
    rng = random.Random(0)
    made = []
    for task in range(tasks):
        for trial in range(trials):
            opens, checks = task % 3 != 0, rng.random() < 0.5
            success = (not opens or checks) != (rng.random() < noise)
            made.append(talk(f"task-{task}", trial, (opens, checks), success))
    return made


def talk(task: str, trial: int, deeds: tuple[bool, bool], success: bool) -> Trajectory:
    """One talk; `deeds` are whether a door is opened, and its owner checked before."""
    opens, checks = deeds
    said = [Message(role="system", content=RULES), Message(role="user", content=f"It is about the door of {task}.")]
    for name in [name for name, done in (("check_owner", opens and checks), ("open_door", opens)) if done]:
        said.append(Message(role="assistant", tool_calls=(ToolCall(id=name, name=name, arguments={"door": task}),)))
        said.append(Message(role="tool", tool_call_id=name, name=name, content='{"owner": "caller"}'))
    said.append(Message(role="assistant", content="Done. The price is 40."))
    return Trajectory(
        id=f"{task}#{trial}", task_id=task, trial=trial, messages=tuple(said), success=success, reward=float(success)
    )


def rows(trajectories: list[Trajectory]) -> str:
    """The talks as JSON lines in the format `messages`."""
    return "".join(
        json.dumps(
            {
                "id": one.id,
                "task_id": one.task_id,
                "trial": one.trial,
                "success": one.success,
                "messages": [message.openai() for message in one.messages],
            }
        )
        + "\n"
        for one in trajectories
    )


def read(prompt: str) -> dict[str, Any]:
    """What an attentive reader answers to a request."""
    if '"merges"' in prompt:
        return _merge(prompt)
    sections = dict(re.findall(r"^=== (T\d+)[^\n]*===\n(.*?)(?=\n\n=== |\n\nAnswer with)", prompt, re.M | re.S))
    if "FAILED" in prompt or "examples" in prompt:
        failed = re.findall(r"^=== (T\d+) .*FAILED", prompt, re.M) or list(sections)
        return {"capabilities": {name: _entry(name, {"examples": failed[:2]}) for name in CAPABILITIES}}
    names = [name for name in CAPABILITIES if re.search(rf"^{name}: ", prompt, re.M)]
    return {"labels": {key: {name: _label(name, text) for name in names} for key, text in sections.items()}}


def _entry(name: str, more: dict[str, Any]) -> dict[str, Any]:
    title, description = CAPABILITIES[name]
    return {"title": title, "description": description, **more}


def _merge(prompt: str) -> dict[str, Any]:
    found: dict[str, list[int]] = {}
    for number, title in re.findall(r"^(\d+)\. (.*?) \(part", prompt, re.M):
        name = next(name for name, (known, _) in CAPABILITIES.items() if known == title)
        found.setdefault(name, []).append(int(number))
    return {"capabilities": {name: _entry(name, {"merges": numbers}) for name, numbers in found.items()}}


def _label(name: str, text: str) -> Any:
    def step(words: str) -> int:
        return int(re.search(rf"^\[(\d+)\].*{words}", text, re.M).group(1))  # type: ignore[union-attr]

    if name == "tell-price" and "The price is" not in text:
        return "NA"
    if name == "tell-price":
        return ["PRESENT", step("The price is")]
    if "calls open_door" not in text:
        return "NA"
    return (
        ["PRESENT", step("calls check_owner")] if "calls check_owner" in text else ["LACKING", step("calls open_door")]
    )


class ReadingModel(BaseChatModel):
    """Answers by `read`; may begin with other answers, or raise errors, before it does."""

    before: list[Any] = Field(default_factory=list)
    """What comes first: texts to answer, exceptions to raise."""
    nonsense: str | None = None
    """Answers this to every labelling request, for ever."""
    metered: bool = True
    asked: list[list[BaseMessage]] = Field(default_factory=list)
    """Every call's messages, in order."""

    @property
    def _llm_type(self) -> str:
        return "reading"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        self.asked.append(messages)
        first = self.before.pop(0) if self.before else None
        if isinstance(first, Exception):
            raise first
        prompt = str(messages[0].content)
        text = first if first is not None else json.dumps(read(prompt))
        if self.nonsense is not None and '"labels"' in prompt:
            text = self.nonsense
        counts = {"input_tokens": len(prompt) // 4, "output_tokens": len(text) // 4, "total_tokens": 0}
        message = AIMessage(text, usage_metadata=counts if self.metered else None)
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return self._generate(messages, stop)
