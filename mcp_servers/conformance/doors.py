"""Checks of fidelity: an agent reads what the environment states, over every transport and in both protocol eras."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from mcp.client import Client
from mcp.client.stdio import stdio_client

from mcp_servers.conformance.findings import Fault, Remark, shown
from mcp_servers.conformance.plays import only_errors, script_for
from mcp_servers.conformance.subject import Subject
from mcp_servers.listing import stated_tools
from mcp_servers.server import POLICY_URI, TASK_PROMPT, episode_server, tool_result
from trace_agents.types import TaskInstance, ToolCall, ToolResult, ToolSpec, canonical

ERAS = {"auto": "2026-07-28", "legacy": "the initialize handshake"}
"""The client's mode -> the protocol era that it speaks."""


@dataclass(frozen=True)
class Stated:
    """What a task's episode states on the contract; kept, so that no two episodes need be live at once."""

    task: TaskInstance
    """As it is played."""
    tools: Sequence[ToolSpec]
    policy: str
    answers: Sequence[tuple[str, Mapping[str, Any], ToolResult]]
    """Tool, arguments and result of calls of a fresh episode, in order."""


async def _stated(subject: Subject, task: TaskInstance) -> Stated:
    async with subject.episode(task) as episode:
        script = script_for(subject, episode.task, episode.tools, 1)
        answers = [
            (action.name, action.arguments, await episode.call(action.name, action.arguments))
            for action in script
            if isinstance(action, ToolCall) and isinstance(action.arguments, dict)
        ]
        return Stated(episode.task, tuple(episode.tools), episode.policy, answers)


async def memory(subject: Subject) -> Remark | None:
    """In the same process."""
    every = []
    for task in subject.tasks:
        every.append(stated := await _stated(subject, task))
        for mode in ERAS:
            async with subject.episode(task) as episode, Client(episode_server(episode), mode=mode) as client:
                await _compare(stated, client, mode)
    return _remark(every)


async def stdio(subject: Subject) -> Remark | None:
    """One episode a process, over standard input and output."""
    subject.need_processes()
    task = subject.tasks[0]
    stated = await _stated(subject, task)
    for mode in ERAS:
        async with _over_stdio(subject, task, mode) as client:
            await _compare(stated, client, mode)
    return _remark([stated])


async def http(subject: Subject) -> Remark | None:
    """An endpoint for each episode, served by another process."""
    served = await subject.served()
    every = []
    for task in subject.tasks[:2]:
        every.append(stated := await _stated(subject, task))
        for mode in ERAS:
            remote = await served.start(task)
            try:
                async with Client(f"{subject.url}/episodes/{remote.id}/mcp", mode=mode) as client:
                    await _compare(stated, client, mode)
            finally:
                await remote.close()
    return _remark(every)


def _remark(every: Sequence[Stated]) -> Remark | None:
    return only_errors(answer for stated in every for _, _, answer in stated.answers)


@asynccontextmanager
async def _over_stdio(subject: Subject, task: TaskInstance, mode: str) -> AsyncIterator[Client]:
    with tempfile.TemporaryFile("w+") as said:
        connected = False
        try:
            async with Client(stdio_client(subject.stdio(task), errlog=said), mode=mode) as client:
                connected = True
                yield client
        except Exception as error:
            if connected:
                raise
            said.seek(0)
            found = f"the process that serves task {task.id!r} over stdio did not answer: {shown(said.read())}"
            raise Fault(found, f"see what 'trace-agents serve {subject.spec} --stdio' says") from error


async def _compare(stated: Stated, client: Client, mode: str) -> None:
    era = ERAS[mode]
    listed = await stated_tools(client)
    remedy = "state tools, policy and prompt from the task alone, the same in every process"
    if [spec.name for spec in listed] != [spec.name for spec in stated.tools]:
        raise Fault(f"{era}: tools {[one.name for one in listed]}, not {[one.name for one in stated.tools]}", remedy)
    for read, said in zip(listed, stated.tools, strict=True):
        if _form(read) != _form(said):
            raise Fault(f"{era}: tool {said.name!r} reads {shown(_form(read))}, not {shown(_form(said))}", remedy)
    policy: Any = (await client.read_resource(POLICY_URI)).contents[0]
    [message] = (await client.get_prompt(TASK_PROMPT)).messages
    prompt: Any = message.content
    for what, read_text, said_text in (
        ("instructions", client.instructions or "", stated.policy),
        ("policy", policy.text, stated.policy),
        ("prompt", prompt.text, stated.task.prompt),
    ):
        if read_text != said_text:
            raise Fault(f"{era}: the {what} reads {shown(read_text)!r}, not {shown(said_text)!r}", remedy)
    for name, arguments, answer in stated.answers:
        got = tool_result(await client.call_tool(name, dict(arguments)))
        if (got.content, got.is_error) != (answer.content, answer.is_error):
            found = f"{era}: {name!r} answers {shown(got.content)!r}, not {shown(answer.content)!r}"
            raise Fault(found, "answer from the episode's state alone")


def _form(spec: ToolSpec) -> Any:
    return canonical(spec.model_dump(mode="json"))
