"""The probe router: an honest classifier of prompts, tied to its base."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import logsumexp
from tiny_base import WIDTH, make_base
from transformers import Qwen3ForCausalLM

from trace_agents.errors import UsageError
from trace_agents.routing import BASE, Router
from trace_agents.types import Capability, Message, TaskInstance
from training.chat import ChatFormat
from training.probe import Pooling, Probe, PromptStates, features, fit_logistic
from training.router import ProbeRouter, ProbeTraining, synthetic_prompts, train_probe

WORDS = {"unlock": "unlock open release", "refund": "refund money return", BASE: "hello thanks bye"}
PROMPTS = {
    label: [
        f"Please {verb} order W{number}, {filler}."
        for number in range(1000, 1006)
        for verb in words.split()
        for filler in ("now", "today")
    ]
    for label, words in WORDS.items()
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def states(base: Path) -> PromptStates:
    return PromptStates.from_pretrained(base)


@pytest.fixture(scope="module")
def probe(states: PromptStates) -> Probe:
    return train_probe(states, PROMPTS)


def test_states_are_those_of_each_prompt_alone_whatever_it_is_batched_with(base: Path, states: PromptStates) -> None:
    prompts = ["Hi.", "Please refund order W1234 to my card, thank you very much.", "Unlock W9."]
    pooled = states.pooled(prompts, batch=3)
    assert pooled.shape == (3, 3, 2, WIDTH)
    chat, model = ChatFormat.from_pretrained(base), Qwen3ForCausalLM.from_pretrained(base)
    for row, prompt in enumerate(prompts):
        ids = torch.tensor([chat.prompt_ids((Message(role="user", content=prompt),))])
        with torch.no_grad():
            alone = model(input_ids=ids, output_hidden_states=True).hidden_states
        for layer, hidden in enumerate(alone):
            assert np.allclose(pooled[row, layer, 0], hidden[0].mean(0).numpy(), atol=1e-5)
            assert np.allclose(pooled[row, layer, 1], hidden[0, -1].numpy(), atol=1e-5)


def test_the_regression_finds_the_minimum_that_another_optimiser_finds() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 5)).astype(np.float32) * [1, 10, 0.1, 3, 1] + [0, 5, -1, 0, 2]
    y = np.repeat([0, 1, 2], [10, 20, 30])
    x[:, 0] += y
    weight, bias = fit_logistic(x, y, 3, l2=0.03)
    z = (x - x.mean(0)) / (x.std(0) + 1e-6)

    def objective(flat: np.ndarray) -> float:
        w, b = flat[:15].reshape(3, 5), flat[15:]
        scores = z @ w.T + b
        losses = logsumexp(scores, axis=1) - scores[np.arange(60), y]
        return float(np.mean([losses[y == label].mean() for label in range(3)]) + 0.015 * (w**2).sum())

    best = minimize(objective, np.zeros(18), method="BFGS", options={"gtol": 1e-7})
    w, b = best.x[:15].reshape(3, 5), best.x[15:]
    ours, theirs = x @ weight.T + bias, z @ w.T + b
    assert np.allclose(ours - ours.mean(1, keepdims=True), theirs - theirs.mean(1, keepdims=True), atol=1e-2)


def test_held_out_prompts_are_told_apart_and_the_figures_are_reported(probe: Probe) -> None:
    assert probe.labels == ("unlock", "refund", BASE)
    assert probe.metrics["accuracy"] >= 0.9
    assert set(probe.metrics["accuracy_by_label"]) == set(WORDS)
    assert probe.metrics["prompts"] == dict.fromkeys(WORDS, 36)
    assert len(probe.metrics["grid"]) == 2 * 3 * 3


def test_shuffled_labels_are_reported_as_the_chance_that_they_are(states: PromptStates) -> None:
    everything = [prompt for prompts in PROMPTS.values() for prompt in prompts]
    order = np.random.default_rng(0).permutation(len(everything))
    shuffled = {label: [everything[i] for i in order[k::3]] for k, label in enumerate(WORDS)}
    assert train_probe(states, shuffled).metrics["accuracy"] < 0.7


def test_training_twice_gives_the_same_probe(states: PromptStates, probe: Probe) -> None:
    again = train_probe(states, PROMPTS)
    assert np.array_equal(again.weight, probe.weight)
    assert (again.layer, again.pooling, again.metrics) == (probe.layer, probe.pooling, probe.metrics)


def test_the_choice_of_layer_and_pooling_can_be_set(states: PromptStates) -> None:
    config = ProbeTraining(layers=(1,), poolings=(Pooling.BOTH,), l2=(0.01,))
    fixed = train_probe(states, PROMPTS, config)
    assert (fixed.layer, fixed.pooling, fixed.weight.shape) == (1, Pooling.BOTH, (3, 2 * WIDTH))
    pooled = states.pooled(["Please refund order W1."])
    assert np.array_equal(features(pooled, 1, Pooling.BOTH)[0], pooled[0, 1].ravel())


async def test_a_loaded_probe_routes_new_prompts_like_the_one_that_was_saved(
    base: Path, states: PromptStates, probe: Probe, tmp_path: Path
) -> None:
    loaded = Probe.load(probe.save(tmp_path / "router"), base)
    assert sorted(entry.name for entry in tmp_path.joinpath("router").iterdir()) == [
        "router.json",
        "router.safetensors",
    ]
    routers = [ProbeRouter(one, states, "tiny") for one in (probe, loaded)]
    assert isinstance(routers[0], Router)
    prompts = ["Please unlock order W4321, today.", "Please refund order W4321, now.", "Please hello order W4321, now."]
    routes = [await router.route_all(prompts) for router in routers]
    assert routes[0] == routes[1]
    assert [route.model for route in routes[1]] == ["unlock", "refund", "tiny"]
    assert [route.capability for route in routes[1]] == ["unlock", "refund", None]
    alone = await routers[1].route(prompts[1])
    assert alone.scores == pytest.approx(routes[1][1].scores, abs=1e-3)
    assert sum(routes[1][0].probabilities.values()) == pytest.approx(1.0)


def test_the_base_is_chosen_only_where_it_is_likely_enough() -> None:
    probe = Probe(("a", BASE, "b"), 0, Pooling.MEAN, np.zeros((3, 2)), np.zeros(3), "", base_threshold=0.8)
    shares = np.array([[0.1, 0.7, 0.2], [0.05, 0.85, 0.1], [0.5, 0.1, 0.4]])
    assert probe.choose(np.log(shares)).tolist() == [2, 1, 0]
    assert replace(probe, base_threshold=0.0).choose(np.log(shares)).tolist() == [1, 1, 0]
    assert Probe(("a", "b"), 0, Pooling.MEAN, np.zeros((2, 2)), np.zeros(2), "").choose(
        np.log(shares[:, :2])
    ).tolist() == [1, 1, 0]


def test_the_cost_of_a_miss_sets_how_likely_that_is(states: PromptStates) -> None:
    assert train_probe(states, PROMPTS, ProbeTraining(miss_cost=3.0)).base_threshold == 0.75
    assert train_probe(states, PROMPTS, ProbeTraining(miss_cost=0.0)).base_threshold == 0.0


def test_a_probe_refuses_another_base_and_damaged_files(base: Path, probe: Probe, tmp_path: Path) -> None:
    folder = probe.save(tmp_path / "router")
    with pytest.raises(UsageError, match="another base"):
        Probe.load(folder, make_base(tmp_path / "tiny", seed=4))
    with pytest.raises(UsageError, match="nowhere' does not load"):
        Probe.load(tmp_path / "nowhere", base)
    head = json.loads((folder / "router.json").read_text())
    (folder / "router.json").write_text(json.dumps(head | {"version": 2}))
    with pytest.raises(UsageError, match=r"\('probe', 2\)"):
        Probe.load(folder, base)


def test_a_probe_needs_labels_and_prompts_to_learn_from(states: PromptStates) -> None:
    with pytest.raises(UsageError, match="two or more labels"):
        train_probe(states, {"unlock": PROMPTS["unlock"]})
    with pytest.raises(UsageError, match=r"too few of \['refund'\]"):
        train_probe(states, {**PROMPTS, "refund": ["the same"] * 50})


def test_states_of_a_folder_without_a_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere"):
        PromptStates.from_pretrained(tmp_path / "nowhere")


@dataclass(frozen=True)
class _Evens:
    """A family that targets even seeds, and the environment that goes with it."""

    capability: Capability

    def generate(self, seed: int) -> TaskInstance:
        return TaskInstance(id=f"seed-{seed}", environment="e", seed=seed, prompt=f"{self.capability.name} {seed}")

    def targets(self, task: TaskInstance) -> bool:
        return task.seed is not None and task.seed % 2 == 0


def test_balance_cases_of_the_synthetic_environments_are_the_base_class() -> None:
    families = [(_Evens(Capability(name=name, description="")),) * 2 for name in ("unlock", "refund")]
    assert synthetic_prompts(families, range(4)) == {
        "unlock": ["unlock 0", "unlock 2"],
        "refund": ["refund 0", "refund 2"],
        BASE: ["unlock 1", "unlock 3", "refund 1", "refund 3"],
    }
    always = SimpleNamespace(targets=lambda task: True)
    assert list(synthetic_prompts([(always, families[0][0])], range(3))) == ["unlock"]
