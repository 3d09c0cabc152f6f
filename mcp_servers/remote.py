"""An environment that another process serves over HTTP, used like a local one.

Tool calls go through the episode's MCP endpoint, as any agent's do; everything else through the control plane.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx2
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel, ValidationError

from mcp_servers.client import HeldClient
from mcp_servers.server import tool_result
from mcp_servers.tls import tls_context
from mcp_servers.wire import (
    ControlError,
    Conversation,
    EnvironmentInfo,
    EpisodeInfo,
    EpisodeRecord,
    GoldActions,
    PageChoice,
    Problem,
    ProblemCode,
    ResultFiles,
    TaskChoice,
    TaskPage,
    UserMessage,
)
from trace_agents.environment import Environment, Episode, ResultsRequest
from trace_agents.errors import InfrastructureError, TaskUnavailable, UsageError
from trace_agents.types import Action, Evaluation, Message, TaskInstance, ToolResult, UserTurn

TOKEN_VARIABLE = "TRACE_AGENTS_CONTROL_TOKEN"
"""Environment variable with the control plane's token, where none is given."""
_JSON = {"Content-Type": "application/json"}
_OUTAGES = (ProblemCode.ENVIRONMENT_FAILED, ProblemCode.FULL, ProblemCode.EPISODE_GONE, ProblemCode.UNKNOWN_EPISODE)
"""Refusals that no caller could have avoided: the server's state, not the request."""


class RemoteEnvironment(Environment):
    """The `Environment` contract over a server's control plane.

    `splits`, `tasks`, `task` and `generate` wait for the server on the calling thread, as the contract's plain methods
    must; task lists are fetched once. One instance serves any number of event loops.
    """

    def __init__(self, url: str, token: str | None = None, timeout_s: float = 120.0) -> None:
        """Connect to the environment at `url`.

        Args:
            url: where `trace-agents serve` said it serves, for example `http://127.0.0.1:8000`.
            token: the control plane's token; by default the environment variable `TOKEN_VARIABLE`, if set.
            timeout_s: seconds that one request may take.

        Raises:
            UsageError: nothing answers at `url`, or no environment does.
        """
        self._link = _Link(url.rstrip("/"), token or os.environ.get(TOKEN_VARIABLE), timeout_s)
        self._tasks: dict[str, tuple[TaskInstance, ...]] = {}
        try:
            info = EnvironmentInfo.model_validate(self._link.get("/environment"))
        except (InfrastructureError, ValidationError) as error:
            remedy = "serve one with 'trace-agents serve ENV' and give the URL it prints"
            raise UsageError(f"no environment answers at {url!r} ({error}): {remedy}") from error
        self.name = info.name
        self._splits = info.splits
        self.provenance: Mapping[str, str] = info.provenance
        """What the server says that its environment is made from."""
        self.most_episodes = info.most_episodes
        if info.oracle:
            # Only then, so that being a `HasOracle` is as true of this as of the environment behind it.
            self.oracle = self._gold_actions
        if info.results:
            self.results = self._written  # As above.

    @property
    def splits(self) -> Mapping[str, int]:
        """Number of fixed tasks of each split."""
        return self._splits

    def tasks(self, split: str) -> Sequence[TaskInstance]:
        """All tasks of a split, in the server's order."""
        if split not in self._tasks:
            found: list[TaskInstance] = []
            while True:
                choice = PageChoice(split=split, offset=len(found))
                page = TaskPage.model_validate(self._link.get("/tasks", choice.model_dump()))
                found += page.tasks
                if len(found) >= page.total or not page.tasks:
                    break
            self._tasks[split] = tuple(found)
        return self._tasks[split]

    def task(self, task_id: str) -> TaskInstance:
        """The task with this id."""
        return TaskInstance.model_validate(self._link.get(f"/tasks/{quote(task_id)}"))

    def generate(self, seed: int) -> TaskInstance:
        """The task instance of `seed`."""
        return TaskInstance.model_validate(self._link.get(f"/seeds/{seed}"))

    def _gold_actions(self, task: TaskInstance) -> Sequence[Action]:
        return GoldActions.model_validate(self._link.get(f"/oracle/{quote(task.id)}")).actions

    def _written(self, request: ResultsRequest) -> Mapping[str, str]:
        return ResultFiles.model_validate(self._link.post("/results", request)).files

    async def start(self, task: TaskInstance) -> RemoteEpisode:
        """A fresh episode of `task` on the server.

        Raises:
            TaskUnavailable: it cannot be played there. UsageError: the server has another task of that id.
            InfrastructureError: it failed, is full or is gone.
        """
        http = self._link.open()
        try:
            answer = await self._link.ask(http, "POST", "/episodes", TaskChoice(task_id=task.id))
            info = EpisodeInfo.model_validate(answer)
            if (info.task if task.prompt else info.task.model_copy(update={"prompt": ""})) != task:
                await self._link.ask(http, "DELETE", f"/episodes/{info.id}")
                message = f"task {task.id!r} differs from the one that {self._link.url!r} has"
                raise UsageError(f"{message}: take tasks from the environment that plays them")
        except BaseException:
            await http.aclose()
            raise
        return RemoteEpisode(self._link, http, info)


class RemoteEpisode(Episode):
    """The `Episode` contract over one episode's two doors."""

    def __init__(self, link: _Link, http: httpx2.AsyncClient, info: EpisodeInfo) -> None:
        self.id = info.id
        """The episode's id on the server."""
        self.task = info.task
        self.tools = info.tools
        self.policy = info.policy
        self._link = link
        self._http = http
        self._path = f"/episodes/{info.id}"
        self._door = _AgentDoor(link.url + (info.mcp_path or f"{self._path}/mcp"), http)
        self._closed = False
        if info.words_unknown_tools:
            self.unknown_tool = self.call  # Only then, so that this `AnswersUnknownTools` where the episode does.
        if info.keeps_record:
            self.record = self._record  # As above.

    async def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        """Run a tool through the episode's MCP endpoint."""
        self._check_open()
        return await self._door.call(name, arguments)

    async def user_turn(self, message: str) -> UserTurn:
        """The simulated user's answer."""
        return UserTurn.model_validate(await self._ask("user_turn", UserMessage(message=message)))

    async def evaluate(self, messages: Sequence[Message]) -> Evaluation:
        """The server's verdict."""
        return Evaluation.model_validate(await self._ask("evaluate", Conversation(messages=tuple(messages))))

    async def _record(self, messages: Sequence[Message]) -> Mapping[str, Any]:
        given = Conversation(messages=tuple(messages))
        return EpisodeRecord.model_validate(await self._ask("record", given)).record

    async def close(self) -> None:
        """End the episode on the server; one that has ended there already is fine. Idempotent."""
        if self._closed:
            return
        self._closed = True
        try:
            await self._door.close()
            with contextlib.suppress(InfrastructureError):
                await self._link.ask(self._http, "DELETE", self._path)
        finally:
            await self._http.aclose()

    async def _ask(self, operation: str, given: BaseModel) -> Any:
        self._check_open()
        return await self._link.ask(self._http, "POST", f"{self._path}/{operation}", given)

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError(f"the episode of task {self.task.id!r} is closed: start a new one")


class _AgentDoor:
    """The tools of one episode's MCP endpoint."""

    def __init__(self, url: str, http: httpx2.AsyncClient) -> None:
        self._url = url
        self._client = HeldClient(lambda: Client(streamable_http_client(url, http_client=http), cache=None))

    async def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        try:
            client = await self._client.connected()
            result = await client.call_tool(name, dict(arguments))
        except (MCPError, httpx2.HTTPError, OSError, RuntimeError, ValueError) as error:
            raise InfrastructureError(f"tool {name!r} at {self._url!r} could not be called: {error}") from error
        return tool_result(result)

    async def close(self) -> None:
        await self._client.close()


class _Link:
    """How one server's control plane is asked."""

    def __init__(self, url: str, token: str | None, timeout_s: float) -> None:
        self.url = url
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._timeout_s = timeout_s
        # Nothing is kept open between requests, so an environment needs no closing.
        limits = httpx2.Limits(max_keepalive_connections=0)
        self._blocking = httpx2.Client(verify=tls_context(), timeout=timeout_s, limits=limits)
        try:
            httpx2.URL(url)
        except (httpx2.InvalidURL, ValueError) as error:
            raise UsageError(f"{url!r} is not a URL ({error}): give for example 'http://127.0.0.1:8000'") from error

    def open(self) -> httpx2.AsyncClient:
        """A client for one episode, on the running event loop."""
        return httpx2.AsyncClient(verify=tls_context(), timeout=self._timeout_s)

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        """The answer to a GET, waited for on this thread."""
        return self._wait("GET", path, params=query, headers=self._headers)

    def post(self, path: str, given: BaseModel) -> Any:
        """The answer to a POST, waited for on this thread."""
        return self._wait("POST", path, content=given.model_dump_json(), headers=self._headers | _JSON)

    def _wait(self, method: str, path: str, **request: Any) -> Any:
        try:
            response = self._blocking.request(method, self.url + path, **request)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise self._unreachable(error) from error
        return self._answer(response)

    async def ask(self, http: httpx2.AsyncClient, method: str, path: str, given: BaseModel | None = None) -> Any:
        """The answer to a request; None where it is empty."""
        headers = self._headers | (_JSON if given is not None else {})
        body = None if given is None else given.model_dump_json()
        try:
            response = await http.request(method, self.url + path, content=body, headers=headers)
        except httpx2.HTTPError as error:
            raise self._unreachable(error) from error
        return self._answer(response)

    def _answer(self, response: httpx2.Response) -> Any:
        if response.is_success:
            try:
                return response.json() if response.content else None
            except ValueError as error:
                raise InfrastructureError(f"{self.url!r} answered with something that is not JSON: {error}") from error
        try:
            problem = Problem.model_validate_json(response.content)
        except ValidationError:
            raise InfrastructureError(f"{self.url!r} answered with HTTP status {response.status_code}") from None
        if problem.code in _OUTAGES:
            raise InfrastructureError(problem.error)
        if problem.code is ProblemCode.TASK_UNAVAILABLE:
            raise TaskUnavailable(problem.error)
        raise ControlError(problem.code, problem.error)

    def _unreachable(self, error: Exception) -> InfrastructureError:
        return InfrastructureError(f"{self.url!r} does not answer: {type(error).__name__}: {error}")
