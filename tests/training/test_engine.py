"""The engine's sampling against transformers and PEFT on the same tokens, and its promises about batching."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from tiny_base import make_adapter, make_base
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from trace_agents.endpoint import Completion, ModelEndpoint, Sampling
from trace_agents.errors import InfrastructureError, UsageError
from training.engine import Engine
from training.engine.cache import PrefixCache
from training.engine.grouping import split
from training.engine.sampling import draw, uniforms

# PEFT 0.21 asks transformers 5.23 by a name that it has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

ALL_MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 300,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
}
ARCHITECTURES: dict[str, PretrainedConfig] = {
    "qwen3": Qwen3Config(**SIZES, num_key_value_heads=4, head_dim=16),
    "qwen3 with shared keys": Qwen3Config(**SIZES, num_key_value_heads=2, head_dim=8, tie_word_embeddings=True),
    "qwen2": Qwen2Config(**SIZES, num_key_value_heads=1),
    "llama": LlamaConfig(**SIZES, num_key_value_heads=2),
    "llama with biases": LlamaConfig(**SIZES, num_key_value_heads=2, attention_bias=True, mlp_bias=True),
    "llama with scaled positions": LlamaConfig(
        **SIZES,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 10000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    ),
}


def spread(model: torch.nn.Module) -> None:
    """Weights wide enough apart that greedy choices are no ties."""
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, 1.0 if "norm" in name else 0.0, 0.15)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def adapters(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Adapters that differ in rank, scale rule, modules and layers."""
    folder = tmp_path_factory.mktemp("adapters")
    options: dict[str, dict[str, object]] = {
        "every-module": {"target_modules": ALL_MODULES, "r": 3},
        "rank-stable": {"use_rslora": True, "target_modules": ["gate_proj", "k_proj"]},
        "one-layer": {"target_modules": ["o_proj", "v_proj"], "layers_to_transform": [1]},
        "patterned": {"rank_pattern": {"v_proj": 2}, "alpha_pattern": {"v_proj": 5}},
    }
    return {
        name: make_adapter(base, folder / name, seed, **chosen)
        for seed, (name, chosen) in enumerate(options.items(), start=1)
    }


async def loaded(base: Path, adapters: dict[str, Path], **settings: object) -> Engine:
    engine = Engine.from_pretrained(base, **settings)
    for name, path in adapters.items():
        await engine.load_adapter(name, str(path))
    return engine


def prompts_of(lengths: Sequence[int], vocab: int = 300, seed: int = 0) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [random.integers(0, vocab, length).tolist() for length in lengths]


def reference_logprobs(model: torch.nn.Module, prompt: list[int], sampled: list[int]) -> list[float]:
    """What transformers says of each sampled token."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + sampled])).logits[0].float()
    logprobs = torch.log_softmax(logits, -1)
    return [float(logprobs[len(prompt) - 1 + index, token]) for index, token in enumerate(sampled)]


def greedy(model: torch.nn.Module, prompt: list[int], count: int) -> list[int]:
    """Greedy tokens by transformers, one full pass each: no cache, no generation code shared with anything."""
    ids = list(prompt)
    for _ in range(count):
        with torch.no_grad():
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
async def test_greedy_tokens_and_logprobs_are_those_of_transformers(architecture: str, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_config(ARCHITECTURES[architecture])
    spread(model)
    model.eval().save_pretrained(tmp_path / "model")
    engine = Engine.from_pretrained(tmp_path / "model")
    prompts = prompts_of([1, 2, 7, 40, 130])
    done = await asyncio.gather(*(engine.generate(ids, "model", Sampling(max_tokens=6)) for ids in prompts))
    for prompt, completion in zip(prompts, done, strict=True):
        assert completion.token_ids == greedy(model, prompt, 6)
        assert completion.logprobs == pytest.approx(reference_logprobs(model, prompt, completion.token_ids), abs=1e-4)
        assert (completion.finish_reason, completion.model) == ("length", "model")


async def test_one_batch_of_all_adapters_and_the_base_gives_what_peft_gives_for_each(
    base: Path, adapters: dict[str, Path]
) -> None:
    engine = await loaded(base, adapters)
    assert isinstance(engine, ModelEndpoint)
    assert await engine.models() == ["tiny", *adapters]
    models = [name for _ in range(3) for name in await engine.models()]
    prompts = prompts_of(np.random.default_rng(1).integers(2, 60, len(models)).tolist())
    asked = zip(prompts, models, strict=True)
    done = await asyncio.gather(*(engine.generate(ids, name, Sampling(max_tokens=5)) for ids, name in asked))
    for name in await engine.models():
        model = Qwen3ForCausalLM.from_pretrained(base).eval()
        if name != "tiny":
            model = PeftModel.from_pretrained(model, adapters[name]).eval()
        for prompt, asked_for, completion in zip(prompts, models, done, strict=True):
            if asked_for == name:
                assert completion.token_ids == greedy(model, prompt, 5)
                expected = reference_logprobs(model, prompt, completion.token_ids)
                assert completion.logprobs == pytest.approx(expected, abs=1e-4)


async def test_rows_of_the_base_are_bit_for_bit_the_same_beside_adapters(base: Path, adapters: dict[str, Path]) -> None:
    prompts = prompts_of([20] * 8)
    sampling = Sampling(max_tokens=8, temperature=1.0, seed=3)

    async def run(neighbour: str) -> list[Completion]:
        engine = await loaded(base, adapters)
        names = ["tiny" if index % 2 else neighbour for index in range(8)]
        pairs = zip(prompts, names, strict=True)
        return (await asyncio.gather(*(engine.generate(ids, name, sampling) for ids, name in pairs)))[1::2]

    assert await run("every-module") == await run("tiny")


async def test_a_seed_makes_a_request_reproducible_whatever_it_is_batched_with(
    base: Path, adapters: dict[str, Path]
) -> None:
    prompt, *others = prompts_of([30, 3, 90, 31, 60, 8, 200])
    wanted = Sampling(max_tokens=20, temperature=1.3, top_p=0.9, seed=11)
    alone = await (await loaded(base, {})).generate(prompt, "tiny", wanted)
    engine = await loaded(base, adapters)
    names = ["tiny", *adapters, "tiny"]
    crowd = [
        engine.generate(ids, name, Sampling(max_tokens=9, temperature=1.0))
        for ids, name in zip(others, names, strict=True)
    ]
    crowded, *_ = await asyncio.gather(engine.generate(prompt, "tiny", wanted), *crowd)
    assert crowded.token_ids == alone.token_ids
    assert crowded.logprobs == pytest.approx(alone.logprobs, abs=1e-5)
    other = await engine.generate(prompt, "tiny", wanted.model_copy(update={"seed": 12}))
    assert other.token_ids != alone.token_ids


async def test_without_a_seed_requests_differ_and_the_engines_seed_repeats_them(base: Path) -> None:
    async def run(seed: int) -> list[list[int]]:
        engine = Engine.from_pretrained(base, seed=seed)
        sampling = Sampling(max_tokens=12, temperature=1.0)
        done = await asyncio.gather(*(engine.generate([5, 6, 7], "tiny", sampling) for _ in range(4)))
        return [completion.token_ids for completion in done]

    first = await run(1)
    assert len({tuple(ids) for ids in first}) == 4
    assert await run(1) == first
    assert await run(2) != first


def test_draws_follow_each_rows_tempered_distribution_cut_to_its_nucleus() -> None:
    torch.manual_seed(0)
    logits, count = torch.randn(12) * 2, 20_000
    for temperature, top_p in ((1.0, 1.0), (0.7, 1.0), (0.7, 0.8), (1.5, 0.5)):
        randoms = uniforms(range(count), [3] * count)
        ids, logprobs = draw(logits.expand(count, -1), [temperature] * count, [top_p] * count, randoms)
        probabilities, order = torch.softmax(logits / temperature, -1).sort(descending=True)
        kept = min(12, int((probabilities.cumsum(0) < top_p - 1e-6).sum()) + 1)
        shares = (probabilities[:kept] / probabilities[:kept].sum()).tolist()
        counts = Counter(ids)
        assert set(counts) <= set(order[:kept].tolist())
        for token, share in zip(order[:kept].tolist(), shares, strict=True):
            assert counts[token] / count == pytest.approx(share, abs=5 * (share * (1 - share) / count) ** 0.5 + 1e-9)
        raw = torch.log_softmax(logits, -1)[ids].tolist()
        assert logprobs == pytest.approx(raw, abs=1e-5)


def test_a_batch_may_mix_greedy_and_sampled_rows() -> None:
    torch.manual_seed(1)
    logits = torch.randn(6, 50)
    randoms = uniforms([9] * 6, range(6))
    mixed, _ = draw(logits, [0.0, 1.0] * 3, [1.0] * 6, randoms)
    sampled, _ = draw(logits, [1.0] * 6, [1.0] * 6, randoms)
    assert mixed[0::2] == logits.argmax(-1)[0::2].tolist()
    assert mixed[1::2] == sampled[1::2]
    assert len(set(sampled)) > 1


async def test_turns_that_reuse_keys_and_values_equal_turns_read_in_anew(base: Path, adapters: dict[str, Path]) -> None:
    reusing = await loaded(base, adapters)
    forgetful = await loaded(base, adapters, cache_entries=0)
    random = np.random.default_rng(5)

    async def conversation(engine: Engine, name: str, start: list[int], seed: int) -> list[Completion]:
        ids, turns = start, []
        for turn in range(4):
            sampling = Sampling(max_tokens=7, temperature=1.0, seed=seed * 10 + turn)
            turns.append(await engine.generate(ids, name, sampling))
            ids = ids + turns[-1].token_ids + prompts_of([turn * 5 + 1], seed=seed)[0]
        return turns

    starts = [random.integers(0, 300, int(length)).tolist() for length in random.integers(1, 50, 10)]
    names = [name for _ in range(2) for name in await reusing.models()]
    results = []
    for engine in (reusing, forgetful):
        runs = (conversation(engine, name, start, i) for i, (name, start) in enumerate(zip(names, starts, strict=True)))
        results.append(await asyncio.gather(*runs))
    for once, anew in zip(*results, strict=True):
        assert [turn.token_ids for turn in once] == [turn.token_ids for turn in anew]
        for a, b in zip(once, anew, strict=True):
            assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)
    assert (reusing.cached_turns, forgetful.cached_turns) == (10, 0)  # A later turn takes its forerunner's place.


async def test_requests_that_share_a_prompt_read_it_in_once(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine.from_pretrained(base)
    read: list[int] = []
    decoder, forward = engine._decoder, engine._decoder.hidden
    monkeypatch.setattr(decoder, "hidden", lambda batch, *rest: read.append(len(batch.tokens)) or forward(batch, *rest))
    prompt = prompts_of([200])[0]
    sampling = Sampling(max_tokens=3, temperature=1.0)
    await asyncio.gather(*(engine.generate(prompt, "tiny", sampling) for _ in range(16)))
    assert sum(read) == 199 + 16 * 3
    read.clear()
    await engine.generate(prompt[:150] + [7] * 30, "tiny", sampling)
    assert sum(read) == 29 + 3  # A part of a cached sequence serves too.


def test_the_cache_finds_the_longest_prefix_and_drops_what_was_used_longest_ago() -> None:
    def kept(*tokens: int) -> tuple[np.ndarray, torch.Tensor]:
        return np.array(tokens, np.int32), torch.zeros(1, 2, 1, len(tokens), 4)  # 32 bytes a token.

    cache = PrefixCache(max_bytes=12 * 32, max_entries=3)
    cache.add(0, *kept(1, 2, 3, 4), None)
    cache.add(0, *kept(1, 2, 9), None)
    cache.add(1, *kept(1, 2, 3, 4, 5), None)
    found, shared = cache.find(0, np.array([1, 2, 3, 7, 8, 9], np.int32))
    assert found is not None
    assert (found.length, shared) == (4, 3)
    assert cache.find(2, np.array([1, 2], np.int32)) == (None, 0)
    cache.add(0, *kept(8, 8), None)  # The fourth: (1, 2, 9) goes, which was used longest ago.
    assert cache.find(0, np.array([1, 2, 9], np.int32))[1] == 2
    cache.add(0, *kept(1, 2, 3, 4, 6, 7), found)  # Takes the place of what it extends.
    assert (len(cache), cache.find(0, np.array([1, 2, 3, 4, 6, 7], np.int32))[1]) == (2, 6)
    assert cache.bytes == (2 + 6) * 32
    cache.forget({0})
    assert (len(cache), cache.bytes) == (0, 0)


async def test_sampling_stops_at_stop_tokens_and_returns_them(base: Path) -> None:
    engine = Engine.from_pretrained(base)
    prompt = prompts_of([9])[0]
    free = await engine.generate(prompt, "tiny", Sampling(max_tokens=10))
    stop = free.token_ids[4]
    cut = free.token_ids.index(stop) + 1
    stopped = await engine.generate(prompt, "tiny", Sampling(max_tokens=10, stop_token_ids=(stop,)))
    assert (stopped.token_ids, stopped.finish_reason) == (free.token_ids[:cut], "stop")
    assert len(stopped.logprobs) == cut


async def test_scores_are_the_logprobs_of_the_next_token(base: Path, adapters: dict[str, Path]) -> None:
    engine = await loaded(base, adapters)
    prompt = prompts_of([33])[0]
    candidates = [4, 250, 4, 17]
    model = PeftModel.from_pretrained(Qwen3ForCausalLM.from_pretrained(base), adapters["every-module"]).eval()
    with torch.no_grad():
        expected = torch.log_softmax(model(input_ids=torch.tensor([prompt])).logits[0, -1], -1)[candidates]
    together = await asyncio.gather(
        engine.score_next(prompt, candidates, "every-module"), engine.generate(prompt, "tiny", Sampling(max_tokens=2))
    )
    assert together[0] == pytest.approx(expected.tolist(), abs=1e-4)


@pytest.mark.parametrize("pool", ["last", "mean"])
async def test_hidden_states_are_transformers_final_ones(base: Path, adapters: dict[str, Path], pool: str) -> None:
    engine = await loaded(base, adapters)
    prompts = prompts_of([1, 30, 200, 7])
    for name in ("tiny", "every-module"):
        model = Qwen3ForCausalLM.from_pretrained(base)
        if name != "tiny":
            model = PeftModel.from_pretrained(model, adapters[name]).merge_and_unload()
        states = engine.hidden(prompts, name, pool)  # type: ignore[arg-type]
        for prompt, state in zip(prompts, states, strict=True):
            with torch.no_grad():
                full = model.model(input_ids=torch.tensor([prompt])).last_hidden_state[0]
            assert torch.allclose(state, full[-1] if pool == "last" else full.mean(0), atol=1e-4)


async def test_bfloat16_agrees_with_float32_to_its_own_precision(base: Path) -> None:
    prompts = prompts_of([5, 60, 61])
    model = Qwen3ForCausalLM.from_pretrained(base).eval()
    engine = Engine.from_pretrained(base, dtype="bfloat16")
    done = await asyncio.gather(
        *(engine.generate(ids, "tiny", Sampling(max_tokens=8, temperature=1.0)) for ids in prompts)
    )
    for prompt, completion in zip(prompts, done, strict=True):
        assert completion.logprobs == pytest.approx(reference_logprobs(model, prompt, completion.token_ids), abs=0.15)


async def test_long_prompts_are_read_in_pieces_beside_short_conversations(base: Path) -> None:
    engine = Engine.from_pretrained(base, max_prompt_tokens=64, max_rows=3)
    model = Qwen3ForCausalLM.from_pretrained(base).eval()
    prompts = prompts_of([900, 10, 40, 3, 300, 25])
    done = await asyncio.gather(*(engine.generate(ids, "tiny", Sampling(max_tokens=4)) for ids in prompts))
    assert [completion.token_ids for completion in done] == [greedy(model, prompt, 4) for prompt in prompts]


async def test_one_long_conversation_among_short_ones_leaves_each_as_it_is_alone(base: Path) -> None:
    prompts = prompts_of([10, 900, 40, 3, *range(20, 30), 250, 910])
    sampling = Sampling(max_tokens=6, temperature=1.0, seed=2)
    together = Engine.from_pretrained(base)
    done = await asyncio.gather(*(together.generate(ids, "tiny", sampling) for ids in prompts))
    apart, rest = split([len(ids) for ids in prompts], len(prompts))
    assert sorted(apart) == [1, 14, 15]
    assert len(rest) == 13
    for prompt, completion in zip(prompts, done, strict=True):
        alone = await Engine(together.weights, together.config).generate(prompt, "tiny", sampling)
        assert completion.token_ids == alone.token_ids
        assert completion.logprobs == pytest.approx(alone.logprobs, abs=1e-5)


def test_rows_are_split_only_where_that_reads_fewer_keys() -> None:
    assert split([100] * 8, 8)[0] == []
    assert split([100, 140, 120, 130], 4)[0] == []  # One more group costs more than it saves.
    assert split([100] * 60 + [300], 61)[0] == [60]
    assert split([100] * 60 + [2000, 700, 1900], 63)[0] == [60, 62, 61]
    assert split([900], 1) == ([], [0])
    assert split([900, 50], 30)[0] == [0, 1]  # The others in the store are not computed at all.


async def test_a_full_context_is_an_infrastructure_failure(base: Path) -> None:
    engine = Engine.from_pretrained(base, max_context=40)
    with pytest.raises(InfrastructureError, match="context of 40 tokens is full: the prompt has 40"):
        await engine.generate([5] * 40, "tiny", Sampling())
    with pytest.raises(InfrastructureError, match="full after 30 prompt and 10 sampled"):
        await engine.generate([5] * 30, "tiny", Sampling(max_tokens=11))
    assert len((await engine.generate([5] * 30, "tiny", Sampling(max_tokens=10))).token_ids) == 10


async def test_a_cancelled_request_leaves_its_neighbours_as_they_were(base: Path) -> None:
    engine = Engine.from_pretrained(base)
    prompts = prompts_of([10, 20, 30])
    expected = [(await engine.generate(ids, "tiny", Sampling(max_tokens=12))).token_ids for ids in prompts]
    tasks = [asyncio.create_task(engine.generate(ids, "tiny", Sampling(max_tokens=12))) for ids in prompts]
    for _ in range(6):
        await asyncio.sleep(0)
    tasks[0].cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(done[0], asyncio.CancelledError)
    assert [each.token_ids for each in done[1:] if isinstance(each, Completion)] == expected[1:]


def test_an_engine_outlives_an_event_loop_that_was_stopped_midway(base: Path) -> None:
    engine = Engine.from_pretrained(base)

    async def given_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(engine.generate([5, 6], "tiny", Sampling(max_tokens=400)), 0.0)

    asyncio.run(given_up())
    done = asyncio.run(engine.generate([5, 6], "tiny", Sampling(max_tokens=3)))
    assert len(done.token_ids) == 3


async def test_a_failing_step_fails_its_requests_and_the_engine_goes_on(base: Path, adapters: dict[str, Path]) -> None:
    engine = await loaded(base, adapters)

    def broken(base_logits: torch.Tensor, members: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        raise ZeroDivisionError("gate")

    engine.add_mixture("broken", ["one-layer"], broken)
    asked = [engine.generate([5, 6], name, Sampling(max_tokens=3)) for name in ("broken", "tiny")]
    for failure in await asyncio.gather(*asked, return_exceptions=True):
        assert isinstance(failure, InfrastructureError)
        assert "ZeroDivisionError: gate" in str(failure)
    assert len((await engine.generate([5, 6], "tiny", Sampling(max_tokens=3))).token_ids) == 3


async def test_bad_requests_name_the_value_and_the_remedy(base: Path) -> None:
    engine = Engine.from_pretrained(base)
    with pytest.raises(UsageError, match=r"unknown model 'tny': use one of 'tiny'"):
        await engine.generate([5], "tny", Sampling())
    with pytest.raises(UsageError, match="prompt is empty"):
        await engine.generate([], "tiny", Sampling())
    with pytest.raises(UsageError, match="prompt has token id 99999"):
        await engine.generate([5, 99999], "tiny", Sampling())
    with pytest.raises(UsageError, match="candidates has token id -1"):
        await engine.score_next([5], [-1], "tiny")
    with pytest.raises(UsageError, match="out of range"):
        await engine.generate([5], "tiny", Sampling(top_p=0.0))


def test_what_the_engine_cannot_run_is_refused_by_name(base: Path, tmp_path: Path) -> None:
    AutoModelForCausalLM.from_config(
        GPT2Config(vocab_size=40, n_embd=8, n_layer=1, n_head=1, bos_token_id=1, eos_token_id=1)
    ).save_pretrained(tmp_path / "gpt2")
    with pytest.raises(UsageError, match="architecture 'GPT2LMHeadModel': the embedded engine runs Qwen3ForCausalLM"):
        Engine.from_pretrained(tmp_path / "gpt2")
    with pytest.raises(UsageError, match=r"has no config\.json"):
        Engine.from_pretrained(tmp_path)
    with pytest.raises(UsageError, match="max_context 9999 exceeds the 4096 positions"):
        Engine.from_pretrained(base, max_context=9999)
    with pytest.raises(UsageError, match="engine setting dtype='float8'"):
        Engine.from_pretrained(base, dtype="float8")
