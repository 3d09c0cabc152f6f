"""One attempt at one episode: prompt, sample, act, until someone ends it; then the verdict."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import verifiers.v1 as vf
from mcp.client import Client

from mcp_servers.guard import GuardedEpisode
from mcp_servers.memory import connect
from mcp_servers.server import tool_spec
from trace_agents.calls import malformed_call
from trace_agents.endpoint import Completion, Sampler
from trace_agents.environment import Episode
from trace_agents.errors import TaskUnavailable, UsageError
from trace_agents.types import Message, StopReason, TaskInstance, ToolCall, ToolSpec
from training.chat import ChatFormat
from training.rollouts.acting import answer, run_call
from training.rollouts.config import Prompting, RolloutConfig
from training.rollouts.record import TraceRecorder, agent_info
from training.rollouts.tasks import EnvironmentTask, EpisodeTrace


class EpisodeSource(Protocol):
    """What rollouts need of an environment."""

    async def start(self, task: TaskInstance) -> Episode:
        """A fresh, isolated episode of `task`."""


@contextmanager
def crossing(boundary: type[vf.RolloutError], what: str) -> Iterator[None]:
    """Name the boundary that a failure crossed; bad input passes as it is, but for a task that cannot be played."""
    try:
        yield
    except TaskUnavailable as error:
        raise boundary(f"{what}: {error}") from error
    except (UsageError, vf.RolloutError):
        raise
    except Exception as error:
        raise boundary(f"{what}: {str(error) or type(error).__name__}") from error


class Player:
    """Plays one episode as the agent of `recorder`'s trace. Single use."""

    def __init__(
        self,
        endpoint: Sampler,
        chat: ChatFormat,
        config: RolloutConfig,
        recorder: TraceRecorder,
    ) -> None:
        self.endpoint = endpoint
        self.chat = chat
        self.config = config
        self.recorder = recorder
        self.trace: EpisodeTrace = recorder.trace
        self.model: str = recorder.trace.agent.config.model
        self.messages: list[Message] = []
        """The conversation so far, the policy first."""
        self.token_ids: list[int] = []
        """The last prompt and what was sampled after it."""
        self.tools: list[ToolSpec] = []
        self.turns = 0

    async def run(self, environment: EpisodeSource, task: TaskInstance) -> EpisodeTrace:
        """Play and judge; what infrastructure does to the episode is data on the trace, not an exception.

        Raises:
            UsageError: bad input, such as an unknown model name.
        """
        try:
            async with asyncio.timeout(self.config.timeout) as limit:
                await self._play(environment, task)
            self.trace.ok = True
        except vf.RolloutError as error:
            self.trace.record_error(error)
        except TimeoutError:
            if not limit.expired():
                raise
            self.trace.record_error(vf.HarnessError(f"the rollout took over {self.config.timeout} s"))
            self.trace.is_timeout = True
        self._close_timing()
        return self.trace

    async def _play(self, environment: EpisodeSource, task: TaskInstance) -> None:
        timing = self.trace.timing
        timing.setup.start = time.time()
        with crossing(vf.TaskError, f"starting task {task.id!r}"):
            episode = GuardedEpisode.of(await environment.start(task))
        try:
            await self._route(episode.task)
            with crossing(vf.ToolsetError, "connecting to the episode's tools"):
                await self._connected(episode)
            timing.scoring.start = timing.agent.end = time.time()
            with crossing(vf.TaskError, f"evaluating task {task.id!r}"):
                self.trace.state.evaluation = await episode.evaluate(self.messages[1:])
            await EnvironmentTask(self.trace.task.data).score(self.trace)
        finally:
            await episode.close()

    async def _route(self, task: TaskInstance) -> None:
        """Let the router, if there is one for this task, choose who acts, now that the user has spoken."""
        if self.config.router is None or task.id in self.config.models:
            return
        with crossing(vf.ProviderError, f"routing task {task.id!r}"):
            self.model = (await self.config.router.route(task.prompt)).model
        self.trace.info["route"] = self.model
        self.trace.agent = agent_info(self.model, self.config.sampling, self.config.max_turns)

    async def _connected(self, episode: GuardedEpisode) -> None:
        """Converse through an MCP client; what fails in between is raised as it was, not in a group."""
        failure: Exception | None = None
        async with connect(episode) as client:
            try:
                self.tools = [tool_spec(tool) for tool in (await client.list_tools()).tools]
                self.recorder.offer(self.tools)
                self.trace.timing.setup.end = self.trace.timing.agent.start = time.time()
                self.trace.stop(await self._converse(episode, client))
            except Exception as error:
                failure = error
        if failure is not None:
            raise failure

    async def _converse(self, episode: GuardedEpisode, client: Client) -> str:
        """The loop of an agent; returns why it ended, as verifiers' stop condition."""
        inputs = [Message(role="system", content=episode.policy), Message(role="user", content=episode.task.prompt)]
        while (stop := self._limit(prompt_ids := self._prompt(inputs))) is None:
            reply, is_cut = await self._sample(prompt_ids, inputs)
            if is_cut:
                return "max_output_tokens"
            if reply.tool_calls:
                inputs = [await self._act(call, client) for call in reply.tool_calls]
                continue
            with crossing(vf.TaskError, "the simulated user"):
                turn = await episode.user_turn(reply.content or "")
            if turn.done:
                return StopReason.USER.value
            inputs = [Message(role="user", content=turn.content)]
        self.messages += inputs
        self.recorder.unread(inputs)
        return stop

    def _prompt(self, inputs: list[Message]) -> list[int]:
        if not self.token_ids or self.config.prompting is Prompting.RENDER:
            return self.chat.prompt_ids([*self.messages, *inputs], self.tools)
        return [*self.token_ids, *self.chat.extension_ids(inputs)]

    def _limit(self, prompt_ids: list[int]) -> str | None:
        """The limit that a turn after `prompt_ids` would break, if any."""
        if self.turns >= self.config.max_turns:
            return "max_turns"
        most = self.config.max_context
        is_full = most is not None and len(prompt_ids) + self.config.sampling.max_tokens > most
        return "max_total_tokens" if is_full else None

    async def _sample(self, prompt_ids: list[int], inputs: list[Message]) -> tuple[Message, bool]:
        """Sample and record one turn; the message that it says, and whether it was cut short."""
        sampling = self.config.sampling.model_copy(
            update={"stop_token_ids": self.chat.stop_token_ids, "seed": self._seed()}
        )
        self.recorder.ask(self.model, sampling, len(prompt_ids))
        try:
            with crossing(vf.ProviderError, f"model {self.model!r}"):
                completion = await self.endpoint.generate(prompt_ids, self.model, sampling)
                self._check(completion)
        except vf.RolloutError as error:
            self.recorder.answer(error)
            raise
        self.recorder.answer(completion)
        reply = self._with_unique_ids(self.chat.parse(completion.token_ids))
        self.recorder.turn(prompt_ids, inputs, completion, reply)
        self.token_ids = [*prompt_ids, *completion.token_ids]
        self.messages += [*inputs, reply]
        self.turns += 1
        return reply, completion.finish_reason == "length"

    def _check(self, completion: Completion) -> None:
        """Refuse a turn whose tokens could not be trained on or continued."""
        tokens, logprobs = completion.token_ids, completion.logprobs
        if not tokens or len(tokens) != len(logprobs):
            raise ValueError(f"{len(tokens)} sampled tokens came with {len(logprobs)} log-probabilities")
        if completion.finish_reason != "length" and tokens[-1] not in self.chat.stop_token_ids:
            raise ValueError(f"the turn ended with token {tokens[-1]}, not with one of {self.chat.stop_token_ids}")

    def _seed(self) -> int | None:
        if self.config.seed is None:
            return None
        data, info = self.trace.task.data, self.trace.info
        key = f"{self.config.seed}/{data.environment}/{data.id}/{info['trial']}/{info['attempt']}/{self.turns}"
        return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest()) >> 1

    def _with_unique_ids(self, reply: Message) -> Message:
        """The reply with tool-call ids that no earlier turn used."""
        taken = sum(len(message.tool_calls) for message in self.messages)
        calls = (call.model_copy(update={"id": f"call_{taken + i}"}) for i, call in enumerate(reply.tool_calls))
        return reply.model_copy(update={"tool_calls": tuple(calls)}) if reply.tool_calls else reply

    async def _act(self, call: ToolCall, client: Client) -> Message:
        """Run one tool call; one that cannot be run is an error result, which the agent reads."""
        names = [tool.name for tool in self.tools]
        self.trace.info["malformed_calls"] += malformed_call(call, names) is not None
        with crossing(vf.ToolsetError, f"tool {call.name!r}"):
            result = await run_call(call, names, client)
        if result.is_error:
            self.trace.info["tool_errors"].append(call.id)
        return answer(call, result)

    def _close_timing(self) -> None:
        timing, now = self.trace.timing, time.time()
        for span in (timing.setup, timing.agent, timing.scoring):
            if span.start and not span.end:
                span.end = now
        self.trace.split_agent_time()
