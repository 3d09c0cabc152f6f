"""The registered agents that need no model play any environment over MCP."""

from __future__ import annotations

import asyncio
import random

import pytest
from environment_serving import serving
from jsonschema import Draft202012Validator
from ledger_environment import Ledger

from mcp_servers.agents.draws import draw_arguments
from mcp_servers.agents.scripted import DECLINE, SORRY
from mcp_servers.control import Control
from mcp_servers.episodes import EpisodeTable
from mcp_servers.helpdesk import Helpdesk
from mcp_servers.memory import connect_table
from mcp_servers.remote import RemoteEnvironment
from trace_agents.agent import AgentRequest, Play, PlaySettings, agent_names, load_agent
from trace_agents.endpoint import Sampling
from trace_agents.environment import Environment, HasOracle
from trace_agents.errors import TaskUnavailable, UsageError
from trace_agents.types import Evaluation, StopReason, UserTurn


def request(spec: str, environment: Environment) -> AgentRequest:
    return AgentRequest(spec, environment, Sampling())


async def played(
    spec: str, environment: Environment, task_id: str, settings: PlaySettings | None = None
) -> tuple[Play, Evaluation]:
    episode = await environment.start(environment.task(task_id))
    try:
        play = await load_agent(request(spec, environment)).play(episode, settings or PlaySettings())
        return play, await episode.evaluate(play.messages)
    finally:
        await episode.close()


def calls(play: Play) -> list[tuple[str, str]]:
    return [(call.name, str(call.arguments)) for message in play.messages for call in message.tool_calls]


def test_the_agents_without_a_model_are_registered():
    assert {"oracle", "do-nothing", "decline", "random"} <= set(agent_names())


async def test_the_oracle_solves_every_validation_task_of_helpdesk():
    verdicts = [
        (await played("oracle", Helpdesk(), task.id))[1].success for task in Helpdesk().tasks("validation")[:40]
    ]
    assert all(verdicts)


def test_the_oracle_of_a_served_environment_is_asked_over_the_control_plane():
    with serving(Helpdesk()) as served:
        remote = RemoteEnvironment(served.url)
        task = remote.task("train-003")
        assert list(remote.oracle(task)) == list(Helpdesk().oracle(task))
        play, verdict = asyncio.run(played("oracle", remote, "train-003"))
    assert (play.stop, verdict.success) == (StopReason.USER, True)


async def test_gold_actions_are_a_vendor_method_too_and_never_a_tool():
    async with connect_table(EpisodeTable(Helpdesk())) as client:
        gold = await Control(client).oracle("train-003")
        assert list(gold.actions) == list(Helpdesk().oracle(Helpdesk().task("train-003")))
        with pytest.raises(UsageError, match="unknown task"):
            await Control(client).oracle("train-999")


class Unsolved(Helpdesk):
    def oracle(self, task):
        raise UsageError(f"task {task.id!r} has no gold actions: choose another agent")


async def test_a_task_without_gold_actions_cannot_be_played_by_the_oracle():
    with pytest.raises(TaskUnavailable, match="'train-003' has no gold actions: choose another agent"):
        await played("oracle", Unsolved(), "train-003")


def test_an_environment_without_gold_actions_has_no_oracle():
    with pytest.raises(UsageError, match=r"agent 'oracle' needs gold actions, which environment 'ledger' does not"):
        load_agent(request("oracle", Ledger()))
    with serving(Ledger()) as served:
        remote = RemoteEnvironment(served.url)
        assert not isinstance(remote, HasOracle)
        with pytest.raises(UsageError, match="needs gold actions"):
            load_agent(request("oracle", remote))


async def test_doing_nothing_is_one_sentence_and_declining_goes_on_until_the_limit():
    idle, _ = await played("do-nothing", Ledger(), "train/0")
    assert [message.content for message in idle.messages if message.role == "assistant"] == [SORRY]
    assert idle.stop is StopReason.AGENT
    refusing, _ = await played("decline", Ledger(), "train/0", PlaySettings(max_turns=4))
    assert [message.content for message in refusing.messages if message.role == "assistant"] == [DECLINE] * 4
    assert refusing.stop is StopReason.MAX_TURNS


async def test_random_calls_fit_the_schemas_and_follow_the_seed():
    desk = Helpdesk()
    schemas = {tool.name: tool.input_schema for tool in (await desk.start(desk.task("train-000"))).tools}
    seen = set()
    for seed in range(20):
        settings = PlaySettings(seed=seed)
        play, _ = await played("random", desk, "train-000", settings)
        assert play == (await played("random", desk, "train-000", settings))[0]
        for message in play.messages:
            for call in message.tool_calls:
                Draft202012Validator(schemas[call.name]).validate(call.arguments)
        seen.add(tuple(calls(play)))
    assert len(seen) > 15


async def test_the_users_end_ends_every_agent():
    class Curt(Helpdesk):
        async def start(self, task):
            episode = await super().start(task)

            async def leave(message):
                return UserTurn()

            episode.user_turn = leave
            return episode

    for spec in ("do-nothing", "decline", "random"):
        play, _ = await played(spec, Curt(), "train-000")
        assert play.stop is StopReason.USER


SCHEMAS = [
    {"type": "object"},
    {"type": "object", "properties": {"a": {"type": ["string", "null"]}}, "required": ["a"]},
    {
        "type": "object",
        "$defs": {"item": {"type": "object", "properties": {"n": {"const": 3}}, "required": ["n"]}},
        "properties": {"items": {"type": "array", "items": {"$ref": "#/$defs/item"}, "minItems": 2, "maxItems": 3}},
        "required": ["items"],
        "additionalProperties": False,
    },
    {
        "type": "object",
        "properties": {
            "any": True,
            "open": {"anyOf": [True]},
            "joined": {"allOf": [True, {"type": "integer"}]},
            "list": {"type": "array", "items": True, "minItems": 1},
        },
        "required": ["any", "open", "joined", "list"],
    },
    {
        "type": "object",
        "properties": {
            "whole": {"type": "integer", "exclusiveMinimum": 100, "multipleOf": 7},
            "part": {"type": "number", "minimum": -2, "maximum": -1},
            "either": {"anyOf": [{"enum": ["x", "y"]}, {"type": "boolean"}]},
            "both": {"allOf": [{"type": "object", "properties": {"p": {"type": "integer"}}, "required": ["p"]}]},
            "short": {"type": "string", "maxLength": 3},
            "code": {"type": "string", "pattern": "^W[0-9]+$"},
        },
        "required": ["whole", "part", "either", "both", "short", "code"],
    },
]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_drawn_arguments_fit_their_schema(schema):
    for seed in range(30):
        drawn = draw_arguments(schema, ["W7731", "mia@example.com"], random.Random(seed))
        assert drawn is not None
        Draft202012Validator(schema).validate(drawn)


def test_a_schema_that_chance_does_not_meet_has_no_arguments():
    hard = {"type": "object", "properties": {"code": {"type": "string", "pattern": "^W[0-9]+$"}}, "required": ["code"]}
    endless = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}
    assert draw_arguments(hard, [], random.Random(0)) is None
    assert draw_arguments(endless, [], random.Random(0)) is None


@pytest.mark.parametrize(
    "schema",
    [
        {"enum": []},
        {"type": []},
        {"anyOf": [False]},
        {"type": "array", "minItems": 3, "maxItems": 2},
        {"type": "array", "minItems": 10**9},
        {"type": "string", "minLength": 10**9},
        {"type": "string", "pattern": "\\p{L}+"},
        {"$ref": "#/nowhere"},
        {"$ref": "https://example.com/schema"},
        {"allOf": [{"$ref": "#/nowhere"}]},
    ],
)
def test_a_schema_that_nothing_fits_or_that_cannot_be_followed_has_no_arguments(schema):
    whole = {"type": "object", "properties": {"odd": schema}, "required": ["odd"]}
    assert draw_arguments(whole, ["x1"], random.Random(0)) is None


def test_an_agent_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(UsageError, match=r"unknown agent 'orcale'.*'do-nothing'.*'oracle'"):
        load_agent(request("orcale", Ledger()))
    with pytest.raises(UsageError, match="unknown URL scheme 'ftp'"):
        load_agent(request("ftp://x/v1#m", Ledger()))
    with pytest.raises(UsageError, match="gives a Ledger, not an agent"):
        load_agent(request("test_agents:no_agent", Ledger()))


def no_agent(request: AgentRequest) -> Ledger:
    return Ledger()
