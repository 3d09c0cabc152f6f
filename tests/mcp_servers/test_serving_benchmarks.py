"""What benchmarks of others need from serving: their own refusals, a user who opens late, a record of what they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from environment_serving import serving
from ledger_environment import Ledger, LedgerEpisode

from mcp_servers.guard import GuardedEpisode
from mcp_servers.memory import connect
from mcp_servers.remote import RemoteEnvironment
from mcp_servers.server import tool_result
from trace_agents.types import TaskInstance, ToolResult


class BenchmarkEpisode(LedgerEpisode):
    """An episode whose benchmark has words of its own for a tool that it lacks."""

    async def unknown_tool(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        return ToolResult(content=f"Error: Tool '{name}' not found.", is_error=True)


class Benchmark(Ledger):
    """Tasks whose user finds the first message as the episode starts."""

    provenance: Mapping[str, str] = {"revision": "v1", "data": "abc"}

    def task(self, task_id: str) -> TaskInstance:
        return super().task(task_id).model_copy(update={"prompt": ""})

    async def start(self, task: TaskInstance) -> LedgerEpisode:
        return BenchmarkEpisode(task.model_copy(update={"prompt": "Hello, it is me."}))


async def test_a_benchmark_refuses_unknown_tools_in_its_own_words() -> None:
    episode = await Benchmark().start(Benchmark().task("train/1"))
    async with connect(episode) as agent:
        result = tool_result(await agent.call_tool("erase", {}))
    assert result == ToolResult(content="Error: Tool 'erase' not found.", is_error=True)
    refused = await GuardedEpisode.of(LedgerEpisode(Ledger().task("train/1"))).call("erase", {})
    assert refused.content.startswith("unknown tool 'erase': use one of")


async def test_a_user_may_open_only_when_the_episode_starts_in_another_process_too() -> None:
    with serving(Benchmark()) as served:
        remote = RemoteEnvironment(served.url)
        task = remote.task("train/1")
        episode = await remote.start(task)
        assert (task.prompt, episode.task.prompt) == ("", "Hello, it is me.")
        await episode.close()


def test_what_an_environment_is_made_from_is_known_to_its_clients() -> None:
    with serving(Benchmark()) as served:
        assert RemoteEnvironment(served.url).provenance == {"revision": "v1", "data": "abc"}
    with serving(Ledger()) as served:
        assert RemoteEnvironment(served.url).provenance == {}
