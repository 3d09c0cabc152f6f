"""Sums of adapters and the token-level gate against independent computations of the same mathematics."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from tiny_base import WIDTH, make_adapter, make_base, teach_adapter
from transformers import Qwen3ForCausalLM

from trace_agents.endpoint import Sampling
from trace_agents.errors import UsageError
from training.composition import GateKind, TokenGate, gate_weights, sum_adapters
from training.engine import Engine
from training.gate import GateSample, GateTraining, train_gate

# PEFT 0.21 asks transformers 5.23 by a name that it has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

IDS = torch.tensor([[5, 9, 200, 33, 7, 41]])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def members(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Four adapters that differ in rank, scale rule and modules."""
    folder = tmp_path_factory.mktemp("adapters")
    options: dict[str, dict[str, object]] = {
        "plain": {},
        "wide": {"r": 6, "target_modules": ["q_proj", "k_proj", "o_proj"]},
        "rank-stable": {"use_rslora": True, "target_modules": ["gate_proj", "v_proj"]},
        "patterned": {"rank_pattern": {"v_proj": 2}, "alpha_pattern": {"v_proj": 5}},
    }
    return {
        name: make_adapter(base, folder / name, seed, **chosen)
        for seed, (name, chosen) in enumerate(options.items(), start=1)
    }


def logits_of(base: Path, adapter: Path | None = None, ids: torch.Tensor = IDS) -> torch.Tensor:
    model = Qwen3ForCausalLM.from_pretrained(base)
    with torch.no_grad():
        return (model if adapter is None else PeftModel.from_pretrained(model, adapter))(input_ids=ids).logits[0]


def merged_one_by_one(base: Path, adapters: dict[str, Path], weights: dict[str, float]) -> torch.Tensor:
    """Logits of the base with every adapter's delta, as PEFT itself computes it, added to its weight matrices."""
    model = Qwen3ForCausalLM.from_pretrained(base)
    plain = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    total = {name: torch.zeros_like(parameter) for name, parameter in plain.items()}
    for name, path in adapters.items():
        merged = PeftModel.from_pretrained(Qwen3ForCausalLM.from_pretrained(base), path).merge_and_unload()
        for key, parameter in merged.named_parameters():
            total[key] += weights.get(name, 1.0) * (parameter.detach() - plain[key])
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter += total[key]
        return model(input_ids=IDS).logits[0]


def test_the_summed_folder_is_the_exact_weighted_sum_of_the_deltas(
    base: Path, members: dict[str, Path], tmp_path: Path
) -> None:
    weights = {"plain": 0.5, "wide": -1.25}
    out = sum_adapters(members, weights, tmp_path / "sum")
    expected = merged_one_by_one(base, members, weights)
    assert torch.allclose(logits_of(base, out), expected, atol=1e-4)
    assert not torch.allclose(expected, logits_of(base), atol=1e-1)
    # Servers want one rank throughout, so what only some members adapt is padded.
    ranks = {tensor.shape[0] for key, tensor in load_file(out / "adapter_model.safetensors").items() if "lora_A" in key}
    assert ranks == {json.loads((out / "adapter_config.json").read_text())["r"]}


async def test_the_engine_serves_the_folder_like_its_own_sum(
    base: Path, members: dict[str, Path], tmp_path: Path
) -> None:
    engine = Engine.from_pretrained(base)
    for name, path in members.items():
        await engine.load_adapter(name, str(path))
    engine.add_sum("in-process", list(members))
    await engine.load_adapter("folder", str(sum_adapters(members, {}, tmp_path / "sum")))
    candidates = list(range(0, 200, 7))
    scores = [await engine.score_next(IDS[0].tolist(), candidates, name) for name in ("in-process", "folder")]
    assert np.allclose(*scores, atol=1e-4)


def test_an_existing_sum_is_replaced_whole(base: Path, members: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "sum").mkdir()
    (tmp_path / "sum" / "stale.txt").write_text("old")
    sum_adapters({"plain": members["plain"]}, {}, tmp_path / "sum")
    assert torch.allclose(logits_of(base, tmp_path / "sum"), logits_of(base, members["plain"]), atol=1e-5)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["sum"]
    assert not (tmp_path / "sum" / "stale.txt").exists()


def test_what_cannot_be_summed_is_refused_by_name(base: Path, members: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no adapters"):
        sum_adapters({}, {}, tmp_path / "sum")
    with pytest.raises(UsageError, match=r"\['stranger'\]"):
        sum_adapters(members, {"stranger": 1.0}, tmp_path / "sum")
    with pytest.raises(UsageError, match="'nowhere'"):
        sum_adapters({"nowhere": tmp_path / "nowhere"}, {}, tmp_path / "sum")
    dora = make_adapter(base, tmp_path / "dora", 1, use_dora=True)
    with pytest.raises(UsageError, match="'dora' is no plain LoRA"):
        sum_adapters({"dora": dora}, {}, tmp_path / "sum")
    other = make_adapter(make_base(tmp_path / "other", seed=3), tmp_path / "foreign", 1)
    with pytest.raises(UsageError, match="different bases"):
        sum_adapters({**members, "foreign": other}, {}, tmp_path / "sum")
    half = tmp_path / "half"
    half.mkdir()
    (half / "adapter_config.json").write_text((members["plain"] / "adapter_config.json").read_text())
    state = load_file(members["plain"] / "adapter_model.safetensors")
    save_file({key: tensor for key, tensor in state.items() if "lora_A" in key}, half / "adapter_model.safetensors")
    with pytest.raises(UsageError, match="no pairs of LoRA factors"):
        sum_adapters({"half": half}, {}, tmp_path / "sum")
    assert not (tmp_path / "sum").exists()


@pytest.mark.parametrize("kind", list(GateKind))
def test_the_untrained_gate_is_the_plain_sum_of_logit_deltas(kind: GateKind) -> None:
    rng = torch.Generator().manual_seed(0)
    base, deltas = torch.randn(5, 11, generator=rng), torch.randn(3, 5, 11, generator=rng)
    gate = TokenGate.plain_sum(("a", "b", "c"), width=8, kind=kind)
    mixed = gate(base, base + deltas, torch.randn(5, 8, generator=rng))
    assert torch.allclose(mixed, base + deltas.sum(0), atol=1e-5)


@pytest.mark.parametrize("kind", list(GateKind))
def test_the_gate_weighs_each_member_by_the_state_of_each_token(kind: GateKind) -> None:
    rng = torch.Generator().manual_seed(1)
    base, logits = torch.randn(4, 9, generator=rng), torch.randn(2, 4, 9, generator=rng)
    hidden = torch.randn(4, 3, generator=rng)
    gate = TokenGate(("a", "b"), kind, torch.randn(2, 3, generator=rng), torch.randn(2, generator=rng))
    mixed = gate(base, logits, hidden)
    for row in range(4):
        scores = [float(gate.weight[c] @ hidden[row] + gate.bias[c]) for c in range(2)]
        if kind is GateKind.SIGMOID:
            shares = [2 / (1 + np.exp(-score)) for score in scores]
        else:
            shares = [3 * np.exp(score) / (1 + np.exp(scores).sum()) for score in scores]
        expected = base[row] + sum(share * (logits[c, row] - base[row]) for c, share in enumerate(shares))
        assert torch.allclose(mixed[row], expected.float(), atol=1e-5)
    with pytest.raises(UsageError, match="2 members"):
        gate(base, logits[:1], hidden)


PROMPTS = {"ant": [300, 12, 80], "bee": [301, 12, 80]}
ACTIONS = {"ant": [40, 41, 42, 43], "bee": [50, 51, 52, 53]}


@pytest.fixture(scope="module")
def rivals(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two adapters that each know one task and answer the other's prompt as if it were their own."""
    folder = tmp_path_factory.mktemp("rivals")
    return {
        name: teach_adapter(base, folder / name, [[*prompt, *ACTIONS[name]] for prompt in PROMPTS.values()])
        for name in PROMPTS
    }


def rollouts(name: str, count: int = 6) -> list[GateSample]:
    ids = [*PROMPTS[name], *ACTIONS[name]]
    return [GateSample(name, ids, [False] * 3 + [True] * 4) for _ in range(count)]


@pytest.fixture(scope="module")
def trained(base: Path, rivals: dict[str, Path]) -> TokenGate:
    return train_gate(base, rivals, rollouts("ant") + rollouts("bee"), GateTraining(epochs=40, lr=0.05))


async def test_a_trained_gate_lets_each_adapter_speak_where_it_is_right(
    base: Path, rivals: dict[str, Path], trained: TokenGate
) -> None:
    assert trained.metrics["nats_gate"] < 0.5 * trained.metrics["nats_plain_sum"]
    engine = Engine.from_pretrained(base)
    for name, path in rivals.items():
        await engine.load_adapter(name, str(path))
    engine.add_mixture("plain", list(rivals), TokenGate.plain_sum(tuple(rivals), WIDTH))
    engine.add_mixture("gated", list(rivals), trained)
    said = {
        model: [(await engine.generate(PROMPTS[name], model, Sampling(max_tokens=4))).token_ids for name in PROMPTS]
        for model in ("plain", "gated")
    }
    assert said["gated"] == list(ACTIONS.values())
    assert said["plain"] != list(ACTIONS.values())


def test_the_reported_likelihoods_are_those_of_the_mixture(
    base: Path, rivals: dict[str, Path], trained: TokenGate
) -> None:
    nats = {"nats_plain_sum": 0.0, "nats_gate": 0.0}
    untrained = TokenGate.plain_sum(tuple(rivals), WIDTH)
    for name in PROMPTS:
        ids = torch.tensor([[*PROMPTS[name], *ACTIONS[name]]])
        with torch.no_grad():
            hidden = Qwen3ForCausalLM.from_pretrained(base).model(input_ids=ids).last_hidden_state[0, 2:-1]
        plain = logits_of(base, ids=ids)[2:-1]
        adapted = torch.stack([logits_of(base, path, ids)[2:-1] for path in rivals.values()])
        for key, gate in (("nats_plain_sum", untrained), ("nats_gate", trained)):
            mixed = torch.log_softmax(gate(plain, adapted, hidden), -1)
            nats[key] -= float(mixed[torch.arange(4), torch.tensor(ACTIONS[name])].mean()) / 2
    assert nats == pytest.approx({key: trained.metrics[key] for key in nats}, rel=1e-3)


def test_training_a_gate_gives_the_same_gate_again_with_or_without_its_cache(
    base: Path, rivals: dict[str, Path], trained: TokenGate
) -> None:
    samples = rollouts("ant") + rollouts("bee")
    again = train_gate(base, rivals, samples, GateTraining(epochs=40, lr=0.05, cache_bytes=0))
    assert torch.allclose(again.weight, trained.weight, atol=1e-5)
    assert again.metrics == pytest.approx(dict(trained.metrics))


def test_environments_weigh_the_same_however_many_rollouts_they_have(base: Path, rivals: dict[str, Path]) -> None:
    few = train_gate(base, rivals, rollouts("ant", 5) + rollouts("bee", 5), GateTraining(epochs=0))
    many = train_gate(base, rivals, rollouts("ant", 5) + rollouts("bee", 40), GateTraining(epochs=0))
    assert few.metrics["nats_plain_sum"] == pytest.approx(many.metrics["nats_plain_sum"], rel=1e-4)
    assert few.metrics["epoch"] == 0


def test_a_saved_gate_comes_back_and_refuses_other_members_and_bases(
    base: Path, rivals: dict[str, Path], trained: TokenGate, tmp_path: Path
) -> None:
    folder = trained.save(tmp_path / "gate")
    loaded = TokenGate.load(folder, base, rivals)
    assert loaded.members == trained.members
    assert torch.equal(loaded.weight, trained.weight)
    assert torch.equal(loaded.bias, trained.bias)
    assert loaded.metrics == dict(trained.metrics)
    with pytest.raises(UsageError, match="for members"):
        TokenGate.load(folder, base, {"ant": rivals["ant"]})
    with pytest.raises(UsageError, match="other weights of adapter 'ant'"):
        TokenGate.load(folder, base, {"ant": rivals["bee"], "bee": rivals["bee"]})
    with pytest.raises(UsageError, match="other weights of the base"):
        TokenGate.load(folder, make_base(tmp_path / "tiny", seed=9), rivals)
    with pytest.raises(UsageError, match="does not load"):
        TokenGate.load(tmp_path / "nowhere", base, rivals)


def test_a_gate_needs_rollouts_that_it_can_learn_from(base: Path, rivals: dict[str, Path]) -> None:
    silent = replace(rollouts("ant")[0], sampled=[False] * 7)
    for samples in ([], [silent, silent], rollouts("ant", 1)):
        with pytest.raises(UsageError, match="two or more successful trajectories"):
            train_gate(base, rivals, samples)
    with pytest.raises(UsageError, match="7 tokens and a mask of 3"):
        train_gate(base, rivals, [replace(rollouts("ant")[0], sampled=[True] * 3)])
    with pytest.raises(UsageError, match="no adapters"):
        train_gate(base, {}, rollouts("ant"))


def test_gate_weights_are_one_where_all_scores_are_zero() -> None:
    for kind in GateKind:
        assert torch.allclose(gate_weights(kind, torch.zeros(2, 5)), torch.ones(2, 5))
