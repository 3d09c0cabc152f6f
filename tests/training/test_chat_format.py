"""The chat format: tokens are extended, never made again, and what does not parse is kept."""

from pathlib import Path

import pytest

from trace_agents.errors import UsageError
from trace_agents.types import Message, ToolCall
from training.base_agent import find_model
from training.chat import ChatFormat, load_chat_format

CONVERSATION = (
    Message(role="user", content="Please cancel order W4821."),
    Message(role="assistant", tool_calls=(ToolCall(id="call_0", name="get_order", arguments={"order_id": "W4821"}),)),
    Message(role="tool", content='{"order_id": "W4821"}', name="get_order", tool_call_id="call_0"),
    Message(role="assistant", content="Order W4821 is cancelled."),
)


@pytest.fixture(scope="module")
def chat() -> ChatFormat:
    return load_chat_format(str(find_model("embedded:helpdesk-1m")))


def test_a_prompt_extended_turn_by_turn_is_the_whole_conversation(chat: ChatFormat) -> None:
    whole = chat.encode(chat.conversation_text(CONVERSATION))
    ids = chat.prompt_ids(CONVERSATION[:1])
    sampled = whole[len(ids) : whole.index(chat.stop_token_ids[0], len(ids)) + 1]
    ids = ids + sampled + chat.extension_ids(CONVERSATION[2:3])
    assert ids == whole[: len(ids)]


def test_a_sampled_turn_parses_to_the_message_it_was_rendered_from(chat: ChatFormat) -> None:
    whole = chat.encode(chat.conversation_text(CONVERSATION))
    start = len(chat.prompt_ids(CONVERSATION[:1]))
    end = whole.index(chat.stop_token_ids[0], start) + 1
    assert chat.parse(whole[start:end]) == CONVERSATION[1]


@pytest.mark.parametrize(
    ("text", "name", "arguments"),
    [
        ('<tool_call>{"name": "get_order", "arguments": {"order</tool_call>', "get_order", None),
        ("<tool_call>nonsense</tool_call>", "", "nonsense"),
        ('<tool_call>{"name": "get_order", "arguments": [1]}</tool_call>', "get_order", "[1]"),
    ],
)
def test_a_call_that_does_not_parse_keeps_its_text(
    chat: ChatFormat, text: str, name: str, arguments: str | None
) -> None:
    (call,) = chat.parse(chat.encode(text)).tool_calls
    assert call.name == name
    assert isinstance(call.arguments, str)
    assert arguments is None or call.arguments == arguments


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no-such-folder"):
        ChatFormat.from_pretrained(tmp_path / "no-such-folder")
