"""Upstream's simulated user of ToolSandbox, spoken for by a model behind an OpenAI-compatible endpoint."""

from __future__ import annotations

import pytest
from test_tau2_user import Endpoint, calls, endpoint, says
from toolsandbox_benchmark import playable

from mcp_servers.toolsandbox import ToolSandbox
from trace_agents.errors import InfrastructureError
from trace_agents.types import Message

__all__ = ["endpoint"]

SEND = "send_message_with_contact_content_cellular_off_multiple_user_turn"


def spoken(endpoint: Endpoint) -> ToolSandbox:
    return playable(user=endpoint.choice())


async def test_upstreams_instructions_and_examples_are_sent_and_its_tool_ends_the_talk(endpoint: Endpoint) -> None:
    endpoint.lines = [says("To Fredrik."), calls("end_conversation")]
    environment = spoken(endpoint)
    assert environment.provenance["user"] == "model speaker"
    episode = await environment.start(environment.task(SEND))
    assert episode.task.prompt == environment.task(SEND).prompt != ""
    assert (await episode.user_turn("To whom?")).content == "To Fredrik."
    assert (await episode.user_turn("It is sent.")).done
    first, second = endpoint.asked
    assert (first["model"], first["temperature"]) == ("speaker", 0.0)
    assert [tool["function"]["name"] for tool in first["tools"]] == ["end_conversation"]
    roles = [message["role"] for message in first["messages"]]
    assert roles.count("system") > 1  # Examples have instructions of their own.
    assert roles[-2:] == ["assistant", "user"]
    assert [message["content"] for message in first["messages"][-2:]] == [episode.task.prompt, "To whom?"]
    assert second["messages"][len(first["messages"]) :] == [
        {"role": "assistant", "content": "To Fredrik."},
        {"role": "user", "content": "It is sent."},
    ]
    recorded = await episode.record([Message(role="assistant", content="It is sent.")])
    assert [message["role"] for message in recorded["conversation"]] == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
    ]
    await episode.close()


async def test_a_user_that_calls_in_vain_is_asked_again_without_tools_as_upstream_does(endpoint: Endpoint) -> None:
    endpoint.lines = [calls("end_conversation", '{"surprise": 1}'), says("Go on, then.")]
    environment = spoken(endpoint)
    episode = await environment.start(environment.task(SEND))
    assert (await episode.user_turn("Hello?")).content == "Go on, then."
    assert ["tools" in asked for asked in endpoint.asked] == [True, False]
    await episode.close()


async def test_the_talk_ends_once_the_messages_are_used_up(endpoint: Endpoint) -> None:
    endpoint.lines = [says("And then?")]
    environment = spoken(endpoint)
    episode = await environment.start(environment.task(SEND))
    turns = [await episode.user_turn("Well.") for _ in range(16)]
    assert [turn.done for turn in turns] == [False] * 14 + [True] * 2
    assert len(endpoint.asked) == 15
    await episode.close()


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (calls("end_conversation", "{"), "failed during 'reply': JSONDecodeError"),
        (calls("set_wifi_status"), "failed during 'reply': KeyError: .*is not a known allowed tool"),
        ({"content": None}, "failed during 'reply': AssertionError"),
    ],
)
async def test_a_model_that_cannot_speak_for_the_user_is_a_failure_of_infrastructure(
    endpoint: Endpoint, line: dict[str, object], wanted: str
) -> None:
    endpoint.lines = [line]
    environment = spoken(endpoint)
    episode = await environment.start(environment.task(SEND))
    with pytest.raises(InfrastructureError, match=wanted):
        await episode.user_turn("Hello?")
    await episode.close()
