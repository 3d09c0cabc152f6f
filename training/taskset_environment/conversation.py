"""What passes between an episode, which an agent outside plays, and the rollout of verifiers' that it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import verifiers.v1 as vf
from verifiers.v1.types import content_text

from trace_agents.errors import TaskUnavailable
from trace_agents.types import Message, ToolCall, ToolResult, ToolSpec

Call = Callable[[str, Mapping[str, object]], Awaitable[ToolResult]]


class Conversation:
    """One exchange, from both sides.

    The rollout's side runs in a task of its own: it asks for the agent's next words (`ask`), and at the end for what is
    to be judged (`verdict_asked`). The episode's side waits for what the rollout does next (`heard`), hands it the
    agent's words (`say`), or ends the exchange (`judge`, `abandon`).
    """

    def __init__(self) -> None:
        self.policy = ""
        """The system prompt."""
        self.tools: tuple[ToolSpec, ...] = ()
        self.call: Call | None = None
        """Runs a tool; None until the tool servers answer."""
        self.messages: list[Message] = []
        """What has been said and done, as the episode saw it."""
        self.judged: tuple[Message, ...] = ()
        """The conversation that is to be judged."""
        self._user: asyncio.Queue[str | None] = asyncio.Queue()
        self._agent: asyncio.Queue[str | None] = asyncio.Queue()
        self._ending = asyncio.Event()

    # The rollout's side.

    async def ask(self, prompt: str) -> bool:
        """Tell the agent what the user says and wait for its text; False where the exchange ends before it."""
        if self._ending.is_set():
            return False
        self.messages.append(Message(role="user", content=prompt))
        self._user.put_nowait(prompt)
        said = await self._agent.get()
        if said is None:
            return False
        self.messages.append(Message(role="assistant", content=said))
        return True

    async def verdict_asked(self) -> None:
        """The user says no more; returns when the episode is to be judged, or is abandoned."""
        self._user.put_nowait(None)
        await self._ending.wait()

    # The episode's side.

    async def heard(self) -> str | None:
        """What the user says next; None where the exchange is over."""
        return await self._user.get()

    def say(self, text: str) -> None:
        """Hand over the agent's words."""
        self._agent.put_nowait(text)

    def acted(self, call: ToolCall, result: ToolResult) -> None:
        """Note a tool call and its result."""
        answer = Message(
            role="tool", content=result.content, tool_call_id=call.id, name=call.name, is_error=result.is_error
        )
        self.messages += [Message(role="assistant", tool_calls=(call,)), answer]

    def judge(self, messages: Sequence[Message]) -> None:
        """End the exchange, and have `messages` judged."""
        self.judged = tuple(messages)
        self.abandon()

    def abandon(self) -> None:
        """End the exchange."""
        self._ending.set()
        self._agent.put_nowait(None)


def opening(data: vf.TaskData) -> tuple[str, str]:
    """The policy and the user's first message of a task; the message is empty where its user opens the conversation.

    Raises:
        TaskUnavailable: its prompt is more than that, such as pictures or earlier turns.
    """
    policy: list[str] = [data.system_prompt or ""]
    prompt: list[str] = []
    for message in data.prompt if isinstance(data.prompt, list) else []:
        if message.role not in ("system", "user"):
            raise _more(data, f"a message of the {message.role}")
        (policy if message.role == "system" else prompt).append(text_of(data, message))
    if isinstance(data.prompt, str):
        prompt.append(data.prompt)
    return "\n\n".join(filter(None, policy)), "\n\n".join(prompt)


def text_of(data: vf.TaskData, message: vf.Message) -> str:
    """The text of a user's message.

    Raises:
        TaskUnavailable: it holds pictures.
    """
    content = message.content
    if isinstance(content, list) and any(part.type != "text" for part in content):
        raise _more(data, "a picture")
    return content_text(content)


def named(data: vf.TaskData) -> str:
    """What errors call a task before it has an id of ours."""
    return data.id or data.name or str(data.idx)


def _more(data: vf.TaskData, what: str) -> TaskUnavailable:
    return TaskUnavailable(f"task {named(data)!r} has {what} in its prompt: an episode opens with a text of the user")
