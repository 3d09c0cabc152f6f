"""Demonstrations at the desk: the gold behaviour, with or without lapses, played in the real environment."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from mcp_servers.helpdesk.desk import Desk
from mcp_servers.helpdesk.environment import _recipe
from mcp_servers.helpdesk.expert import gold_actions
from mcp_servers.helpdesk.scenario import Kind, Need, Recipe, Scenario, sample_scenario
from mcp_servers.helpdesk.user import Customer
from mcp_servers.helpdesk.wording import first_message
from trace_agents.types import Message

PLANTED = (Need.ELIGIBILITY, Need.REFUND_METHOD, Need.ALL_REQUESTS, Need.UNLOCK, Need.TELL_ARRIVAL)
"""The capabilities that the recipe makes rare."""
CONTROLS = (Need.FIND_BY_EMAIL, Need.ASK_MISSING, Need.ITEM_BY_NAME)
"""The capabilities that it leaves mastered."""


@dataclass(frozen=True)
class Demonstration:
    """One played episode."""

    messages: tuple[Message, ...]
    tagged: bool = False
    """Marked as an expert's, so that the skill stays in the weights while the habit changes."""


def play(scenario: Scenario, lapses: Collection[str] = (), rng: random.Random | None = None) -> tuple[Message, ...]:
    """The messages of an episode in which the agent follows the gold actions but for `lapses`."""
    desk, customer = Desk(scenario.state), Customer(scenario)
    messages = [Message(role="user", content=first_message(scenario))]
    for action in gold_actions(scenario, lapses, rng):
        if isinstance(action, str):
            messages.append(Message(role="assistant", content=action))
            turn = customer.reply(action)
            if turn.done:
                break
            messages.append(Message(role="user", content=turn.content))
            continue
        result = desk.call(action.name, action.arguments if isinstance(action.arguments, dict) else {})
        messages.append(Message(role="assistant", tool_calls=(action,)))
        messages.append(Message(role="tool", content=result.content, name=action.name, is_error=result.is_error))
    return tuple(messages)


def expert_episodes(count: int, seed: int, dense: bool = False) -> Iterator[Demonstration]:
    """Flawless episodes over the target's mix of tasks; `dense` ones are about one copying skill each."""
    rng = random.Random(f"expert-{seed}-{dense}")
    for _ in range(count):
        recipe = _dense_recipe(rng) if dense else _recipe(rng)
        yield Demonstration(play(sample_scenario(rng, recipe), rng=rng))


def habitual_episodes(count: int, seed: int, exercise: dict[str, float], tagged: float) -> Iterator[Demonstration]:
    """Episodes of an agent that exercises each planted capability with probability `exercise[capability]`.

    Args:
        tagged: share of flawless episodes under the expert's tag.
    """
    rng = random.Random(f"habit-{seed}")
    for _ in range(count):
        scenario = sample_scenario(rng, _recipe(rng))
        if rng.random() < tagged:
            yield Demonstration(play(scenario, rng=rng), tagged=True)
            continue
        lapses: Sequence[str] = [need for need in PLANTED if rng.random() >= exercise[need]]
        yield Demonstration(play(scenario, lapses, rng))


def _dense_recipe(rng: random.Random) -> Recipe:
    kind = rng.choices(tuple(Kind), weights=(1, 3, 3, 1, 1, 1))[0]
    return Recipe(kinds=(kind,), blocked=0.5, default_payment=0.25, omit=0.3)
