"""The guide's benchmarks keep the contract and give the figures that the guide says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mcp_servers.wrapped import load
from trace_agents.cli import main

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
ROUTES = {
    "a Python class": (f"{EXAMPLES / 'parking' / 'parking.py'}:Parking", 1 / 2),
    "an existing MCP server": (str(EXAMPLES / "library" / "benchmark.toml"), 1 / 3),
}
"""Route -> the benchmark, and the share of its test tasks that doing nothing solves."""


@pytest.mark.parametrize(("benchmark", "floor"), ROUTES.values(), ids=ROUTES)
def test_the_guides_benchmark_conforms_over_every_transport(
    benchmark: str, floor: float, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["conform", benchmark, "--json", "--tasks", "3", "--episodes", "4"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["check"] for one in found["findings"] if one["status"] != "passed"] == ["generation"]


@pytest.mark.parametrize(("benchmark", "floor"), ROUTES.values(), ids=ROUTES)
def test_its_ceiling_is_one_and_its_floor_is_known(
    benchmark: str, floor: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [
        "evaluate",
        benchmark,
        "--split",
        "test",
        "--agent",
        "do-nothing",
        "--out",
        str(tmp_path / "out"),
        "--json",
    ]
    assert main(asked) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["score"]["pass_rate"]["value"] == pytest.approx(floor)
    assert next(one for one in found["beside"] if one["agent"] == "oracle")["pass_rate"]["value"] == 1


CLOCK = """\
import sys
from datetime import datetime
from mcp.server.mcpserver import MCPServer

server = MCPServer("clock")

@server.tool()
def now(zone: bool = False) -> str:
    return f"{datetime.now().isoformat()} {datetime.fromisoformat('2026-01-01').year} {sys.argv[1:]}"

server.run()
"""


async def test_the_guides_start_makes_a_servers_clock_stand_still(tmp_path: Path) -> None:
    guide = (EXAMPLES.parent / "add-a-benchmark.md").read_text()
    [start] = re.findall(r"^```text\n(import datetime.*?)^```", guide, re.MULTILINE | re.DOTALL)
    (tmp_path / "start.py").write_text(start)
    (tmp_path / "server.py").write_text(CLOCK)
    (tmp_path / "tasks.jsonl").write_text(json.dumps({"id": "a", "prompt": "What time is it?", "gold": []}))
    [command] = re.findall(r"`(command = \[.*start.py.*\])`", guide)
    (tmp_path / "benchmark.toml").write_text(
        f'name = "clock"\n[server]\n{command}\n[check]\nreads = [{{ name = "now" }}]\n'
    )
    environment = load(tmp_path / "benchmark.toml")
    episode = await environment.start(environment.task("a"))
    try:
        assert (await episode.call("now", {})).content == "2026-03-02T09:00:00 2026 []"
        assert (await episode.evaluate(())).success
    finally:
        await episode.close()
