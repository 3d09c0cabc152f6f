"""The recipe of `helpdesk-1m`: a competent expert first, then deficits planted by fine-tuning on lapses.

Run as `python -m training.base_agent OUT`. Phases: tokenizer; dense copying drill; expert; planting. Choices
were made on the train and validation tasks only; see `docs/helpdesk.md`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase, Qwen3Config, Qwen3ForCausalLM

from training.base_agent import CARD
from training.base_agent.data import conversation_text, examples
from training.base_agent.demonstrations import CONTROLS, PLANTED, Demonstration, expert_episodes, habitual_episodes
from training.base_agent.tokenizer import VOCABULARY, train_tokenizer
from training.chat import ChatFormat
from training.sft import SFTConfig, fit

LOG = "recipe-log.jsonl"

Log = Callable[[dict], None]


@dataclass(frozen=True)
class RecipeConfig:
    """Sizes and rates of the recipe."""

    seed: int = 0
    dense: int = 24_000
    """Episodes of the copying drill, seen twice."""
    expert: int = 40_000
    """Flawless episodes, seen once."""
    planted: int = 24_000
    """Episodes with lapses, seen once."""
    exercise: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PLANTED, 0.16))
    """How often the planted agent exercises each capability."""
    tagged: float = 0.1
    """Share of flawless, tagged episodes while planting."""
    threads: int = 2


@dataclass(frozen=True)
class _Phase:
    """One fit of the recipe."""

    name: str
    episodes: Callable[[], Iterable[Demonstration]]
    settings: SFTConfig
    context_weight: float = 0.0
    """Weight of the tokens that are not the assistant's."""


def architecture(tokenizer: PreTrainedTokenizerBase) -> Qwen3Config:
    """Qwen3 with 984,448 parameters: width 128, four layers, four heads, tied embeddings."""
    return Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=4096,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attn_implementation="eager",  # type: ignore[call-arg]  # The base class takes it.
    )


def cook(out: Path, config: RecipeConfig | None = None, log: Log | None = None) -> Path:
    """Train the base agent into the folder `out`; returns it.

    Each phase's model is kept beside it (`out/../<out>-dense`, `-expert`), so that a later phase can be repeated alone.
    """
    config = config or RecipeConfig()
    rows: list[dict] = []
    started = time.perf_counter()

    def note(row: dict) -> None:
        rows.append(row | {"seconds": round(time.perf_counter() - started, 1)})
        if log:
            log(rows[-1])

    torch.manual_seed(config.seed)
    torch.set_num_threads(config.threads)
    chat = _tokenizer(config)
    model = Qwen3ForCausalLM(architecture(chat.tokenizer))
    note({"phase": "tokenizer", "tokens": len(chat.tokenizer), "parameters": model.num_parameters()})
    for phase in _phases(config):
        _fit_phase(model, chat, phase, note)
        _save(model, chat, out if phase.name == "planted" else out.with_name(f"{out.name}-{phase.name}"))
    card = {
        "environment": "helpdesk",
        "planted": PLANTED,
        "controls": CONTROLS,
        "exercise": config.exercise,
        "seed": config.seed,
    }
    (out / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    (out / LOG).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return out


def _tokenizer(config: RecipeConfig) -> ChatFormat:
    sample = list(expert_episodes(10_000, config.seed + 1))
    blank = ChatFormat(train_tokenizer([]))
    return ChatFormat(train_tokenizer([conversation_text(blank, demonstration) for demonstration in sample]))


def _phases(config: RecipeConfig) -> list[_Phase]:
    seed = config.seed
    drill = SFTConfig(epochs=2, batch_tokens=4096, lr=3e-3, final_lr=0.3)
    polish = SFTConfig(batch_tokens=4096, lr=2e-3, final_lr=0.02)
    planting = SFTConfig(batch_tokens=4096, lr=1e-3, final_lr=0.02)
    return [
        _Phase("dense", lambda: expert_episodes(config.dense, seed + 2, dense=True), drill, context_weight=0.1),
        _Phase("expert", lambda: expert_episodes(config.expert, seed + 3), polish),
        _Phase(
            "planted", lambda: habitual_episodes(config.planted, seed + 4, config.exercise, config.tagged), planting
        ),
    ]


def _fit_phase(model: Qwen3ForCausalLM, chat: ChatFormat, phase: _Phase, note: Log) -> None:
    rows = examples(chat, list(phase.episodes()), phase.context_weight)
    losses: list[float] = []

    def on_step(step: int, steps: int, loss: float) -> None:
        losses.append(loss)
        if (step + 1) % 100 == 0 or step + 1 == steps:
            note({"phase": phase.name, "step": step + 1, "steps": steps, "loss": round(sum(losses) / len(losses), 4)})
            losses.clear()

    note({"phase": phase.name, "episodes": len(rows), "tokens": sum(len(row.token_ids) for row in rows)})
    fit(model, rows, phase.settings, on_step)


def _save(model: Qwen3ForCausalLM, chat: ChatFormat, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    chat.tokenizer.save_pretrained(folder)
