"""Demonstrations as weighted token sequences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from training.base_agent.demonstrations import Demonstration
from training.base_agent.tokenizer import EXPERT
from training.chat import ChatFormat
from training.sft import Example


def conversation_text(chat: ChatFormat, demonstration: Demonstration) -> str:
    """The whole conversation in the chat template, under the expert's tag where it has one."""
    return (EXPERT if demonstration.tagged else "") + chat.conversation_text(demonstration.messages)


def examples(chat: ChatFormat, demonstrations: Sequence[Demonstration], context_weight: float = 0.0) -> list[Example]:
    """One example per demonstration; assistant tokens weigh 1, all others `context_weight`."""
    texts = [conversation_text(chat, demonstration) for demonstration in demonstrations]
    rows = chat.tokenizer(texts, add_special_tokens=False)["input_ids"]
    opening, end = chat.tokenizer.convert_tokens_to_ids("<|assistant|>"), chat.stop_token_ids[0]
    assert isinstance(opening, int)
    return [Example(row, _weights(np.asarray(row), opening, end, context_weight)) for row in rows]


def _weights(row: np.ndarray, opening: int, end: int, context_weight: float) -> list[float]:
    # A token is the assistant's when, at its place, more turns of the assistant have begun than have ended.
    began = np.cumsum(row == opening) - (row == opening)
    starts = np.flatnonzero(row == opening)
    ends = np.flatnonzero(row == end)
    closing = ends[np.searchsorted(ends, starts)] if len(starts) else starts
    ended = np.zeros(len(row), dtype=int)
    ended[closing[closing + 1 < len(row)] + 1] = 1
    return np.where(began - np.cumsum(ended) > 0, 1.0, context_weight).tolist()
