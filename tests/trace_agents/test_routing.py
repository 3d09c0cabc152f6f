"""The zero-shot router against an endpoint whose preferences are known."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trace_agents.errors import UsageError
from trace_agents.prompts import prompt_names, render
from trace_agents.routing import (
    BASE,
    Candidate,
    Detail,
    FixedRouter,
    LabelRouter,
    LabelRouterConfig,
    Route,
    Router,
    label_token_ids,
    oracle_route,
    position_bias,
    rotations,
)
from trace_agents.types import Capability, Message, ToolCall


class CharacterFormat:
    """A chat format whose tokens are characters."""

    def prompt_text(self, messages: Sequence[Message], tools: Sequence = ()) -> str:
        return "".join(f"<{message.role}>{message.content}\n" for message in messages) + "<assistant>"

    def encode(self, text: str) -> list[int]:
        return [ord(character) for character in text]


class PairFormat(CharacterFormat):
    """A chat format whose tokenizer makes one token of `>A`."""

    def encode(self, text: str) -> list[int]:
        return super().encode(text.replace(">A", "\u2460"))


class OpinionatedEndpoint:
    """Prefers capabilities by the words of their title, and places by their number; everything else is unlikely."""

    def __init__(self, content: dict[str, float], places: Sequence[float] = ()) -> None:
        self.content, self.places = content, places
        self.prompts: list[str] = []
        self.models: list[str] = []

    async def score_next(self, prompt_ids: Sequence[int], candidates: Sequence[int], model: str) -> list[float]:
        text = "".join(map(chr, prompt_ids))
        self.prompts.append(text)
        self.models.append(model)
        listed = [line for line in text.splitlines() if line[1:3] == ": "]
        assert [ord(line[0]) for line in listed] == list(candidates)
        raw = [
            next(value for title, value in self.content.items() if title in line)
            + (self.places[place] if self.places else 0)
            for place, line in enumerate(listed)
        ]
        return [value - 20.0 for value in raw]


CONTENT = {"Unlock": 0.2, "Refund": 0.9, "Track": 0.1, "None of these": 0.4}
CANDIDATES = [
    Candidate(name=name.lower(), title=name, description=f"{name} things.", example=f"user: {name} it")
    for name in ("Unlock", "Refund", "Track")
]
CONFIG = LabelRouterConfig(base_model="tiny", max_prompt_tokens=10_000)


def router_over(endpoint: OpinionatedEndpoint, **changes: object) -> LabelRouter:
    return LabelRouter(endpoint, CharacterFormat(), CANDIDATES, CONFIG.model_copy(update=changes))


async def test_the_most_likely_label_names_the_adapter_whatever_the_places_add() -> None:
    for places in ((), (9.0, 0.0, 0.0, 0.0), (0.0, 0.0, 5.0, -5.0)):
        endpoint = OpinionatedEndpoint(CONTENT, places)
        route = await router_over(endpoint).route("Please help.")
        assert (route.model, route.capability, route.router) == ("refund", "refund", "zero-shot")
        assert route.evidence is not None
        expected = np.array(places or [0.0] * 4) - np.mean(places or [0.0])
        assert np.allclose(route.evidence.position_bias, expected)
        assert set(endpoint.models) == {"tiny"}


async def test_one_order_alone_follows_the_place_which_is_why_orders_are_rotated() -> None:
    biased = OpinionatedEndpoint(CONTENT, (9.0, 0.0, 0.0, 0.0))
    route = await router_over(biased, rotations=1).route("Please help.")
    assert route.model == "unlock"
    assert route.evidence is not None
    assert route.evidence.position_bias == (0.0, 0.0, 0.0, 0.0)


async def test_many_tasks_are_routed_like_one_by_one_and_share_the_prompt_up_to_the_task() -> None:
    endpoint = OpinionatedEndpoint(CONTENT)
    router = router_over(endpoint)
    tasks = ["Please help.", "Hello.", "My order!"]
    assert await router.route_all(tasks) == [await router.route(task) for task in tasks]
    assert len({prompt.split("Task:")[0] for prompt in endpoint.prompts}) == 4
    assert await router.route_all([]) == []


async def test_the_base_serves_where_its_label_wins() -> None:
    route = await router_over(OpinionatedEndpoint({**CONTENT, "None of these": 3.0})).route("Please help.")
    assert (route.model, route.capability) == ("tiny", None)
    assert max(route.scores, key=route.scores.__getitem__) == BASE


async def test_scores_are_mean_log_probabilities_and_shares_add_up() -> None:
    route = await router_over(OpinionatedEndpoint(CONTENT)).route("Please help.")
    assert route.scores == pytest.approx({"unlock": -19.8, "refund": -19.1, "track": -19.9, "base": -19.6})
    shares = np.exp([0.2, 0.9, 0.1, 0.4]) / np.exp([0.2, 0.9, 0.1, 0.4]).sum()
    assert list(route.probabilities.values()) == pytest.approx(shares.tolist())
    assert route.evidence is not None
    assert route.evidence.label_mass == pytest.approx(np.exp(np.array([0.2, 0.9, 0.1, 0.4]) - 20).sum())


async def test_every_rotation_is_the_same_prompt_in_another_order() -> None:
    endpoint = OpinionatedEndpoint(CONTENT)
    await router_over(endpoint).route("Please help.")
    assert len(endpoint.prompts) == 4
    bodies = {
        tuple(sorted(re.sub(r"(^|of )[A-D]:", ":", prompt, flags=re.M).splitlines())) for prompt in endpoint.prompts
    }
    assert len(bodies) == 1
    first_titles = [prompt.split("\nA: ")[1].split(".")[0] for prompt in endpoint.prompts]
    assert sorted(first_titles) == ["None of these", "Refund", "Track", "Unlock"]


async def test_examples_go_first_when_the_context_is_small_and_the_route_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    endpoint = OpinionatedEndpoint(CONTENT)
    whole = (await router_over(endpoint).route("Help.")).evidence
    assert whole is not None
    assert whole.detail is Detail.EXAMPLES
    with caplog.at_level(logging.WARNING):
        less = (await router_over(endpoint, max_prompt_tokens=whole.prompt_tokens - 1).route("Help.")).evidence
    assert less is not None
    assert less.detail is Detail.DESCRIPTIONS
    assert "descriptions instead of examples" in caplog.text
    assert "Refund things." in endpoint.prompts[-1]
    assert "user: Refund it" not in endpoint.prompts[-1]
    least = (await router_over(endpoint, max_prompt_tokens=less.prompt_tokens - 1).route("Help.")).evidence
    assert least is not None
    assert least.detail is Detail.TITLES
    with pytest.raises(UsageError, match=f"max_prompt_tokens {least.prompt_tokens - 1}"):
        await router_over(endpoint, max_prompt_tokens=least.prompt_tokens - 1).route("Help.")


def test_a_label_that_is_not_one_token_where_the_answer_begins_is_refused() -> None:
    with pytest.raises(UsageError, match="label 'A1'"):
        label_token_ids(CharacterFormat(), ["A1", "B"])
    with pytest.raises(UsageError, match="label 'A'"):
        label_token_ids(PairFormat(), ["A", "B"])
    assert label_token_ids(CharacterFormat(), ["A", "B"]) == [65, 66]


@pytest.mark.parametrize(
    ("candidates", "changes", "message"),
    [
        ([], {}, "no candidates"),
        ([CANDIDATES[0], CANDIDATES[0]], {}, "repeat a name"),
        ([Candidate(name=BASE, title="x", description="")], {}, "'base'"),
        (CANDIDATES, {"labels": ("A", "B")}, "do not name 4 candidates"),
    ],
)
def test_bad_candidates_and_labels_are_refused_by_name(
    candidates: list[Candidate], changes: dict[str, object], message: str
) -> None:
    config = CONFIG.model_copy(update=changes)
    with pytest.raises(UsageError, match=message):
        LabelRouter(OpinionatedEndpoint(CONTENT), CharacterFormat(), candidates, config)


@given(
    content=st.lists(st.floats(-5, 5), min_size=2, max_size=7),
    data=st.data(),
)
def test_full_rotation_separates_what_is_said_from_where_it_stands(content: list[float], data: st.DataObject) -> None:
    count = len(content)
    places = np.array(data.draw(st.lists(st.floats(-5, 5), min_size=count, max_size=count)))
    positions = rotations(count)
    logprobs = np.array(content)[None] + places[positions]
    assert np.allclose(position_bias(logprobs, positions), places - places.mean())
    assert np.allclose(logprobs.mean(axis=0), np.array(content) + places.mean())


@given(count=st.integers(1, 12), data=st.data())
def test_rotations_are_different_cyclic_orders(count: int, data: st.DataObject) -> None:
    limit = data.draw(st.integers(1, 15))
    positions = rotations(count, limit)
    assert len({tuple(row) for row in positions.tolist()}) == len(positions) == min(limit, count)
    for row in positions.tolist():
        assert sorted(row) == list(range(count))
        assert all((after - before) % count == 1 % count for before, after in pairwise(row))


def test_a_candidate_shows_its_example_as_a_reader_would_tell_it() -> None:
    messages = (
        Message(role="system", content="Policy."),
        Message(role="user", content="Unlock W1."),
        Message(role="assistant", tool_calls=(ToolCall(name="unlock", arguments={"id": "W1"}),)),
        Message(role="tool", content="x" * 2000),
    )
    candidate = Candidate.of(Capability(name="un-lock", description="Unlocks."), messages)
    lines = candidate.example.splitlines()
    assert candidate.title == "Un lock"
    assert lines[:2] == ["user: Unlock W1.", 'assistant calls unlock {"id": "W1"}']
    assert len(lines[2]) == len("tool: ") + 1200
    assert lines[2].endswith("…")


def test_the_oracle_takes_the_first_needed_capability_that_has_an_adapter() -> None:
    adapters = {"unlock": "c1", "refund": "c2"}
    assert oracle_route(("track", "refund", "unlock"), adapters, "tiny").model == "c2"
    assert oracle_route(("track",), adapters, "tiny").model == "tiny"
    assert oracle_route((), adapters, "tiny").capability is None


async def test_a_fixed_router_is_a_router_and_its_route_survives_json() -> None:
    router = FixedRouter("sum")
    assert isinstance(router, Router)
    route = await router.route("anything")
    assert await router.route_all(["anything", "else"]) == [route, route]
    assert Route.model_validate_json(route.model_dump_json()) == route
    assert route.probabilities == {}


def test_prompts_are_rendered_strictly() -> None:
    assert "routing" in prompt_names()
    with pytest.raises(UsageError, match="unknown prompt 'rooting'"):
        render("rooting")
    with pytest.raises(TypeError, match=r"missing \['entries', 'labels'\], not read \['tusk'\]"):
        render("routing", task="x", tusk="y")


def test_the_routing_prompt_reads_as_intended() -> None:
    entries = [
        {"label": "A", "title": "Unlock", "description": "Unlock first.", "example": "user: Go."},
        {"label": "B", "title": "None", "description": "", "example": ""},
    ]
    assert render("routing", task="Do it.", entries=entries, labels=["A", "B"]) == (
        "An agent is about to work on a task. Choose the capability that the task needs most.\n\n"
        "Capabilities:\nA: Unlock. Unlock first.\nExample of A:\nuser: Go.\n\nB: None\n\n"
        "Task:\nDo it.\n\n"
        "Answer with one label: A, B."
    )
