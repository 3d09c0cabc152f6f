"""The hand-off's MCP server, in memory, over stdio and over HTTP: list, read, answer, and refusals that say why."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from mcp import StdioServerParameters
from mcp.client import Client
from mcp.client.stdio import stdio_client

from mcp_servers.handoff import PART, handoff_server
from trace_agents.analysis.handoff import HandoffFolder
from trace_agents.analysis.requests import Request, label_schema
from trace_agents.cli import main

PROGRAM = ["-c", "import sys; from trace_agents.cli import main; sys.exit(main())", "handoff", "serve"]
ANSWER = {"labels": {"T1": {"care": ["LACKING", 3]}, "T2": {"care": "NA"}}}


@pytest.fixture
def folder(tmp_path: Path) -> HandoffFolder:
    made = HandoffFolder(tmp_path / "handoff")
    made.claim("an analysis")
    schema = label_schema({"T1": 5, "T2": 2}, ["care"])
    prompt = "Judge.\n" + "x" * (PART - 100) + "\n" + "y" * 200 + " The end."
    for name in ("label-a", "label-b"):
        made.put(Request(id=name, kind="label", about="run 1", prompt=prompt, answer_schema=schema))
    return made


@asynccontextmanager
async def carried(carrier: str, folder: HandoffFolder) -> AsyncIterator[Client]:
    """An MCP client on the hand-off."""
    if carrier == "memory":
        async with Client(handoff_server(folder), cache=None) as client:
            yield client
    elif carrier == "stdio":
        server = StdioServerParameters(command=sys.executable, args=[*PROGRAM, str(folder.path)])
        async with Client(stdio_client(server), cache=None) as client:
            yield client
    else:
        command = [sys.executable, *PROGRAM, str(folder.path), "--port", "0"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            try:
                url = process.stderr.readline().split(" on ")[1].strip()
                async with Client(url, cache=None) as client:
                    yield client
                assert httpx.post(url, json={}, headers={"origin": "http://evil.example"}).status_code == 403
            finally:
                process.terminate()


@pytest.mark.parametrize("carrier", ["memory", "stdio", "http"])
async def test_an_agent_lists_reads_and_answers(carrier: str, folder: HandoffFolder) -> None:
    async with carried(carrier, folder) as agent:
        assert "answer_request" in (agent.instructions or "")
        assert {tool.name for tool in (await agent.list_tools()).tools} == {
            "list_requests",
            "read_request",
            "answer_request",
        }
        listed = json.loads((await agent.call_tool("list_requests", {})).content[0].text)
        assert [one["id"] for one in listed["open"]] == ["label-a", "label-b"]
        first = (await agent.call_tool("read_request", {"id": "label-a"})).content[0].text
        cut = PART - 100 + 8  # At the end of a line.
        assert first.endswith(f"[characters 0 to {cut} of {cut + 209}; read on with offset {cut}]")
        last = (await agent.call_tool("read_request", {"id": "label-a", "offset": cut, "limit": 1000})).content[0].text
        assert last.startswith("yyy")
        assert " The end." in last
        assert last.endswith("this is the end of the request]")

        wrong = {"labels": {"T1": {"care": ["LACKING", 9]}, "T2": {}}}
        refused = await agent.call_tool("answer_request", {"id": "label-a", "answer": wrong})
        assert refused.is_error
        assert "labels.T2: 'care' is missing" in refused.content[0].text
        assert (
            '["LACKING", 9] where "NA", or ["PRESENT" | "LACKING" | "UNSURE", step 0 to 5]' in refused.content[0].text
        )

        taken = await agent.call_tool("answer_request", {"id": "label-a", "answer": ANSWER})
        assert (taken.is_error, taken.content[0].text) == (False, "Taken. Still open: 1.")
    assert folder.take("label-a") == ANSWER
    assert [one.id for one in folder.open()] == ["label-b"]
    (who,) = folder.answered_by()
    assert who.startswith("mcp")


async def test_who_answers_may_say_so(folder: HandoffFolder) -> None:
    async with carried("memory", folder) as agent:
        await agent.call_tool("answer_request", {"id": "label-a", "answer": ANSWER, "by": "Ada"})
    assert folder.answered_by() == {"Ada": 1}


async def test_what_cannot_be_done_is_an_error_that_the_agent_reads(folder: HandoffFolder) -> None:
    folder.answer("label-b", ANSWER)
    async with carried("memory", folder) as agent:
        expected = {
            "unknown request 'zz': use one of 'label-a'": ("read_request", {"id": "zz"}),
            "offset 99999999 is outside": ("read_request", {"id": "label-a", "offset": 99999999}),
            "limit 10 is too little to read": ("read_request", {"id": "label-a", "limit": 10}),
            "request 'label-b' is answered already": ("answer_request", {"id": "label-b", "answer": ANSWER}),
            "the answer: null where a JSON object": ("answer_request", {"id": "label-a"}),
            "no JSON object in nothing": ("answer_request", {"id": "label-a", "answer": "nothing"}),
            "unknown tool 'zz'": ("zz", {}),
        }
        await agent.list_tools()
        for reason, (tool, arguments) in expected.items():
            result = await agent.call_tool(tool, arguments)
            assert result.is_error
            assert reason in result.content[0].text
        text = await agent.call_tool("answer_request", {"id": "label-a", "answer": json.dumps(ANSWER)})
        assert not text.is_error


def test_the_command_line_lists_reads_and_answers(
    folder: HandoffFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = str(folder.path)
    assert main(["handoff", "list", place]) == 0
    assert capsys.readouterr().out == "2 open, 0 answered\nlabel-a  run 1\nlabel-b  run 1\n"
    assert main(["handoff", "read", place, "label-a"]) == 0
    assert capsys.readouterr().out.endswith("The end.\n")
    file = tmp_path / "answer.json"
    file.write_text(json.dumps(ANSWER))
    assert main(["handoff", "answer", place, "label-a", str(file), "--by", "Ann"]) == 0
    assert capsys.readouterr().out == "taken; 1 open\n"
    assert folder.answered_by() == {"Ann": 1}
    with (tmp_path / "answer.json").open() as piped:
        monkeypatch.setattr("sys.stdin", piped)
        assert main(["handoff", "answer", place, "label-b", "-"]) == 0


BAD = {
    "unknown action 'play': use one of 'answer', 'list', 'read', 'serve'": ["play", "DIR"],
    "is no hand-off folder: start one with": ["list", "nowhere"],
    "unknown request 'zz': use one of 'label-a', 'label-b'": ["read", "DIR", "zz"],
    "ID is not given": ["read", "DIR"],
    "FILE is not given": ["answer", "DIR", "label-a"],
    "missing file 'none.json'": ["answer", "DIR", "label-a", "none.json"],
    "the answer to 'label-a' cannot be taken: no JSON object": ["answer", "DIR", "label-a", "EMPTY"],
}


@pytest.mark.parametrize(("reason", "arguments"), BAD.items(), ids=[*map(str, range(len(BAD)))])
def test_bad_input_gets_one_line_and_exit_code_2(
    reason: str, arguments: list[str], folder: HandoffFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").write_text("")
    places = {"DIR": str(folder.path), "EMPTY": str(tmp_path / "empty")}
    assert main(["handoff", *(places.get(one, one) for one in arguments)]) == 2
    printed = capsys.readouterr()
    assert reason in printed.err
    assert printed.err.count("\n") == 1
