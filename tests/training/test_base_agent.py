"""The shipped base agent: small, competent where nothing is planted, habitual where something is."""

import asyncio
import random

import pytest

from mcp_servers.helpdesk import Helpdesk
from mcp_servers.helpdesk.scenario import Need
from trace_agents.endpoint import Sampling
from trace_agents.errors import UsageError
from training.base_agent import find_model, planted_deficits
from training.base_agent.data import examples
from training.base_agent.demonstrations import PLANTED, habitual_episodes
from training.base_agent.measure import figures
from training.chat import load_chat_format
from training.engine import Engine
from training.rollouts import RolloutConfig, collect

MODEL = find_model("embedded:helpdesk-1m")


def test_the_weights_take_four_megabytes_at_most() -> None:
    assert (MODEL / "model.safetensors").stat().st_size <= 4_000_000


def test_at_least_five_capabilities_are_planted_and_three_left() -> None:
    planted = planted_deficits(MODEL, "helpdesk")
    assert len(planted) >= 5
    assert len(set(Need) - set(planted)) >= 3
    assert planted_deficits(MODEL, "elsewhere") == ()


def test_the_base_solves_what_needs_nothing_planted_and_fails_the_rest() -> None:
    desk, chat, engine = Helpdesk(), load_chat_format(str(MODEL)), Engine.from_pretrained(MODEL, threads=1)
    tasks = random.Random(0).sample(list(desk.tasks("validation")), 60)
    config = RolloutConfig(model=engine.name, sampling=Sampling(max_tokens=96), max_turns=16)
    found = figures(desk, tasks, asyncio.run(collect(desk, tasks, engine, chat, config)))
    assert found["well_formed_calls"] >= 0.99
    assert found["passed"]["planted needs: 0"] >= 0.95
    assert found["passed"]["planted needs: 1"] <= 0.1


def test_demonstrations_weigh_the_assistants_tokens_only() -> None:
    chat = load_chat_format(str(MODEL))
    (demonstration,) = habitual_episodes(1, 3, dict.fromkeys(PLANTED, 0.5), tagged=0.0)
    (row,) = examples(chat, [demonstration])
    learned = chat.tokenizer.decode([t for t, weight in zip(row.token_ids, row.weights, strict=True) if weight])
    assert learned.count(chat.stop_token) == sum(message.role == "assistant" for message in demonstration.messages)
    assert "<|user|>" not in learned
    assert "<|tool|>" not in learned


@pytest.mark.parametrize("spec", ["embedded:gpt-9", "no/such/folder"])
def test_an_unknown_model_is_named(spec: str) -> None:
    with pytest.raises(UsageError, match=spec.rpartition(":")[2]):
        find_model(spec)
