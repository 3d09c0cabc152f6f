"""One episode a process over stdio, the vendor methods beside it, and the command line in front."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from ledger_environment import Ledger, RecordedLedger
from mcp import StdioServerParameters
from mcp.client import Client
from mcp.client.stdio import stdio_client
from mcp.shared.exceptions import MCPError

from mcp_servers.control import EPISODE_KEY, Control
from mcp_servers.episodes import EpisodeTable
from mcp_servers.memory import connect_table
from mcp_servers.server import FAILURE_KEY, tool_result
from mcp_servers.wire import ControlError, PageChoice, ProblemCode, TaskChoice
from trace_agents.cli import main
from trace_agents.endpoint import Sampling
from trace_agents.environment import ResultsRequest
from trace_agents.errors import InfrastructureError
from trace_agents.types import Message, Trajectory

LEDGER = f"{Path(__file__).with_name('ledger_environment.py')}:Ledger"
PROGRAM = ["-c", "import sys; from trace_agents.cli import main; sys.exit(main())"]


@asynccontextmanager
async def hosted(carrier: str) -> AsyncIterator[Client]:
    """A host's connection to an episode of train/1, in another process or in this one."""
    if carrier == "stdio":
        arguments = [*PROGRAM, "serve", LEDGER, "--stdio", "--task", "train/1"]
        async with Client(stdio_client(StdioServerParameters(command=sys.executable, args=arguments))) as client:
            yield client
        return
    table = EpisodeTable(Ledger())
    live = await table.create(TaskChoice(task_id="train/1"))
    async with connect_table(table, default=live.id) as client:
        yield client
    await table.close()


@pytest.mark.parametrize("carrier", ["memory", "stdio"])
async def test_a_host_plays_judges_and_deletes_over_its_own_connection(carrier: str) -> None:
    task = Ledger().task("train/1")
    async with hosted(carrier) as client:
        control = Control(client)
        assert (await control.environment()).splits == dict(Ledger.splits)
        assert (await control.tasks(PageChoice(split="train", offset=1, limit=1))).tasks == (task,)
        played = await control.episode()
        assert played.task == task
        move = {"from": "ann", "to": "bob", "amount": task.data["amount"]}
        assert not (await client.call_tool("transfer", move)).is_error
        assert (await control.user_turn("well?")).content == f"'well?'? I want {task.data['amount']}."
        messages = [Message(role="user", content=task.prompt), Message(role="assistant", content="done")]
        assert (await control.evaluate(messages)).success
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert names == {spec.name for spec in played.tools}
        await control.delete()
        with pytest.raises(ControlError, match="was deleted"):
            await control.user_turn("hello")
        result = await client.call_tool("balance", {"account": "ann"})
        assert FAILURE_KEY in result.meta


@pytest.mark.parametrize("carrier", ["memory", "stdio"])
async def test_episodes_are_keyed_by_meta_and_never_by_the_connection(carrier: str) -> None:
    async with hosted(carrier) as client:
        control = Control(client)
        one, two = await control.create(TaskChoice(seed=1)), await control.create(TaskChoice(seed=2))
        await client.list_tools()
        for info in (one, two, one):
            move = {"from": "ann", "to": "bob", "amount": 1}
            assert not (await client.call_tool("transfer", move, meta={EPISODE_KEY: info.id})).is_error
        for info, moved in ((one, 2), (two, 1)):
            result = tool_result(await client.call_tool("balance", {"account": "ann"}, meta={EPISODE_KEY: info.id}))
            assert result.content == f'{{"balance": {info.task.data["accounts"]["ann"] - moved}}}'
            prompt = await client.get_prompt("task", meta={EPISODE_KEY: info.id})
            assert prompt.messages[0].content.text == info.task.prompt
        assert (await control.user_turn("hi", two.id)).content == f"'hi'? I want {two.task.data['amount']}."


async def test_records_and_results_are_told_to_the_host_over_its_own_connection() -> None:
    table = EpisodeTable(RecordedLedger())
    live = await table.create(TaskChoice(task_id="train/1"))
    async with connect_table(table, default=live.id) as client:
        control = Control(client)
        assert ((await control.environment()).results, (await control.episode()).keeps_record) == (True, True)
        kept = (await control.record([Message(role="user", content="hello")])).record
        assert kept == {"accounts": live.guarded.task.data["accounts"], "spoken": ["hello"]}
        one = Trajectory(id="one", task_id="train/1", messages=(), reward=0.5)
        request = ResultsRequest(
            agent="a", model="a", sampling=Sampling(), max_turns=1, seed=0, trials=1, tasks=(), trajectories=(one,),
            records={"one": kept},
        )  # fmt: skip
        files = (await control.results(request)).files
        assert files == RecordedLedger().results(request)
    await table.close()


async def test_calls_and_answers_of_megabytes_arrive_whole() -> None:
    async with hosted("stdio") as client:
        account = "é" * 3_000_000
        result = tool_result(await client.call_tool("balance", {"account": account}))
        assert result.is_error
        assert json.loads(result.content) == {"error": f"no account {account}"}


CHATTY = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from ledger_environment import Ledger, LedgerEpisode


class Chatty(Ledger):
    async def start(self, task):
        return ChattyEpisode(task)


class ChattyEpisode(LedgerEpisode):
    async def call(self, name, arguments):
        os.system("echo stray")
        print("stray", repr(sys.stdin.read()), flush=True)
        return await super().call(name, arguments)
"""


@pytest.mark.parametrize("carrier", ["pipe", "terminal"])
def test_stray_prints_stay_out_of_the_protocol_whatever_carries_it(carrier: str, tmp_path: Path) -> None:
    (tmp_path / "chatty.py").write_text(CHATTY)
    command = [sys.executable, *PROGRAM, "serve", f"{tmp_path / 'chatty.py'}:Chatty", "--stdio", "--task", "train/1"]
    reading, writing = os.pipe() if carrier == "pipe" else os.openpty()
    info = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "plain", "version": "0"}}
    call = {"name": "balance", "arguments": {"account": "nobody"}}
    with (
        os.fdopen(reading) as answers,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=writing, stderr=subprocess.PIPE, text=True) as process,
    ):
        os.close(writing)
        assert process.stdin is not None
        assert process.stderr is not None
        for number, (method, params) in enumerate([("initialize", info), ("tools/call", call)]):
            asked = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
            process.stdin.write(json.dumps(asked) + "\n")
            process.stdin.flush()
            answer = json.loads(answers.readline())
            assert answer["id"] == number
        process.stdin.close()
        assert answer["result"]["isError"]
        assert process.stderr.read().splitlines() == ["stray", "stray ''"]
        assert process.wait() == 0


async def test_vendor_methods_refuse_with_the_control_planes_codes() -> None:
    async with connect_table(EpisodeTable(Ledger())) as client:
        control = Control(client)
        assert client.instructions is None
        expected = {
            ProblemCode.UNKNOWN_EPISODE: control.episode("nobody"),
            ProblemCode.UNKNOWN_TASK: control.create(TaskChoice(task_id="zz")),
            ProblemCode.UNKNOWN_SPLIT: control.tasks(PageChoice(split="zz")),
        }
        for code, asked in expected.items():
            with pytest.raises(ControlError) as refused:
                await asked
            assert refused.value.code is code
        with pytest.raises(ControlError, match="no episode is named: give its id in `_meta`"):
            await control.user_turn("hello")
        with pytest.raises(MCPError, match="no episode is named"):
            await client.list_tools()
        with pytest.raises(InfrastructureError, match="thirteen"):
            await control.create(TaskChoice(seed=13))
        info = await control.create(TaskChoice(seed=1))
        with pytest.raises(InfrastructureError, match="out of patience"):
            await control.user_turn("crash", info.id)


BAD_COMMANDS = {
    "unknown environment 'nope': use one of": ["nope"],
    "--stdio plays one episode: give its task with --task ID or --seed N": [LEDGER, "--stdio"],
    "give its task with --task ID or --seed N, one of the two": [LEDGER, "--stdio", "--task", "a", "--seed", "1"],
    "unknown task 'zz' of environment 'ledger': use for example 'train/0'": [LEDGER, "--stdio", "--task", "zz"],
    "seed -1 is negative: use 0 or more": [LEDGER, "--stdio", "--seed", "-1"],
    "starting task 'seed/13' failed: RuntimeError: thirteen": [LEDGER, "--stdio", "--seed", "13"],
    "--task 'train/0' is for --stdio: over HTTP, choose a task with POST": [LEDGER, "--task", "train/0"],
    "--port 65536 is out of range: give 0 (any free port) to 65535": [LEDGER, "--port", "65536"],
    "--host '192.0.2.1' is not an address of this machine": [LEDGER, "--host", "192.0.2.1"],
    "max_episodes 0 is too small: give 1 or more": [LEDGER, "--max-episodes", "0"],
    "idle_timeout_s 0.0 is not a time: give a positive number of seconds": [LEDGER, "--idle-timeout", "0"],
}


@pytest.mark.parametrize(("message", "arguments"), BAD_COMMANDS.items(), ids=[*map(str, range(len(BAD_COMMANDS)))])
def test_bad_input_gets_one_line_and_exit_code_2(
    message: str, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert printed.err.count("\n") == 1


def test_an_environment_may_get_ready_while_mcp_is_still_to_be_imported(tmp_path: Path) -> None:
    (tmp_path / "eager.py").write_text(
        f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\nfrom ledger_environment import Ledger\n\n\n"
        "class Eager(Ledger):\n    def prepare(self):\n        print('mcp' in sys.modules, file=sys.stderr)\n"
    )
    command = [sys.executable, *PROGRAM, "serve", f"{tmp_path / 'eager.py'}:Eager", "--stdio", "--task", "zz"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    first, second = done.stderr.splitlines()
    assert (done.returncode, first) == (2, "False")
    assert "unknown task 'zz'" in second


def test_a_port_in_use_is_told_before_anything_starts(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", LEDGER, "--port", str(port)]) == 2
    expected = f"port {port} on '127.0.0.1' is in use: choose another with --port, or --port 0 for a free one"
    assert expected in capsys.readouterr().err


def test_the_command_serves_over_http_until_interrupted() -> None:
    import httpx

    command = [sys.executable, *PROGRAM, "serve", LEDGER, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        url = line.split(" on ")[1].split()[0]
        assert httpx.get(f"{url}/health").json() == {"status": "ok", "environment": "ledger", "episodes": 0}
        process.terminate()
        assert process.wait(20) in (0, -15)
