"""Routing a task to one adapter or the base (§3.5): the route, and the paper's zero-shot router.

Axes: R rotations of the label order, N candidates, the base among them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Protocol, runtime_checkable

import numpy as np
from pydantic import Field

from trace_agents.endpoint import ModelEndpoint
from trace_agents.errors import UsageError
from trace_agents.prompts import render
from trace_agents.types import Capability, Message, Record, ToolSpec

logger = logging.getLogger(__name__)

BASE = "base"
"""Candidate that stands for no adapter (t_base of §3.5)."""
LABELS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
"""Label tokens, unless the configuration gives others."""


class Detail(StrEnum):
    """How much of each capability the routing prompt shows."""

    EXAMPLES = "examples"  # Title, description and a successful trajectory, as in the paper.
    DESCRIPTIONS = "descriptions"  # Title and description.
    TITLES = "titles"  # Title alone.


class LabelEvidence(Record):
    """What the base model said when it was asked for a label."""

    logprobs: tuple[tuple[float, ...], ...]
    """[R, N] log-probability of the candidate's label among all next tokens, one row per rotation."""
    positions: tuple[tuple[int, ...], ...]
    """[R, N] place of the candidate in the list, from 0."""
    position_bias: tuple[float, ...]
    """[N] mean log-probability that a place adds whoever stands there, in nats; 0 throughout with one rotation."""
    label_mass: float
    """Mean probability of all labels together; near 0, the model does not understand the question."""
    detail: Detail
    """What the prompt showed; less than was asked for where the context was too small."""
    prompt_tokens: int
    """Tokens of the longest rotation."""


class Route(Record):
    """The choice for one conversation."""

    model: str
    """Model name to serve the conversation with: an adapter, a composition, or the base."""
    capability: str | None = None
    """Capability whose adapter it is; None for the base and for compositions."""
    router: str
    """Who chose: `zero-shot`, `probe`, `oracle` or `fixed`."""
    scores: dict[str, float] = Field(default_factory=dict)
    """Candidate -> log-probability, `base` among them; averaged over rotations by the zero-shot router. Empty where
    nothing was weighed."""
    evidence: LabelEvidence | None = None
    """What the zero-shot router saw; None for other routers."""

    @property
    def probabilities(self) -> dict[str, float]:
        """Candidate -> share of the choice: the softmax of `scores`."""
        values = np.exp(np.array(list(self.scores.values())) - max(self.scores.values(), default=0.0))
        return dict(zip(self.scores, (values / values.sum()).tolist(), strict=True))


@runtime_checkable
class Router(Protocol):
    """Chooses, once per conversation, which model serves it."""

    async def route(self, prompt: str) -> Route:
        """The route of a task whose first user message is `prompt` (o_1)."""

    async def route_all(self, prompts: Sequence[str]) -> list[Route]:
        """The routes of many tasks, in their order, in less time than one after another."""


class PromptFormat(Protocol):
    """Messages to tokens, as the base model reads them (`training.chat.ChatFormat` is one)."""

    def prompt_text(self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> str:
        """The conversation as text, ending where the assistant begins to speak."""

    def encode(self, text: str) -> list[int]:
        """Token ids of that text."""


class Candidate(Record):
    """A capability that a task may be routed to."""

    name: str
    """Slug; also the adapter's model name."""
    title: str
    description: str
    example: str = ""
    """One successful trajectory of its synthetic environment as text (see `example_text`); empty for none."""

    @classmethod
    def of(cls, capability: Capability, example: Sequence[Message] = ()) -> Candidate:
        """The candidate of `capability`, with a successful trajectory's messages."""
        title = capability.title or capability.name.replace("-", " ").capitalize()
        return cls(name=capability.name, title=title, description=capability.description, example=example_text(example))


class LabelRouterConfig(Record):
    """How the zero-shot router asks."""

    base_model: str
    """Endpoint's name of the frozen base: it answers, and serves tasks that need no adapter."""
    max_prompt_tokens: int
    """Room for the routing prompt; what does not fit is shown in less `Detail`."""
    detail: Detail = Detail.EXAMPLES
    rotations: int | None = Field(default=None, ge=1)
    """R: most cyclic label orders asked, spread evenly; None asks all N, so that every candidate takes every place."""
    labels: tuple[str, ...] = LABELS
    base_title: str = "None of these"
    base_description: str = "The task needs no special capability."


class LabelRouter:
    """The paper's training-free router: the label with the highest next-token logit of the base model (§3.5).

    The order of the labels sways small models, so the question is asked in rotated orders and each candidate's
    log-probabilities are averaged over the places it took.
    """

    def __init__(
        self, endpoint: ModelEndpoint, chat: PromptFormat, candidates: Sequence[Candidate], config: LabelRouterConfig
    ) -> None:
        """
        Raises:
            UsageError: no candidates, repeated or reserved names, too few labels, or
                a label that is not exactly one token after the prompt.
        """
        base = Candidate(name=BASE, title=config.base_title, description=config.base_description)
        self._endpoint, self._chat, self._config = endpoint, chat, config
        self._candidates = (*candidates, base)
        _check_candidates(candidates, config)
        self._labels = config.labels[: len(self._candidates)]
        self._label_ids = label_token_ids(chat, self._labels)
        self._told: set[Detail] = set()

    async def route(self, prompt: str) -> Route:
        """Ask the base model, in every rotation at once.

        Raises:
            UsageError: the task does not fit `max_prompt_tokens` even with titles alone.
        """
        positions = rotations(len(self._candidates), self._config.rotations)
        detail, asked = self._fit(prompt, positions)
        by_place = await asyncio.gather(
            *(self._endpoint.score_next(ids, self._label_ids, self._config.base_model) for ids in asked)
        )
        logprobs = np.take_along_axis(np.array(by_place, dtype=np.float64), positions, axis=1)
        scores = logprobs.mean(axis=0)
        names = [candidate.name for candidate in self._candidates]
        chosen = names[int(scores.argmax())]
        evidence = LabelEvidence(
            logprobs=tuple(map(tuple, logprobs.tolist())),
            positions=tuple(map(tuple, positions.tolist())),
            position_bias=tuple(position_bias(logprobs, positions).tolist()),
            label_mass=float(np.exp(logprobs).sum(axis=1).mean()),
            detail=detail,
            prompt_tokens=max(len(ids) for ids in asked),
        )
        route = Route(
            model=self._config.base_model if chosen == BASE else chosen,
            capability=None if chosen == BASE else chosen,
            router="zero-shot",
            scores=dict(zip(names, scores.tolist(), strict=True)),
            evidence=evidence,
        )
        logger.info("routed to %s by the zero-shot router: %s", route.model, _percentages(route))
        return route

    async def route_all(self, prompts: Sequence[str]) -> list[Route]:
        """The routes of many tasks; see `route`.

        The list of candidates comes before the task, so that once the first task is routed an endpoint that keeps
        prefixes reads only each further task's own words.
        """
        first = [await self.route(prompt) for prompt in prompts[:1]]
        return first + list(await asyncio.gather(*(self.route(prompt) for prompt in prompts[1:])))

    def _fit(self, prompt: str, positions: np.ndarray) -> tuple[Detail, list[list[int]]]:
        """The most detail whose every rotation fits, so that all candidates are shown alike."""
        tokens = 0
        details = list(Detail)
        for detail in details[details.index(self._config.detail) :]:
            asked = [self._chat.encode(self._text(prompt, order, detail)) for order in positions]
            tokens = max(len(ids) for ids in asked)
            if tokens <= self._config.max_prompt_tokens:
                self._tell(detail)
                return detail, asked
        raise UsageError(
            f"the routing prompt takes {tokens} tokens with titles alone, more than max_prompt_tokens "
            f"{self._config.max_prompt_tokens!r}: shorten the task's first message, or use a trained router"
        )

    def _tell(self, detail: Detail) -> None:
        """Warn, once per detail, that the prompt shows less than was asked for."""
        if detail is not self._config.detail and detail not in self._told:
            self._told.add(detail)
            limit = self._config.max_prompt_tokens
            logger.warning(
                "the routing prompt shows %s instead of %s to fit %d tokens", detail, self._config.detail, limit
            )

    def _text(self, prompt: str, order: np.ndarray, detail: Detail) -> str:
        """M_x, with candidate i in place `order[i]`."""
        listed = [self._candidates[index] for index in np.argsort(order)]
        entries = [
            {
                "label": label,
                "title": candidate.title,
                "description": "" if detail is Detail.TITLES else candidate.description,
                "example": candidate.example if detail is Detail.EXAMPLES else "",
            }
            for label, candidate in zip(self._labels, listed, strict=True)
        ]
        content = render("routing", task=prompt, entries=entries, labels=self._labels)
        return self._chat.prompt_text((Message(role="user", content=content),))


class FixedRouter:
    """Sends every conversation to one model: the base, one adapter, or a composition picked on validation."""

    def __init__(self, model: str, capability: str | None = None) -> None:
        self._route = Route(model=model, capability=capability, router="fixed")

    async def route(self, prompt: str) -> Route:
        """The same route whatever the task."""
        return self._route

    async def route_all(self, prompts: Sequence[str]) -> list[Route]:
        """The same route for each."""
        return [self._route] * len(prompts)


def oracle_route(needed: Sequence[str], adapters: Mapping[str, str], base_model: str) -> Route:
    """The route by the task author's own word, for measuring only: the first needed capability with an adapter.

    Args:
        needed: capabilities that the task needs (`TaskInstance.capabilities`), in order.
        adapters: capability, as the author calls it -> adapter's model name.
        base_model: what serves tasks for which no adapter was trained.
    """
    found = next((name for name in needed if name in adapters), None)
    model = base_model if found is None else adapters[found]
    return Route(model=model, capability=None if found is None else model, router="oracle")


def rotations(count: int, limit: int | None = None) -> np.ndarray:
    """[R, N] place of each of `count` candidates in each cyclic order; at most `limit` orders, evenly spread."""
    rounds = count if limit is None else min(limit, count)
    shifts = (np.arange(rounds) * count) // rounds
    return (np.arange(count)[None, :] + shifts[:, None]) % count


def position_bias(logprobs: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """[N] what a place adds to the log-probability of whoever stands there, in nats.

    The mean residual of `logprobs` [R, N] at each place, after the means of its rotation and of its candidate.
    """
    residual = logprobs - logprobs.mean(axis=1, keepdims=True) - logprobs.mean(axis=0, keepdims=True) + logprobs.mean()
    places = positions.ravel()
    total = np.bincount(places, weights=residual.ravel(), minlength=logprobs.shape[1])
    return total / np.bincount(places, minlength=logprobs.shape[1])


def label_token_ids(chat: PromptFormat, labels: Sequence[str]) -> list[int]:
    """The one token of each label, as the assistant's first.

    Raises:
        UsageError: a label is not exactly one token there, or two labels are the same token.
    """
    opening = chat.prompt_text((Message(role="user", content="-"),))
    before = chat.encode(opening)
    ids: list[int] = []
    for label in labels:
        after = chat.encode(opening + label)
        if after[:-1] != before:
            raise UsageError(
                f"label {label!r} is not one token of this tokenizer at the start of an assistant turn: "
                "choose labels that are, such as single capital letters"
            )
        ids.append(after[-1])
    if len(set(ids)) < len(ids):
        raise UsageError(f"labels {list(labels)!r} share tokens {ids!r}: choose labels that differ in their token")
    return ids


def example_text(messages: Sequence[Message], limit: int = 1200) -> str:
    """A trajectory as lines of text for the routing prompt; a message over `limit` characters is cut with `…`."""
    lines: list[str] = []
    for message in messages:
        if message.content and message.role != "system":
            lines.append(f"{message.role}: {_clip(message.content, limit)}")
        lines += [
            _clip(f"{message.role} calls {call.name} {call.openai()['function']['arguments']}", limit)
            for call in message.tool_calls
        ]
    return "\n".join(lines)


def _clip(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _percentages(route: Route) -> str:
    return ", ".join(f"{name} {share:.1%}" for name, share in route.probabilities.items())


def _check_candidates(candidates: Sequence[Candidate], config: LabelRouterConfig) -> None:
    names = [candidate.name for candidate in candidates]
    if not names:
        raise UsageError("the zero-shot router got no candidates: train at least one adapter")
    if BASE in names or len(set(names)) < len(names):
        raise UsageError(
            f"candidates {names!r} repeat a name or use {BASE!r}, which stands for no adapter: rename them"
        )
    count = len(names) + 1
    if len(set(config.labels)) < len(config.labels) or len(config.labels) < count:
        raise UsageError(
            f"labels {list(config.labels)!r} do not name {count} candidates apart: give {count} or more, all different"
        )
