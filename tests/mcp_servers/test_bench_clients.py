"""The clients that serving is timed with get what an episode answers, so that no refusal is timed in a call's place."""

from __future__ import annotations

import json

import pytest

from mcp_servers.bench.bare import Bare
from mcp_servers.bench.doors import ERAS, RAW_DOORS, by_mcp_client, by_raw_client
from mcp_servers.bench.raw import RawCall, raw_stdio
from mcp_servers.bench.subject import Floor, Subject, subject
from trace_agents.types import ToolSpec


@pytest.fixture(scope="module")
def desk() -> Subject:
    return subject("helpdesk")


@pytest.fixture(scope="module")
def floor(tmp_path_factory: pytest.TempPathFactory) -> Floor:
    tool = ToolSpec(name="get_order", description="", input_schema={"type": "object"})
    file = tmp_path_factory.mktemp("floor") / "bare.json"
    file.write_text(Bare(tools=(tool,), answer="what the floor answers").model_dump_json())
    return Floor(file)


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("door", RAW_DOORS)
async def test_bytes_get_the_answer_that_mcps_client_gets(desk: Subject, floor: Floor, door: str, era: str) -> None:
    async with by_mcp_client(desk, floor, door, era) as (ours, plain):
        expected = [(await call()).content[0].text for call in (ours, plain)]
    async with by_raw_client(desk, floor, door, era) as (ours, plain):
        answers = [json.loads(await call()) for call in (ours, plain, ours, plain)]
    assert [answer["result"]["content"][0]["text"] for answer in answers] == expected * 2
    assert expected[1] == "what the floor answers"


async def test_a_refusal_is_never_taken_for_an_answer(floor: Floor) -> None:
    with pytest.raises(RuntimeError, match=r"the server answered .*error.* where a result was due"):
        async with raw_stdio(floor.over_stdio(), RawCall("get_order", {}, "1999-01-01")) as ask:
            await ask()
