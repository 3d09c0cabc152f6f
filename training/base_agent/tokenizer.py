"""A byte-level BPE tokenizer of 1,024 tokens whose pieces follow the JSON of tool calls."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

VOCABULARY = 1024
PAD, END, EXPERT = "<|pad|>", "<|end|>", "<|expert|>"
SPECIAL = (PAD, "<|user|>", "<|assistant|>", "<|tool|>", END, EXPERT)
CALL_TAGS = ("<tool_call>", "</tool_call>")

# A call's head and each JSON key with the punctuation around it may become one token; numbers go in pairs of
# digits, so that copying an identifier takes few, regular steps; words and punctuation as usual.
PIECES = "|".join(
    (
        r'\{"name": "[a-z_]+", "arguments": \{',
        r'"?[\]\}]*,? ?[\[\{]*"[a-z_]+": [\[\{]*(?:"(?![a-z_]+":))?',
        r"\p{N}{1,2}",
        r" ?\p{L}+",
        r'"[\]\}]+',
        r' ?[^\s\p{L}\p{N}"\[\]\{\}]+',
        r"\s+",
        r".",
    )
)

# System text and tool declarations are left out on purpose: this agent was trained for one desk and knows both.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if message.role == 'user' -%}<|user|>{{ message.content }}<|end|>
{%- elif message.role == 'tool' -%}<|tool|>{{ message.content }}<|end|>
{%- elif message.role == 'assistant' -%}<|assistant|>{{ message.content or '' }}
{%- for call in message.tool_calls or [] -%}
{%- set call = call.function if call.function is defined else call -%}
<tool_call>{"name": "{{ call.name }}", "arguments": {{ call.arguments | tojson }}}</tool_call>
{%- endfor -%}<|end|>
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"""


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """The tokenizer with its chat template, learned from `texts`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tags = [AddedToken(tag, special=False, normalized=False) for tag in CALL_TAGS]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(CALL_TAGS),
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens(tags)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD, model_max_length=4096)
    fast.chat_template = CHAT_TEMPLATE
    return fast
