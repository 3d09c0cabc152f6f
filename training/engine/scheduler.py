"""Continuous batching: admits waiting requests, runs steps, hands out what they sampled.

One step reads in some prompt tokens of new rows and feeds one token to every row whose prompt is in; both go through
the layers together. Rows stand densely in a workspace, so that attention reads keys and values in place.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trace_agents.endpoint import Completion
from trace_agents.errors import InfrastructureError
from training.engine.batching import Place, Plan, plan
from training.engine.cache import Entry, PrefixCache, TokenTable, Workspace
from training.engine.config import EngineConfig
from training.engine.decoder import Decoder
from training.engine.lora import LoraBatch, Stacks
from training.engine.requests import Request, Row
from training.engine.sampling import draw, uniforms

_WORTH_WAITING = 16
"""A request waits a step rather than read in this many tokens that a neighbour is just reading in."""


@dataclass(frozen=True)
class Start:
    """What a new row can begin with."""

    length: int
    """Positions known, in `entry` or in row `index`."""
    index: int
    """A running row that has them; -1 for none."""
    entry: Entry | None
    """A cached sequence that has them."""
    coming: int
    """Positions that a running row will have once it has read in its prompt."""


class Scheduler:
    """Runs requests on a decoder. Synchronous: each `step` is one forward pass."""

    def __init__(self, decoder: Decoder, config: EngineConfig, max_context: int) -> None:
        self.decoder, self.config, self.max_context = decoder, config, max_context
        self.cache = PrefixCache(config.cache_bytes, config.cache_entries)
        self.workspace = Workspace(decoder.new_kv)
        self.waiting: deque[Request] = deque()
        self.places: list[Place | None] = []
        """Who is in each row of the workspace; None only while rows come and go."""
        self._prompts = TokenTable()
        self._stacks = Stacks(decoder.weights)

    @property
    def busy(self) -> bool:
        """There is work to do."""
        return bool(self.waiting or self.places)

    def step(self) -> None:
        """Admit what fits, run one forward pass, sample, and resolve the requests that are done."""
        self._drop_cancelled()
        self._admit()
        if self.places:
            work = plan(self._occupied(), self.config.max_prompt_tokens, self.decoder)
            self._reserve(0, int(work.batch.positions.max()) + 1)
            fed = slice(len(work.batch.tokens) - len(work.feeding), None)
            hidden = self.decoder.hidden(work.batch, self.workspace.kv, self._lora(work), fed)
            self._advance(work, hidden)

    def abandon(self, error: BaseException | None) -> None:
        """Forget all requests, failing those still awaited with `error` (None: without a word)."""
        requests = [*self.waiting, *(place[0] for place in self.places if place)]
        self.waiting.clear()
        self.places.clear()
        self._prompts = TokenTable()
        for request in requests:
            if error is not None and not request.future.done():
                request.future.set_exception(error)

    # Admission

    def _drop_cancelled(self) -> None:
        for request in {place[0] for place in self.places if place and place[0].future.done()}:
            self._vacate(request)

    def _admit(self) -> None:
        unread = sum(len(request.prompt) - 1 - row.length for request, row in self._occupied() if not request.tokens)
        gaps = [index for index, place in enumerate(self.places) if place is None]
        free = self.config.max_rows - len(self.places) + len(gaps)
        later: list[Request] = []
        while self.waiting and unread < self.config.max_prompt_tokens:
            request = self.waiting[0]
            if len(request.rows) > free:
                break
            self.waiting.popleft()
            if request.future.done():
                continue
            starts = [self._find(request, row) for row in request.rows]
            if any(start.coming - start.length >= _WORTH_WAITING for start in starts):
                later.append(request)
                continue
            for row, start in zip(request.rows, starts, strict=True):
                self._place(request, row, start, gaps.pop() if gaps else len(self.places))
                unread += len(request.prompt) - 1 - row.length
            free -= len(request.rows)
        self.waiting.extendleft(reversed(later))
        self._close_gaps()

    def _occupied(self) -> list[Place]:
        return [place for place in self.places if place is not None]

    def _find(self, request: Request, row: Row) -> Start:
        """The longest prefix of the prompt that is known."""
        prefix = request.prompt[:-1]  # The last token is always fed, for its logits.
        index, coming = self._prompts.longest_prefix(row.kind, prefix)
        place = self.places[index] if index >= 0 else None
        running = min(coming, place[1].length) if place else 0
        entry, cached = self.cache.find(row.kind, prefix)
        return Start(running, index, None, coming) if running > cached else Start(cached, -1, entry, coming)

    def _place(self, request: Request, row: Row, start: Start, index: int) -> None:
        """Put `row` at `index`, beginning with the prefix found."""
        row.index, row.length = index, start.length
        if row.index == len(self.places):
            self.places.append(None)
        self._reserve(row.index + 1, len(request.prompt))
        if start.entry is not None:
            self.workspace.write(row.index, start.entry.kv, start.length)
            row.extends = start.entry if start.length == start.entry.length else None
        elif start.length:
            self.workspace.move(start.index, row.index, start.length)
        self.places[row.index] = (request, row)
        self._prompts.put(row.index, row.kind, request.prompt)

    def _reserve(self, rows: int, capacity: int) -> None:
        if not self.workspace.fits(rows, capacity):
            self.workspace.grow(rows, capacity, [place[1].length if place else 0 for place in self.places])

    def _close_gaps(self) -> None:
        """Fill emptied rows from the end, so that the rows in use stay dense."""
        while None in self.places:
            last = self.places.pop()
            if last is None:
                continue
            request, row = last
            gap = self.places.index(None)
            self.workspace.move(row.index, gap, row.length)
            self._prompts.clear(row.index)
            self._prompts.put(gap, row.kind, request.prompt)
            row.index = gap
            self.places[gap] = last

    def _vacate(self, request: Request) -> None:
        for row in request.rows:
            self.places[row.index] = None
            self._prompts.clear(row.index)

    def _lora(self, work: Plan) -> LoraBatch | None:
        rows = [each.row for each in work.reading] + [row for _, row in work.feeding]
        counts = [each.count for each in work.reading] + [1] * len(work.feeding)
        return self._stacks.batch([row.recipe for row in rows], counts)

    # Outcome

    def _advance(self, work: Plan, hidden: Tensor) -> None:
        for each in work.reading:
            each.row.length = each.stop
        for _, row in work.feeding:
            row.length += 1
        if not work.feeding:
            return
        requests, logits = self._mix(work.feeding, hidden)
        scoring = [index for index, request in enumerate(requests) if request.candidates is not None]
        for index in scoring:
            logprobs = torch.log_softmax(logits[index], -1)
            scores = logprobs[torch.tensor(requests[index].candidates, dtype=torch.long)].tolist()
            self._finish(requests[index], scores if bool(logprobs.isfinite().any()) else _not_finite(requests[index]))
        if scoring:
            rest = [index for index, request in enumerate(requests) if request.candidates is None]
            requests, logits = [requests[index] for index in rest], logits[torch.tensor(rest, dtype=torch.long)]
        if requests:
            self._sample(requests, logits)

    def _mix(self, feeding: Sequence[Place], hidden: Tensor) -> tuple[list[Request], Tensor]:
        """The requests fed, and the logits [B, V] that each one's next token is drawn from."""
        logits = self.decoder.logits(hidden)
        mixed: dict[int, list[Request]] = {}
        for request, row in feeding:
            if request.gate is not None and row is request.rows[0]:
                mixed.setdefault(id(request.gate), []).append(request)
        if not mixed:
            return [request for request, _ in feeding], logits
        at = {id(row): index for index, (_, row) in enumerate(feeding)}
        requests = [request for request, _ in feeding if request.gate is None]
        parts = [logits[torch.tensor([at[id(request.rows[0])] for request in requests], dtype=torch.long)]]
        for members in mixed.values():
            rows = torch.tensor([[at[id(row)] for row in request.rows] for request in members])
            gate = members[0].gate
            assert gate is not None
            parts.append(gate(logits[rows[:, 0]], logits[rows[:, 1:].t()], hidden[rows[:, 0]].float()).float())
            requests += members
        return requests, torch.cat(parts)

    def _sample(self, requests: Sequence[Request], logits: Tensor) -> None:
        randoms = uniforms([request.seed for request in requests], [len(request.tokens) for request in requests])
        heat = [request.sampling.temperature for request in requests]
        tokens, logprobs = draw(logits, heat, [request.sampling.top_p for request in requests], randoms)
        for request, token, logprob in zip(requests, tokens, logprobs, strict=True):
            request.tokens.append(token)
            request.logprobs.append(logprob)
            if math.isnan(logprob):
                self._finish(request, _not_finite(request))
            elif token in request.sampling.stop_token_ids:
                self._finish(request, self._completion(request, "stop"))
            elif len(request.tokens) >= request.sampling.max_tokens:
                self._finish(request, self._completion(request, "length"))
            elif request.position + 1 >= self.max_context:
                used = f"{len(request.prompt)} prompt and {len(request.tokens)} sampled tokens"
                self._finish(request, InfrastructureError(f"context of {self.max_context} tokens is full after {used}"))

    @staticmethod
    def _completion(request: Request, reason: str) -> Completion:
        return Completion(
            token_ids=request.tokens, logprobs=request.logprobs, finish_reason=reason, model=request.model
        )

    def _finish(self, request: Request, result: Completion | list[float] | InfrastructureError) -> None:
        """Resolve a request; a good one's keys and values are kept for the next turn."""
        for row in request.rows:
            if isinstance(result, InfrastructureError):
                self.workspace.clear(row.index)  # Masked keys must be finite for whoever comes here next.
            else:
                kv = self.workspace.read(row.index, row.length)
                self.cache.add(row.kind, request.known(row.length), kv, row.extends)
        self._vacate(request)
        if request.future.done():
            return
        if isinstance(result, Exception):
            request.future.set_exception(result)
        else:
            request.future.set_result(result)


def _not_finite(request: Request) -> InfrastructureError:
    return InfrastructureError(f"model {request.model!r} gives logits that are not finite: its training has diverged")
