"""The embedded policy engine: samples turns for many conversations at once, on a CPU, with an adapter per request.

Rollouts are asyncio tasks that await `generate`; whatever is waiting when a step begins is in its batch. Steps run
in the event loop itself: the model is tiny, so a step takes some milliseconds, less than handing work to a thread
and back would cost the tasks that share the interpreter; between steps every ready task gets its turn.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from peft import PeftConfig
from pydantic import ValidationError
from torch import Tensor
from transformers import PreTrainedModel

from trace_agents.endpoint import Completion, Sampling
from trace_agents.errors import InfrastructureError, UsageError, unknown
from trace_agents.refusals import wanted
from training.engine.config import EngineConfig
from training.engine.decoder import Batch, Decoder, prompt_group
from training.engine.lora import Adapter, Recipe, Stacks, make_adapter, read_adapter
from training.engine.requests import Gate, Request, Row
from training.engine.scheduler import Scheduler
from training.engine.weights import Weights, fuse, load_weights

_HIDDEN_TOKENS = 8192
"""Padded tokens per pass of `Engine.hidden`."""


@dataclass(frozen=True)
class _Sum:
    adapters: tuple[str, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class _Mixture:
    members: tuple[str, ...]
    gate: Gate


class Engine:
    """A `trace_agents.endpoint.ModelEndpoint` in this process. Make one with `from_pretrained` or `from_model`.

    Model names are the base, loaded adapters, sums of adapters and token-level mixtures. An engine serves one event
    loop at a time.
    """

    def __init__(self, weights: Weights, config: EngineConfig) -> None:
        bound = weights.shape.max_context
        if config.max_context is not None and config.max_context > bound:
            raise UsageError(
                f"max_context {config.max_context!r} exceeds the {bound} positions of model {weights.name!r}: lower it"
            )
        self.weights, self.config = weights, config
        self.name = weights.name
        """The base's model name."""
        self.max_context = config.max_context or bound
        """Most tokens of prompt and completion together."""
        self._decoder = Decoder(weights)
        self._scheduler = Scheduler(self._decoder, config, self.max_context)
        self._models: dict[str, Adapter | _Sum | _Mixture | None] = {weights.name: None}
        self._kinds: dict[tuple[tuple[int, float], ...], int] = {}
        self._numbers = itertools.count()
        self._seeds = np.random.default_rng(config.seed)
        self._runner: asyncio.Task[None] | None = None

    @classmethod
    def from_pretrained(cls, path: str | Path, **settings: Any) -> Engine:
        """Load the model folder `path`; `settings` are the fields of `EngineConfig`.

        Raises:
            UsageError: no model there, an architecture that is not supported, or a bad setting.
        """
        config = _config(settings)
        weights = load_weights(path, config.torch_dtype, config.name)
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        return cls(weights, config)

    @classmethod
    def from_model(cls, model: PreTrainedModel, name: str, **settings: Any) -> Engine:
        """An engine with a copy of the weights of `model`, as they are now."""
        config = _config({**settings, "name": name})
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        return cls(fuse(model, config.torch_dtype, name), config)

    # The endpoint

    async def models(self) -> list[str]:
        """Model names that requests may use, the base first."""
        return list(self._models)

    async def generate(self, prompt_ids: Sequence[int], model: str, sampling: Sampling) -> Completion:
        """Sample one turn after `prompt_ids` with `model`; see `ModelEndpoint.generate`."""
        return await self._submit(self._request(prompt_ids, model, sampling))

    async def score_next(self, prompt_ids: Sequence[int], candidates: Sequence[int], model: str) -> list[float]:
        """Log-probability of each candidate token id as the token after `prompt_ids`."""
        self._check_tokens("candidates", candidates)
        request = self._request(prompt_ids, model, Sampling())
        request.candidates = list(candidates)
        return await self._submit(request)

    async def load_adapter(self, name: str, path: str) -> None:
        """Load, or replace in place, the PEFT adapter folder `path` under `name`; see `ModelEndpoint.load_adapter`."""
        self._register(name, read_adapter(name, path, self.weights))

    async def unload_adapter(self, name: str) -> None:
        """Forget an adapter, a sum or a mixture.

        Raises:
            UsageError: unknown name, the base, or a part of a sum or mixture that is still there.
        """
        if name == self.name or name not in self._models:
            raise unknown("adapter", name, [known for known in self._models if known != self.name])
        users = [user for user, model in self._models.items() if name in _parts(model)]
        if users:
            raise UsageError(f"adapter {name!r} is a part of {', '.join(map(repr, users))}: unload that first")
        self._forget(self._models.pop(name))

    # In this process only

    def load_adapter_weights(
        self, name: str, state: Mapping[str, Tensor], config: PeftConfig | Mapping[str, Any]
    ) -> None:
        """Load, or replace in place, an adapter from PEFT's state dict (`get_peft_model_state_dict`) and its config.

        The tensors are copied. Requests in flight finish with the weights that they began with.

        Raises:
            UsageError: made for another base, or with keys that match no layer.
        """
        self._register(name, make_adapter(name, state, config, self.weights))

    def add_sum(self, name: str, adapters: Sequence[str], weights: Sequence[float] | None = None) -> None:
        """Let `name` be the base plus the weighted sum of the adapters' deltas (each weight 1 if None).

        The adapters are looked up per request: one that is replaced changes the sum.
        """
        if not adapters or (weights is not None and len(weights) != len(adapters)):
            raise UsageError(
                f"sum {name!r} has adapters {list(adapters)!r} and weights {weights!r}: give one weight for each"
            )
        made = _Sum(tuple(adapters), tuple(weights) if weights is not None else (1.0,) * len(adapters))
        for adapter in adapters:
            if not isinstance(self._models.get(adapter), Adapter):
                raise unknown(
                    "adapter", adapter, [known for known, model in self._models.items() if isinstance(model, Adapter)]
                )
        self._register(name, made)

    def add_mixture(self, name: str, members: Sequence[str], gate: Gate) -> None:
        """Let `name` be the token-level mixture of the base and `members` (adapters or sums) that `gate` computes.

        At each token the base and every member read the same tokens; `gate` maps their logits (see `Gate`) to the
        logits that the token is drawn from, and whose log-probability is returned.
        """
        for member in members:
            if isinstance(self._models.get(member, _Mixture((), gate)), _Mixture):
                raise unknown(
                    "mixture member",
                    member,
                    [known for known, model in self._models.items() if not isinstance(model, _Mixture)],
                )
        if not members or len(members) >= self.config.max_rows:
            raise UsageError(
                f"mixture {name!r} has {len(members)} members: give 1 to {self.config.max_rows - 1} (max_rows less one)"
            )
        self._register(name, _Mixture(tuple(members), gate))

    def hidden(
        self, prompts: Sequence[Sequence[int]], model: str | None = None, pool: Literal["last", "mean"] = "last"
    ) -> Tensor:
        """Final-norm hidden states [len(prompts), d] in float32: the last token's, or the mean over all tokens.

        `model` is the base if None, an adapter or a sum.
        """
        recipe = self._recipe(model or self.name)
        arrays = [self._prompt(prompt) for prompt in prompts]
        out = torch.empty(len(prompts), self.weights.shape.width)
        order = sorted(range(len(arrays)), key=lambda index: len(arrays[index]))
        while order:
            longest = len(arrays[order[-1]])
            chunk = [order.pop() for _ in range(min(len(order), max(1, _HIDDEN_TOKENS // longest)))]
            out[torch.tensor(chunk)] = self._hidden_chunk([arrays[index] for index in chunk], recipe, pool)
        return out

    @property
    def cached_turns(self) -> int:
        """Finished turns whose keys and values are kept."""
        return len(self._scheduler.cache)

    # Inside

    @torch.inference_mode()
    def _hidden_chunk(self, prompts: list[np.ndarray], recipe: Recipe, pool: str) -> Tensor:
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        owner = torch.arange(len(prompts)).repeat_interleave(lengths)
        spans = [(0, len(prompt)) for prompt in prompts]
        group = prompt_group(0, range(len(prompts)), spans, self._decoder.queries, self.weights.dtype)
        positions = torch.cat([torch.arange(len(prompt)) for prompt in prompts])
        batch = Batch(torch.from_numpy(np.concatenate(prompts)).long(), positions, owner, [group])
        lora = Stacks(self.weights).batch([recipe], [len(owner)])
        states = self._decoder.hidden(batch, self._decoder.new_kv(len(prompts), group.keys), lora, slice(None)).float()
        if pool == "last":
            return states[lengths.cumsum(0) - 1]
        return torch.zeros(len(prompts), states.shape[1]).index_add_(0, owner, states) / lengths[:, None]

    def _recipe(self, name: str) -> Recipe:
        if name not in self._models:
            raise unknown("model", name, list(self._models))
        model = self._models[name]
        if isinstance(model, _Mixture):
            raise UsageError(
                f"model {name!r} is a mixture, which has no weights of its own: name one of {model.members!r}"
            )
        if isinstance(model, Adapter):
            return Recipe(((model, 1.0),))
        if model is None:
            return Recipe()
        parts = [(self._models[adapter], weight) for adapter, weight in zip(model.adapters, model.weights, strict=True)]
        return Recipe(tuple((adapter, weight) for adapter, weight in parts if isinstance(adapter, Adapter)))

    def _row(self, name: str) -> Row:
        recipe = self._recipe(name)
        if recipe.key not in self._kinds:
            self._kinds[recipe.key] = next(self._numbers)
        return Row(recipe, self._kinds[recipe.key])

    def _prompt(self, prompt_ids: Sequence[int]) -> np.ndarray:
        if not len(prompt_ids):
            raise UsageError("prompt is empty: give at least one token id")
        self._check_tokens("prompt", prompt_ids)
        if len(prompt_ids) >= self.max_context:
            raise InfrastructureError(f"context of {self.max_context} tokens is full: the prompt has {len(prompt_ids)}")
        return np.asarray(prompt_ids, np.int32)

    def _check_tokens(self, what: str, ids: Sequence[int]) -> None:
        if len(ids) and not (min(ids) >= 0 and max(ids) < self.weights.shape.vocab):
            bad = next(token for token in ids if not 0 <= token < self.weights.shape.vocab)
            raise UsageError(
                f"{what} has token id {bad!r}: model {self.name!r} has ids 0 to {self.weights.shape.vocab - 1}"
            )

    def _request(self, prompt_ids: Sequence[int], name: str, sampling: Sampling) -> Request:
        prompt = self._prompt(prompt_ids)
        if sampling.temperature < 0 or not 0 < sampling.top_p <= 1 or sampling.max_tokens < 1:
            raise UsageError(
                f"sampling {sampling!r} is out of range: temperature >= 0, 0 < top_p <= 1, max_tokens >= 1"
            )
        model = self._models.get(name)
        names = [self.name, *model.members] if isinstance(model, _Mixture) else [name]
        return Request(
            prompt=prompt,
            rows=[self._row(each) for each in names],
            sampling=sampling,
            seed=int(self._seeds.integers(2**63)) if sampling.seed is None else sampling.seed,
            future=asyncio.get_running_loop().create_future(),
            model=name,
            gate=model.gate if isinstance(model, _Mixture) else None,
        )

    def _register(self, name: str, model: Adapter | _Sum | _Mixture) -> None:
        if name == self.name:
            raise UsageError(f"model name {name!r} is the base's: choose another")
        if name in _parts(model):
            raise UsageError(f"model {name!r} would be a part of itself: choose another name")
        old = self._models.get(name)
        if old is not None and type(old) is not type(model):
            raise UsageError(
                f"model name {name!r} is taken by another kind of model: unload it, or choose another name"
            )
        self._models[name] = model
        self._forget(old)

    def _forget(self, model: Adapter | _Sum | _Mixture | None) -> None:
        """Free what is cached of a model that no new request can use."""
        if isinstance(model, Adapter):
            stale = [key for key in self._kinds if any(uid == model.uid for uid, _ in key)]
            self._scheduler.cache.forget({self._kinds.pop(key) for key in stale})

    async def _submit(self, request: Request) -> Any:
        if self._runner is None or self._runner.done() or self._runner.get_loop() is not request.future.get_loop():
            if self._runner is not None and not self._runner.done() and not self._runner.get_loop().is_closed():
                raise UsageError("the engine is at work in another event loop: use one engine per loop")
            self._scheduler.abandon(None)  # What a loop that was stopped midway left behind.
            self._runner = request.future.get_loop().create_task(self._run())
        self._scheduler.waiting.append(request)
        return await request.future

    async def _run(self) -> None:
        """Step until nothing is left to do, giving the loop a turn before each step so that requests gather."""
        try:
            while True:
                await asyncio.sleep(0)
                if not self._scheduler.busy:
                    return
                with torch.inference_mode():
                    self._scheduler.step()
        except Exception as error:
            failure = InfrastructureError(f"the engine failed ({type(error).__name__}: {error})")
            failure.__cause__ = error
            self._scheduler.abandon(failure)


def _config(settings: Mapping[str, Any]) -> EngineConfig:
    try:
        return EngineConfig(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            f"engine setting {'.'.join(map(str, first['loc']))}={first['input']!r}: {wanted(first)}"
        ) from error


def _parts(model: Adapter | _Sum | _Mixture | None) -> tuple[str, ...]:
    """Names that a composition is made of."""
    if isinstance(model, _Sum):
        return model.adapters
    return model.members if isinstance(model, _Mixture) else ()
