"""The policy in training: a frozen Hugging Face causal language model with a PEFT LoRA adapter.

Axes: B rows, S positions, N action tokens, V vocabulary.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch
from peft import LoraConfig, TaskType, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging

from trace_agents.errors import UsageError
from training.checkpoints import RandomState
from training.grpo.batch import Batch
from training.grpo.config import GRPOConfig
from training.grpo.folding import fold


class Policy:
    """π_{θ+Δ}: the frozen base θ and the adapter Δ in training."""

    def __init__(self, base: Path, config: GRPOConfig, random: RandomState) -> None:
        """Load the model folder `base` and put a new adapter on it, its weights drawn from `random`.

        Raises:
            UsageError: no model there that loads, or modules to adapt that it does not have.
        """
        self.device = torch.device(config.device)
        self.dtype = config.torch_dtype
        lora = LoraConfig(
            task_type=TaskType.CAUSAL_LM,
            r=config.rank,
            lora_alpha=config.alpha,  # type: ignore[arg-type]  # PEFT scales by alpha / r, whole or not.
            lora_dropout=config.dropout,
            target_modules=_modules(config.target_modules),
        )
        with random.torch():
            try:
                with _quiet():
                    self.model = get_peft_model(_load(base, config), lora)
            except ValueError as error:
                raise UsageError(
                    f"target_modules {config.target_modules!r} fit no module of {str(base)!r}: {error}"
                ) from error
        self.model.to(self.device).train(config.dropout > 0 or config.gradient_checkpointing)
        if config.gradient_checkpointing:
            self.model.enable_input_require_grads()
            self.model.gradient_checkpointing_enable()
        if self.dtype is torch.float32:
            fold(self.model)
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self._heads_alone = self._can_head_alone()

    @property
    def lora_config(self) -> LoraConfig:
        """The adapter's configuration."""
        return cast(LoraConfig, self.model.peft_config["default"])

    def adapter(self) -> dict[str, Tensor]:
        """A copy of the adapter's weights on the CPU, under PEFT's names."""
        state = get_peft_model_state_dict(self.model)
        return {key: tensor.detach().to("cpu", copy=True) for key, tensor in state.items()}

    def load_adapter(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the adapter's weights from `adapter()` of a policy of the same configuration."""
        set_peft_model_state_dict(self.model, dict(tensors))

    def evaluate(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Log-probability of each action token [N], with gradient, and the policy's entropy there [N], without."""
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not torch.float32):
            logits = self._logits(batch)
        log_softmax = torch.log_softmax(logits.float(), -1)
        with torch.no_grad():
            entropy = -(log_softmax.exp() * log_softmax).sum(-1)
        return log_softmax.gather(-1, batch.targets[:, None]).squeeze(-1), entropy

    @torch.no_grad()
    def reference(self, batch: Batch) -> Tensor:
        """Log-probability of each action token [N] under the base alone."""
        with self.model.disable_adapter():
            return self.evaluate(batch)[0]

    def _logits(self, batch: Batch) -> Tensor:
        """Logits [N, V] where the next token is an action; V is the widest axis, so no others are computed."""
        model = cast(PreTrainedModel, self.model.get_base_model())
        # Padding is on the right, so causal attention never looks at it and no mask is needed.
        if not self._heads_alone:
            return model(input_ids=batch.token_ids, use_cache=False).logits[:, :-1][batch.is_target]
        hidden = model.base_model(input_ids=batch.token_ids, use_cache=False).last_hidden_state
        return model.get_output_embeddings()(hidden[:, :-1][batch.is_target])

    @torch.no_grad()
    def _can_head_alone(self) -> bool:
        """The model's logits are its output embedding of the last hidden states, with nothing after (such as a cap)."""
        model = cast(PreTrainedModel, self.model.get_base_model())
        if model.get_output_embeddings() is None:
            return False
        probe = torch.arange(4, device=self.device)[None] % model.config.get_text_config().vocab_size
        hidden = model.base_model(input_ids=probe, use_cache=False).last_hidden_state
        whole = model(input_ids=probe, use_cache=False).logits
        return torch.allclose(model.get_output_embeddings()(hidden).float(), whole.float(), rtol=1e-3, atol=1e-3)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bar, and without the deprecation that PEFT trips over in transformers."""
    had_bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning
            )
            yield
    finally:
        if had_bar:
            logging.enable_progress_bar()


def _load(base: Path, config: GRPOConfig) -> PreTrainedModel:
    if not (base / "config.json").is_file():
        raise UsageError(f"model folder {str(base)!r} has no 'config.json': give a folder in Hugging Face format")
    # A GPU holds the frozen weights in the type it multiplies; a CPU casts these small ones on the way.
    dtype = config.torch_dtype if config.device.startswith("cuda") else torch.float32
    try:
        return AutoModelForCausalLM.from_pretrained(str(base), dtype=dtype, attn_implementation=config.attention)
    except (OSError, ValueError, ImportError) as error:
        raise UsageError(f"model {str(base)!r} does not load ({error}): give a causal language model") from error


def _modules(modules: str | tuple[str, ...]) -> str | list[str]:
    return modules if isinstance(modules, str) else list(modules)
