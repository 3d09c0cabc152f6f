"""The agent of a taskset, as verifiers sees it: a seat that someone outside plays, over MCP."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import verifiers.v1 as vf
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from verifiers.v1.interception import InterceptionServer
from verifiers.v1.mcp import SharedToolServer
from verifiers.v1.session import hook_boundary
from verifiers.v1.utils.decorators import discover_decorated

from mcp_servers.client import HeldClient
from mcp_servers.listing import stated_tools
from mcp_servers.server import tool_result
from mcp_servers.tls import tls_context
from trace_agents.errors import InfrastructureError, TaskUnavailable
from trace_agents.types import ToolResult, ToolSpec
from training.rollouts.messages import tool_to_verifiers
from training.taskset_environment.conversation import Conversation, named, opening, text_of
from training.taskset_environment.servers import ForkingRuntime, words_in
from training.taskset_environment.traces import Stops, fill

TOOL_TIMEOUT = httpx2.Timeout(600.0, connect=5.0)
"""Seconds for a tool call, as verifiers' own agents wait."""


class StateServer(InterceptionServer):
    """Where tool servers find the rollout's task and state; no model is called through it."""

    def _client(self, config: Any) -> Any:
        return None


class Seat(vf.Agent):
    """Plays its one task through a conversation, whose other side is an episode."""

    def __init__(
        self,
        conversation: Conversation,
        runtime: ForkingRuntime,
        interception: StateServer,
        shared: Mapping[str, SharedToolServer],
        task_type: type[vf.Task],
    ) -> None:
        """A seat without a task; `shared` servers go with tasks of `task_type`."""
        config = vf.AgentConfig(model="agent", runtime=vf.SubprocessConfig(), harness={"id": "training"})
        super().__init__(config, interception=interception)
        self.harness = OutsideHarness(conversation)
        self.completed: list[vf.Trace] = []
        self._conversation, self._box, self._shared, self._task_type = conversation, runtime, shared, task_type
        self._taken = False

    async def run(self, task: vf.Task, **given: Any) -> vf.Trace:
        """The rollout of `task`: one exchange, opened by its prompt."""
        trace = await super().run(self._seated(task), **self._placed(task, given))
        self.completed.append(trace)
        return trace

    @asynccontextmanager
    async def interaction(self, task: vf.Task, **given: Any) -> AsyncIterator[vf.Interaction]:
        """The rollout of `task`, in which the caller is the user."""
        async with super().interaction(self._seated(task), **self._placed(task, given)) as interaction:
            yield interaction
        self.completed.append(interaction.trace)

    def _rollout_params(self, task: vf.Task, *given: Any) -> dict[str, Any]:
        """What a rollout is made of.

        Raises:
            TaskUnavailable: verifiers refuses the task here, because it needs a container, say.
        """
        try:
            return super()._rollout_params(task, *given)
        except (TypeError, ValueError) as error:
            raise TaskUnavailable(f"task {named(task.data)!r} cannot be played here: {error}") from error

    def _placed(self, task: vf.Task, given: Mapping[str, Any]) -> dict[str, Any]:
        """Where the rollout runs, and with what.

        Raises:
            TaskUnavailable: the environment wants it elsewhere.
        """
        if given.get("runtime") is not None:
            raise TaskUnavailable("the taskset's environment plays in a box of its own making: it is ours here")
        tools = given.get("tools", self._shared if isinstance(task, self._task_type) else {})
        return {**given, "runtime": self._box, "tools": tools}

    def _seated(self, task: vf.Task) -> vf.Task:
        """The task, its tool servers in the seat's own runtime.

        Raises:
            TaskUnavailable: it is the seat's second, or needs what someone who plays over MCP does not have.
        """
        if self._taken:
            raise TaskUnavailable(
                "the taskset's environment plays more than one rollout in an episode: an episode is one"
            )
        self._taken = True
        if task.data.skills:
            raise TaskUnavailable(
                f"task {named(task.data)!r} installs skills {task.data.skills!r} in its agent's program"
            )
        self._conversation.policy, self.harness.prompt = opening(task.data)
        seated = copy.copy(task)
        seated.toolsets = lambda config: [_beside(toolset) for toolset in type(task).toolsets(config)]  # type: ignore[method-assign]
        self.harness.stops = _stops(task)
        return seated


def _beside(toolset: vf.Toolset) -> vf.Toolset:
    """A tool server of this machine runs in the seat's runtime, which forks it."""
    if not toolset.config.url and isinstance(toolset.config.runtime, vf.SubprocessConfig):
        toolset.config = toolset.config.model_copy(update={"colocated": True})
    return toolset


def _stops(task: vf.Task) -> Stops:
    """The task's stops that read the trace.

    Raises:
        TaskUnavailable: it has stops, or rewrites, of single requests and responses of a model.
    """
    stops = {stop: hook_boundary(stop, allow_trace=True) for stop in task.hooks("stop")}
    others = [hook.__name__ for hook in discover_decorated(task, "intercept")]
    others += [stop.__name__ for stop, kind in stops.items() if kind is not vf.Trace]
    if others:
        raise TaskUnavailable(
            f"task {named(task.data)!r} reads or rewrites its agent's requests ({', '.join(others)}), which do not "
            "pass here: play it with verifiers' own runner"
        )
    return tuple(stops)


class OutsideHarness(vf.Harness[vf.HarnessConfig]):
    """An agent program that is not started here."""

    APPENDS_SYSTEM_PROMPT = True
    SUPPORTS_MCP = True
    SUPPORTS_RESUME = True
    EXECUTES_CODE = False
    NEEDS_CONTAINER = False

    def __init__(self, conversation: Conversation) -> None:
        super().__init__(vf.HarnessConfig(id="training"))
        self.conversation = conversation
        self.prompt = ""
        """What the user says first, where the task says it."""
        self.stops: Stops = ()

    async def session(self, ctx: Any, trace: vf.Trace, *rest: Any, **given: Any) -> vf.HarnessSession:
        """Connect to the tool servers."""
        session = OutsideSession(self, ctx, trace, *rest, **given)
        try:
            await session.connect()
        except BaseException:
            await session.disconnect()
            raise
        return session

    async def launch(self, *given: Any) -> vf.ProgramResult:
        """Never called: sessions speak for themselves."""
        raise NotImplementedError("an agent outside is not launched")


class OutsideSession(vf.HarnessSession):
    """The rollout's handle on the agent outside: each segment of it is one text of the agent's."""

    harness: OutsideHarness

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self._clients: dict[str, HeldClient] = {}
        self._http: httpx2.AsyncClient | None = None
        self._tools: dict[str, tuple[str, str]] = {}
        self._concluded = False

    async def connect(self) -> None:
        """List the tools of every server, named as verifiers' own agents name them."""
        self._http = httpx2.AsyncClient(timeout=TOOL_TIMEOUT, verify=tls_context(), follow_redirects=True)
        specs: list[ToolSpec] = []
        for server, url in self.mcp_urls.items():
            self._clients[server] = HeldClient(partial(_client, url, self._http))
            client = await self._clients[server].connected()
            for spec in await stated_tools(client):
                full = f"{server}_{spec.name}" if server else spec.name
                self._tools[full] = (server, spec.name)
                specs.append(spec.model_copy(update={"name": full}))
        self.trace.tools = [tool_to_verifiers(spec) for spec in specs]
        conversation = self.harness.conversation
        conversation.tools, conversation.call = tuple(specs), self.call

    async def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        """Run a tool on its server.

        Raises:
            InfrastructureError: the server cannot be reached.
        """
        server, raw = self._tools[name]
        try:
            client = await self._clients[server].connected()
            return tool_result(await client.call_tool(raw, dict(arguments)))
        except (MCPError, httpx2.HTTPError, OSError, RuntimeError, ValueError) as error:
            said = words_in(Path(str(self.runtime.info.id)) / f"vf_tool_{server}.log")
            message = (
                f"tool {name!r} could not be called ({type(error).__name__}: {error}); its server's last words: {said}"
            )
            raise InfrastructureError(message) from error

    async def turn(self, messages: vf.Messages | None = None) -> None:
        """Hear the agent out, to its next text or the end of the exchange."""
        prompt = self.harness.prompt if messages is None else "\n\n".join(text_of(self.data, one) for one in messages)
        conversation = self.harness.conversation
        if await conversation.ask(prompt):
            await fill(self.trace, conversation.policy, conversation.messages)

    async def close(self) -> None:
        """Wait for the verdict to be asked for, with the conversation that it is on. Idempotent."""
        if self._concluded:
            return
        self._concluded = True
        conversation = self.harness.conversation
        try:
            await conversation.verdict_asked()
            await fill(self.trace, conversation.policy, conversation.judged, self.harness.stops)
        finally:  # An episode that is closed unjudged is cancelled where it waits.
            await self.disconnect()
        await super().close()

    async def disconnect(self) -> None:
        """Leave the tool servers."""
        for client in self._clients.values():
            await client.close()
        if self._http is not None:
            await self._http.aclose()


def _client(url: str, http: httpx2.AsyncClient) -> Client:
    return Client(streamable_http_client(url, http_client=http), cache=None)
