"""Messages to tokens and back, for any Hugging Face chat template with Hermes-style tool calls.

Tokens are never re-made: the first prompt is rendered once, and every later prompt is the earlier tokens, plus
what the model sampled, plus `extension_ids` of the new messages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from trace_agents.errors import UsageError
from trace_agents.types import Message, ToolCall, ToolSpec

TOOL_CALL = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|$)", re.DOTALL)
_MARK = "\u241eASSISTANT\u241e"  # Stands for an assistant turn when an extension is cut out of a rendered conversation.


class ChatFormat:
    """The chat format of one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if not tokenizer.chat_template:
            raise UsageError(
                f"tokenizer {tokenizer.name_or_path!r} has no chat template: add chat_template.jinja to its folder"
            )
        self.tokenizer = tokenizer
        self.stop_token = str(tokenizer.eos_token)
        self.stop_token_ids: tuple[int, ...] = (int(tokenizer.eos_token_id),)

    @classmethod
    def from_pretrained(cls, path: str | Path) -> ChatFormat:
        """The chat format in the model folder `path`.

        Raises:
            UsageError: no tokenizer there, or one without a chat template.
        """
        if not Path(path).is_dir():
            raise UsageError(f"model folder {str(path)!r} does not exist: give a folder with a tokenizer")
        try:
            return cls(AutoTokenizer.from_pretrained(str(path)))
        except (OSError, ValueError) as error:
            raise UsageError(f"model folder {str(path)!r} holds no tokenizer that loads ({error})") from error

    def prompt_text(self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> str:
        """The conversation as text, ending where the assistant begins to speak."""
        return self._render(messages, tools, generation=True)

    def prompt_ids(self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> list[int]:
        """Token ids of `prompt_text`."""
        return self.encode(self.prompt_text(messages, tools))

    def conversation_text(self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> str:
        """A finished conversation as text."""
        return self._render(messages, tools, generation=False)

    def extension_ids(self, new_messages: Sequence[Message]) -> list[int]:
        """Token ids to append after a sampled assistant turn (which ends in the stop token): `new_messages` (tool
        results or a user message) and the opening of the next assistant turn."""
        stand_in = (Message(role="user", content="-"), Message(role="assistant", content=_MARK))
        text = self._render((*stand_in, *new_messages), (), generation=True)
        after = text.index(_MARK) + len(_MARK)
        end = text.find(self.stop_token, after)
        if end < 0:
            raise UsageError(
                f"the chat template does not end an assistant turn with {self.stop_token!r}: set eos_token to its end"
            )
        return self.encode(text[end + len(self.stop_token) :])

    def encode(self, text: str) -> list[int]:
        """Token ids of template text; special tokens in it count as such."""
        return self.tokenizer.encode(text, add_special_tokens=False)

    def parse(self, token_ids: Sequence[int]) -> Message:
        """The assistant message that `token_ids` (one sampled turn) say.

        Text around tool calls is the content. A call whose JSON does not parse keeps its raw text as `arguments`,
        and an empty name where even that is missing: the environment answers it with an error.
        """
        ids = list(token_ids)
        while ids and ids[-1] in self.stop_token_ids:
            ids.pop()
        text = str(self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
        calls = tuple(_parse_call(match.group(1), index) for index, match in enumerate(TOOL_CALL.finditer(text)))
        content = TOOL_CALL.sub("", text).strip() if calls else text.strip()
        return Message(role="assistant", content=content or None, tool_calls=calls)

    def _render(self, messages: Sequence[Message], tools: Sequence[ToolSpec], generation: bool) -> str:
        text = self.tokenizer.apply_chat_template(
            [_template_message(message) for message in messages],
            tools=[tool.openai() for tool in tools] or None,
            add_generation_prompt=generation,
            tokenize=False,
        )
        assert isinstance(text, str)  # What `tokenize=False` gives.
        return text


def _parse_call(text: str, index: int) -> ToolCall:
    call_id = f"call_{index}"
    try:
        data = json.loads(text)
    except json.JSONDecodeError:
        return ToolCall(id=call_id, name=_loose_name(text), arguments=text)
    if not isinstance(data, dict) or not isinstance(data.get("name"), str):
        return ToolCall(id=call_id, name="", arguments=text)
    arguments = data.get("arguments", {})
    return ToolCall(
        id=call_id, name=data["name"], arguments=arguments if isinstance(arguments, dict) else json.dumps(arguments)
    )


def _loose_name(text: str) -> str:
    found = re.search(r'"name"\s*:\s*"([^"]*)"', text)
    return found.group(1) if found else ""


def _template_message(message: Message) -> dict:
    out: dict = {"role": message.role, "content": message.content or ""}
    if message.tool_calls:
        # Templates render arguments with `tojson`, so they take the object, not its text.
        out["tool_calls"] = [
            {"type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.role == "tool":
        out |= {"tool_call_id": message.tool_call_id or "", "name": message.name or ""}
    return out


@lru_cache(maxsize=8)
def load_chat_format(path: str) -> ChatFormat:
    """`ChatFormat.from_pretrained`, read once per folder and process."""
    return ChatFormat.from_pretrained(path)
