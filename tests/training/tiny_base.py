"""A base model small enough to make on the spot: two random Qwen3 layers with the embedded agent's tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from torch.nn import functional as F
from transformers import Qwen3Config, Qwen3ForCausalLM

from training.base_agent.tokenizer import train_tokenizer

WIDTH = 32


def make_base(folder: Path, seed: int = 0) -> Path:
    """Write the base into `folder`."""
    tokenizer = train_tokenizer(
        ["Please cancel order W1234.", '<tool_call>{"name": "get_order", "arguments": {}}</tool_call>']
    )
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen3ForCausalLM(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:  # Wide enough apart that greedy choices are no ties.
            torch.nn.init.normal_(parameter, std=0.15)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_adapter(base: Path, folder: Path, seed: int, **options: object) -> Path:
    """Write a random LoRA adapter whose delta is not zero."""
    torch.manual_seed(seed)
    settings = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"], "task_type": "CAUSAL_LM"}
    model = get_peft_model(Qwen3ForCausalLM.from_pretrained(base), LoraConfig(**{**settings, **options}))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)
    return folder


def teach_adapter(base: Path, folder: Path, sequences: Sequence[Sequence[int]], steps: int = 60) -> Path:
    """Write an adapter fitted to whole token sequences."""
    torch.manual_seed(0)
    config = LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "up_proj", "down_proj"], task_type="CAUSAL_LM"
    )
    model = get_peft_model(Qwen3ForCausalLM.from_pretrained(base), config)
    ids = torch.tensor(sequences)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=2e-2)
    for _ in range(steps):
        logits = model(input_ids=ids).logits[:, :-1]
        loss = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    return folder
