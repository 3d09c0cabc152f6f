"""Adapters and their compositions: what is loaded, what is refused, and what the sums and mixtures compute."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from tiny_base import make_adapter, make_base
from transformers import Qwen3ForCausalLM

from trace_agents.endpoint import Completion, Sampling
from trace_agents.errors import InfrastructureError, UsageError
from training.engine import Engine

# PEFT 0.21 asks transformers 5.23 by a name that it has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

PROMPT = np.random.default_rng(3).integers(0, 300, 25).tolist()
CANDIDATES = [3, 77, 120, 290]
GREEDY = Sampling(max_tokens=6)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def adapters(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("adapters")
    modules = ["q_proj", "v_proj", "gate_proj", "down_proj"]
    return {
        name: make_adapter(base, folder / name, seed, target_modules=modules, r=rank)
        for seed, (name, rank) in enumerate({"a": 4, "b": 2, "c": 4}.items(), start=1)
    }


@pytest.fixture
async def engine(base: Path, adapters: dict[str, Path]) -> Engine:
    engine = Engine.from_pretrained(base)
    for name, path in adapters.items():
        await engine.load_adapter(name, str(path))
    return engine


def next_logits(model: torch.nn.Module, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0, -1].float()


def peft_model(base: Path, path: Path) -> PeftModel:
    return PeftModel.from_pretrained(Qwen3ForCausalLM.from_pretrained(base), path).eval()


async def test_a_weighted_sum_is_pefts_concatenation_of_the_adapters(
    engine: Engine, base: Path, adapters: dict[str, Path]
) -> None:
    model = peft_model(base, adapters["a"])
    model.load_adapter(str(adapters["b"]), "b")
    model.load_adapter(str(adapters["c"]), "c")
    model.add_weighted_adapter(["default", "b", "c"], [1.0, 0.5, 2.0], "joined", combination_type="cat")
    model.set_adapter("joined")
    expected = torch.log_softmax(next_logits(model, PROMPT), -1)[CANDIDATES]
    engine.add_sum("joined", ["a", "b", "c"], [1.0, 0.5, 2.0])
    together = (engine.score_next(PROMPT, CANDIDATES, name) for name in ("joined", "tiny", "a"))
    scores, plain, single = await asyncio.gather(*together)
    assert scores == pytest.approx(expected.tolist(), abs=1e-4)
    assert plain != pytest.approx(scores, abs=1e-3)
    assert single != pytest.approx(scores, abs=1e-3)


async def test_a_sum_follows_an_adapter_that_is_replaced(engine: Engine, base: Path, tmp_path: Path) -> None:
    engine.add_sum("both", ["a", "b"])
    before = await engine.score_next(PROMPT, CANDIDATES, "both")
    await engine.load_adapter("a", str(make_adapter(base, tmp_path / "a", 9)))
    after = await engine.score_next(PROMPT, CANDIDATES, "both")
    assert after != pytest.approx(before, abs=1e-3)


async def test_a_mixture_draws_from_what_its_gate_makes_of_all_members_on_the_same_tokens(
    engine: Engine, base: Path, adapters: dict[str, Path]
) -> None:
    seen: list[tuple[torch.Size, ...]] = []

    def gate(plain: torch.Tensor, members: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        seen.append((plain.shape, members.shape, hidden.shape))
        share = torch.sigmoid(hidden.sum(-1, keepdim=True))
        return plain + share * (members - plain).sum(0)

    engine.add_mixture("mixed", ["a", "b"], gate)
    models = [Qwen3ForCausalLM.from_pretrained(base).eval(), *(peft_model(base, adapters[name]) for name in "ab")]
    prompts = [PROMPT, PROMPT[:9], PROMPT[3:]]
    busy = [engine.generate(PROMPT, name, GREEDY) for name in ("tiny", "a", "c")]
    done = await asyncio.gather(*(engine.generate(ids, "mixed", GREEDY) for ids in prompts), *busy)
    for prompt, completion in zip(prompts, done, strict=False):
        ids, logprobs = list(prompt), []
        for _ in completion.token_ids:
            plain, *members = [next_logits(model, ids) for model in models]
            with torch.no_grad():
                state = models[0].model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
            mixed = torch.log_softmax(gate(plain[None], torch.stack(members)[:, None], state[None])[0], -1)
            ids.append(int(mixed.argmax()))
            logprobs.append(float(mixed.max()))
        assert completion.token_ids == ids[len(prompt) :]
        assert completion.logprobs == pytest.approx(logprobs, abs=1e-4)
    vocab, width = engine.weights.shape.vocab, engine.weights.shape.width
    assert ((3, vocab), (2, 3, vocab), (3, width)) in seen  # All three were mixed in one call.


async def test_a_mixture_goes_on_from_its_earlier_turn(engine: Engine) -> None:
    engine.add_mixture("mean", ["a", "c"], lambda plain, members, hidden: (plain + members.sum(0)) / 3)
    first = await engine.generate(PROMPT, "mean", GREEDY)
    longer = PROMPT + first.token_ids + [7, 8, 9]
    again = await engine.generate(longer, "mean", GREEDY)
    fresh = Engine(engine.weights, engine.config)
    fresh._models = engine._models
    anew = await fresh.generate(longer, "mean", GREEDY)
    assert again.token_ids == anew.token_ids
    assert again.logprobs == pytest.approx(anew.logprobs, abs=1e-4)
    scores = await engine.score_next(longer, again.token_ids[:1], "mean")
    assert scores == pytest.approx(again.logprobs[:1], abs=1e-5)


async def test_weights_pushed_from_a_trainer_are_copied_and_forget_what_was_cached(base: Path) -> None:
    engine = Engine.from_pretrained(base)
    torch.manual_seed(4)
    config = LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "up_proj"], task_type="CAUSAL_LM")
    trained = get_peft_model(Qwen3ForCausalLM.from_pretrained(base), config)
    for scale in (0.05, 0.2):
        for name, parameter in trained.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=scale)
        engine.load_adapter_weights("policy", get_peft_model_state_dict(trained), trained.peft_config["default"])
        expected = torch.log_softmax(next_logits(trained, PROMPT), -1)[CANDIDATES].tolist()
        with torch.no_grad():
            for name, parameter in trained.named_parameters():
                if "lora_" in name:
                    parameter.add_(1.0)  # The trainer goes on; the engine must not notice.
        assert await engine.score_next(PROMPT, CANDIDATES, "policy") == pytest.approx(expected, abs=1e-4)
        assert engine.cached_turns == 1
        with torch.no_grad():
            for name, parameter in trained.named_parameters():
                if "lora_" in name:
                    parameter.sub_(1.0)


async def test_a_request_in_flight_finishes_with_the_weights_it_began_with(
    engine: Engine, base: Path, tmp_path: Path
) -> None:
    long = Sampling(max_tokens=40)
    expected = await engine.generate(PROMPT, "a", long)
    task = asyncio.create_task(engine.generate(PROMPT, "a", long))
    for _ in range(5):
        await asyncio.sleep(0)
    await engine.load_adapter("a", str(make_adapter(base, tmp_path / "other", 8)))
    done: list[Completion] = await asyncio.gather(task, engine.generate(PROMPT, "a", long))
    assert done[0].token_ids == expected.token_ids
    assert done[1].token_ids != expected.token_ids


async def test_an_unloaded_adapter_is_unknown_and_a_part_in_use_stays(engine: Engine) -> None:
    engine.add_sum("both", ["a", "b"])
    with pytest.raises(UsageError, match="adapter 'a' is a part of 'both': unload that first"):
        await engine.unload_adapter("a")
    await engine.unload_adapter("both")
    await engine.unload_adapter("a")
    assert await engine.models() == ["tiny", "b", "c"]
    with pytest.raises(UsageError, match="unknown model 'a': use one of 'b', 'c', 'tiny'"):
        await engine.generate(PROMPT, "a", GREEDY)
    with pytest.raises(UsageError, match="unknown adapter 'tiny'"):
        await engine.unload_adapter("tiny")


async def test_compositions_of_unknown_or_unfit_parts_are_refused(engine: Engine) -> None:
    with pytest.raises(UsageError, match="unknown adapter 'd': use one of 'a', 'b', 'c'"):
        engine.add_sum("bad", ["a", "d"])
    with pytest.raises(UsageError, match="give one weight for each"):
        engine.add_sum("bad", ["a", "b"], [1.0])
    with pytest.raises(UsageError, match="taken by another kind"):
        engine.add_sum("a", ["b"])
    engine.add_mixture("mixed", ["a"], lambda plain, members, hidden: members[0])
    with pytest.raises(UsageError, match="unknown mixture member 'mixed'"):
        engine.add_mixture("nested", ["mixed"], lambda plain, members, hidden: members[0])
    with pytest.raises(UsageError, match="'mixed' is a mixture, which has no weights of its own"):
        engine.hidden([PROMPT], "mixed")


def edited(source: Path, target: Path, **changes: object) -> str:
    """A copy of an adapter folder with some of its configuration changed."""
    target.mkdir()
    config = json.loads((source / "adapter_config.json").read_text()) | changes
    (target / "adapter_config.json").write_text(json.dumps(config))
    save_file(load_file(source / "adapter_model.safetensors"), target / "adapter_model.safetensors")
    return str(target)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base_model_name_or_path": "elsewhere/other-7b"}, "made for base 'elsewhere/other-7b', not for 'tiny'"),
        ({"use_dora": True}, "sets use_dora=True"),
        ({"bias": "all"}, "sets bias='all'"),
        ({"modules_to_save": ["lm_head"]}, r"sets modules_to_save=\['lm_head'\]"),
        ({"peft_type": "IA3"}, "has peft_type 'IA3'"),
    ],
)
async def test_an_adapter_that_would_be_applied_wrongly_is_refused(
    engine: Engine, adapters: dict[str, Path], tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        await engine.load_adapter("new", edited(adapters["a"], tmp_path / "edited", **changes))
    assert "new" not in await engine.models()


async def test_a_base_served_under_another_name_still_takes_its_adapters(base: Path, adapters: dict[str, Path]) -> None:
    engine = Engine.from_pretrained(base, name="policy")
    await engine.load_adapter("a", str(adapters["a"]))
    assert await engine.models() == ["policy", "a"]


async def test_keys_and_shapes_that_match_no_layer_of_the_base_are_refused(
    engine: Engine, adapters: dict[str, Path]
) -> None:
    state = load_file(adapters["a"] / "adapter_model.safetensors")
    config = json.loads((adapters["a"] / "adapter_config.json").read_text())
    key = next(name for name in state if "layers.0" in name and "q_proj.lora_A" in name)
    deep = {**state, key.replace("layers.0", "layers.7"): state[key]}
    with pytest.raises(UsageError, match=r"1 keys that match no layer of the base \('.*layers\.7\..*'\)"):
        engine.load_adapter_weights("new", deep, config)
    experts = {**state, "base_model.model.model.layers.0.mlp.experts.0.up_proj.lora_A.weight": state[key]}
    with pytest.raises(UsageError, match="match no layer of the base"):
        engine.load_adapter_weights("new", experts, config)
    with pytest.raises(UsageError, match=r"made for another base: layer 0's q_proj maps 32 to 32"):
        engine.load_adapter_weights("new", {**state, key: torch.zeros(4, 48)}, config)
    lone = {name: tensor for name, tensor in state.items() if name != key}
    with pytest.raises(UsageError, match="has only lora_B of layer 0's q_proj"):
        engine.load_adapter_weights("new", lone, config)
    with pytest.raises(UsageError, match="no keys at all"):
        engine.load_adapter_weights("new", {}, config)


async def test_an_adapter_that_has_diverged_never_reaches_its_neighbours(
    engine: Engine, adapters: dict[str, Path]
) -> None:
    state = load_file(adapters["a"] / "adapter_model.safetensors")
    config = json.loads((adapters["a"] / "adapter_config.json").read_text())
    key = next(name for name in state if "q_proj.lora_B" in name)
    with pytest.raises(UsageError, match="has values that are not finite in layer 0's q_proj"):
        engine.load_adapter_weights("new", state | {key: torch.full_like(state[key], float("nan"))}, config)
    expected = await engine.generate(PROMPT, "tiny", GREEDY)
    huge = {name: tensor * (1e20 if "down_proj" in name else 1.0) for name, tensor in state.items()}
    engine.load_adapter_weights("huge", huge, config)
    asked = [engine.generate(PROMPT[:20], "huge", GREEDY), engine.score_next(PROMPT[:20], CANDIDATES, "huge")]
    for failure in await asyncio.gather(*asked, return_exceptions=True):
        assert isinstance(failure, InfrastructureError)
        assert "'huge' gives logits that are not finite" in str(failure)
    assert await engine.generate(PROMPT[:10], "tiny", GREEDY)  # In a row that had values of no use.
    fresh = await engine.generate([1, *PROMPT], "b", GREEDY)
    assert all(logprob <= 0 for logprob in fresh.logprobs)
    again = await engine.generate(PROMPT, "tiny", GREEDY)
    assert again.token_ids == expected.token_ids


async def test_a_folder_that_is_no_adapter_or_a_damaged_one_is_refused(
    engine: Engine, adapters: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"has no adapter_config\.json: give a folder that PEFT saved"):
        await engine.load_adapter("new", str(tmp_path))
    broken = Path(edited(adapters["a"], tmp_path / "broken"))
    (broken / "adapter_model.safetensors").write_bytes(b"\x10")
    with pytest.raises(UsageError, match="is damaged"):
        await engine.load_adapter("new", str(broken))
