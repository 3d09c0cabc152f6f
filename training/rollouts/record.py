"""Building a verifiers trace turn by turn, so that its tokens are the ones the model saw and sampled."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache

import verifiers.v1 as vf
from verifiers.v1.graph import MessageNode
from verifiers.v1.runtimes import SubprocessConfig
from verifiers.v1.trace import AgentInfo, Error, ModelCall, TimeSpan, TraceTask

from trace_agents.endpoint import Completion, Sampling
from trace_agents.types import Message, ToolSpec
from training.rollouts.messages import to_verifiers, tool_to_verifiers
from training.rollouts.tasks import EnvironmentTask, EpisodeState, EpisodeTrace


class TraceRecorder:
    """The trace of one rollout while it is played.

    Along a branch, the concatenation of the nodes' `token_ids` is the last prompt and what was sampled after it.
    A prompt that does not extend the tokens before it starts a new branch, whose nodes repeat the conversation.
    A chat template renders messages together, so the tokens that a prompt adds lie on the last of its new messages.
    """

    def __init__(self, task: EnvironmentTask, agent: AgentInfo, trial: int = 0, attempt: int = 0) -> None:
        recorded = TraceTask(type=type(task).__name__, data=task.data, key=task.key)
        info = {"trial": trial, "attempt": attempt, "tool_errors": [], "malformed_calls": 0}
        self.trace = EpisodeTrace(task=recorded, agent=agent, info=info, state=EpisodeState())
        self._tools: list[vf.Tool] = []
        self._messages: list[vf.Message] = []
        self._token_ids: list[int] = []
        self._leaf: int | None = None

    def offer(self, tools: Sequence[ToolSpec]) -> None:
        """Record the tools that the agent has."""
        self._tools = [tool_to_verifiers(tool) for tool in tools]
        self.trace.tools = self._tools

    def ask(self, model: str, sampling: Sampling, prompt_tokens: int) -> None:
        """Record that `model` is called now, on a prompt of `prompt_tokens`."""
        knobs = vf.Sampling(temperature=sampling.temperature, top_p=sampling.top_p, max_tokens=sampling.max_tokens)
        call = ModelCall(
            model=model,
            sampling=knobs,
            usage=vf.Usage(prompt_tokens=prompt_tokens, completion_tokens=0),
            time=TimeSpan(start=time.time()),
        )
        self.trace.calls.append(call)

    def answer(self, completion: Completion | Exception) -> None:
        """Record what the last call gave: a completion, or the failure that ended it."""
        call = self.trace.calls[-1]
        call.time.end = time.time()
        if isinstance(completion, Exception):
            call.error = Error(type=type(completion).__name__, message=str(completion))
            return
        call.finish_reason = "length" if completion.finish_reason == "length" else "stop"
        call.usage = call.usage.model_copy(update={"completion_tokens": len(completion.token_ids)})

    def turn(
        self, prompt_ids: Sequence[int], inputs: Sequence[Message], completion: Completion, reply: Message
    ) -> None:
        """Record the turn of the last call: `inputs` are new in its prompt, `reply` is what `completion` says."""
        call = self.trace.calls[-1]
        added = [to_verifiers(message) for message in inputs]
        prompt_ids = list(prompt_ids)
        self._messages += added
        if self._leaf is not None and prompt_ids[: len(self._token_ids)] != self._token_ids:
            self._leaf, self._token_ids, added = None, [], self._messages
        for message in added[:-1]:
            self._append(message, [])
        self._append(added[-1], prompt_ids[len(self._token_ids) :])
        answer = to_verifiers(reply)
        self._append(answer, completion.token_ids, completion.logprobs)
        self._messages.append(answer)
        self._token_ids = [*prompt_ids, *completion.token_ids]
        call.node = self._leaf
        if reply.tool_calls and call.finish_reason == "stop":
            call.finish_reason = "tool_calls"

    def unread(self, inputs: Sequence[Message]) -> None:
        """Record messages that no prompt carried any more, because the episode ended."""
        for message in inputs:
            self._append(to_verifiers(message), [])

    def _append(self, message: vf.Message, token_ids: list[int], logprobs: list[float] | None = None) -> None:
        node = MessageNode(
            parent=self._leaf,
            tools=self._tools if self._leaf is None else [],
            message=message,
            sampled=logprobs is not None,
            token_ids=token_ids,
            mask=[logprobs is not None] * len(token_ids),
            logprobs=logprobs or [],
        )
        self._leaf = len(self.trace.nodes)
        self.trace.nodes.append(node)


@lru_cache(maxsize=64)
def agent_info(model: str, sampling: Sampling, max_turns: int | None = None) -> AgentInfo:
    """The agent that `model` is, as verifiers records it. The same for all its traces: not to be changed."""
    knobs = vf.Sampling(temperature=sampling.temperature, top_p=sampling.top_p, max_tokens=sampling.max_tokens)
    # Nothing is provisioned: the agent runs in this process, for which verifiers' nearest word is `subprocess`.
    seat = vf.AgentConfig(model=model, sampling=knobs, max_turns=max_turns, runtime=SubprocessConfig())
    return AgentInfo(config=seat)
