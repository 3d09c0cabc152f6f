"""The scripted agents that audit rewards."""

import json

import pytest
from jsonschema import Draft202012Validator
from parcel_family import Parcels

from mcp_servers.helpdesk import Helpdesk
from synth_envs.helpdesk import FAMILIES, AllRequests, Unlock
from synth_envs.policies import DONE, SHORTCUTS, SORRY, oracle, play, scripted
from trace_agents.types import StopReason, ToolCall, ToolSpec, Trajectory


async def played(policy, environment, seed: int = 0) -> Trajectory:
    task = environment.generate(seed)
    tools = (await environment.start(task)).tools
    return await play(environment, task, policy(environment, task, tools))


def calls(trajectory: Trajectory) -> list[str]:
    return [call.name for message in trajectory.messages for call in message.tool_calls]


def texts(trajectory: Trajectory) -> list[str]:
    return [message.content for message in trajectory.messages if message.role == "assistant" and message.content]


async def test_a_trajectory_holds_the_prompt_the_calls_with_their_results_and_the_verdict():
    environment = Unlock(compound=0, omit=0, balance=0).environment()
    trajectory = await played(oracle, environment)
    assert [message.role for message in trajectory.messages] == ["user", *["assistant", "tool"] * 3, "assistant"]
    assert trajectory.messages[0].content == environment.generate(0).prompt
    ids = [message.tool_call_id for message in trajectory.messages if message.role == "tool"]
    assert ids == [call.id for message in trajectory.messages for call in message.tool_calls]
    assert [message.is_error for message in trajectory.messages if message.role == "tool"] == [True, False, False]
    assert (trajectory.reward, trajectory.success, trajectory.stop) == (1.0, True, StopReason.USER)
    assert trajectory.tools == tuple((await environment.start(environment.generate(0))).tools)


async def test_an_agent_that_never_ends_is_stopped_and_one_that_stops_is_recorded_as_such():
    environment = Unlock().environment()
    task = environment.generate(0)
    endless = await play(environment, task, lambda messages: ToolCall(name="nothing"), max_turns=5)
    assert (endless.stop, len(calls(endless))) == (StopReason.MAX_TURNS, 5)
    assert (await play(environment, task, scripted([]))).stop is StopReason.AGENT


async def test_an_episode_is_closed_also_where_playing_it_fails():
    closed = []

    class Watched(Parcels):
        async def start(self, task):
            episode = await super().start(task)

            async def close():
                closed.append(task.id)

            episode.close = close
            return episode

    def broken(messages):
        raise RuntimeError("no agent")

    with pytest.raises(RuntimeError, match="no agent"):
        await play(Watched(), Watched().generate(4), broken)
    assert closed == ["4"]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
async def test_shortcuts_are_what_they_are_called(family):
    environment = family().environment()
    read_only = {tool.name for tool in (await Helpdesk().start(environment.generate(0))).tools if _reads(tool)}
    for seed in range(10):
        found = {name: await played(policy, environment, seed) for name, policy in SHORTCUTS.items()}
        assert len(found["idle"].messages) == 1
        assert (calls(found["give-up"]), texts(found["give-up"])) == (["transfer_to_human"], [SORRY])
        assert (calls(found["claim-success"]), texts(found["claim-success"])) == ([], [DONE])
        assert set(calls(found["decline"])) <= read_only
        assert texts(found["decline"]) == [SORRY]
        assert calls(found["look-and-claim"]) == calls(found["decline"])
        assert 1 <= len(calls(found["random-calls"])) <= 6


def _reads(tool: ToolSpec) -> bool:
    return bool(tool.annotations and tool.annotations["readOnlyHint"])


async def test_giving_up_where_no_tool_hands_over_is_only_said():
    assert calls(await played(SHORTCUTS["give-up"], Parcels())) == []


async def test_random_calls_fit_the_schemas_use_what_was_heard_and_repeat_for_the_same_task():
    environment = AllRequests().environment()
    tools = {tool.name: tool for tool in (await environment.start(environment.generate(0))).tools}
    worked = made = 0
    for seed in range(30):
        one, two = [await played(SHORTCUTS["random-calls"], environment, seed) for _ in range(2)]
        assert one == two
        for message in one.messages:
            for call in message.tool_calls:
                Draft202012Validator(tools[call.name].input_schema).validate(call.arguments)
                made += 1
            worked += message.role == "tool" and not message.is_error
    assert 0.1 < worked / made < 0.9


async def test_random_values_fit_every_kind_of_schema():
    properties = {
        "text": {"type": "string"},
        "choice": {"enum": ["a", "b"]},
        "whole": {"type": "integer"},
        "real": {"type": "number"},
        "flag": {"type": "boolean"},
        "list": {"type": "array", "items": {"type": "integer"}},
        "nested": {"type": "object", "properties": {"inner": {"type": "string"}}, "required": ["inner"]},
        "none": {"type": "null"},
        "untyped": {},
    }
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    environment = Parcels(tools=(ToolSpec(name="odd", input_schema=schema),))
    trajectory = await played(SHORTCUTS["random-calls"], environment, seed=3)
    for message in trajectory.messages:
        for call in message.tool_calls:
            Draft202012Validator(schema).validate(json.loads(json.dumps(call.arguments)))
    assert calls(trajectory)
