"""GRPO against independent computations of Appendix A, and as a whole on a small environment."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rollout_doubles import Script, Sums, call
from tiny_base import make_base
from transformers import Qwen3ForCausalLM

from trace_agents.artifacts import MetricRow
from trace_agents.endpoint import Completion, Sampling
from trace_agents.environment import at_once
from trace_agents.errors import InfrastructureError, UsageError
from trace_agents.types import Evaluation, Message, TaskInstance, ToolResult, UserTurn
from training.chat import ChatFormat
from training.checkpoints import RandomState
from training.engine import Engine
from training.grpo import FixedTasks, GRPOConfig, MixedTasks, SeededTasks, TrainResult, group_advantages, train
from training.grpo.batch import Experience, Row, batches, rows_of
from training.grpo.folding import fold
from training.grpo.loss import grpo_loss, kl_penalty
from training.grpo.policy import Policy
from training.grpo.update import StepFigures, Updater, experiences
from training.rollouts import Prompting, RolloutConfig, collect, rollout

CPU = torch.device("cpu")


class PlainEpisode:
    """A user who hears one message, and likes letters of the alphabet in it."""

    policy = ""
    tools = ()

    def __init__(self, task: TaskInstance) -> None:
        self.task = task

    async def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        raise NotImplementedError

    async def user_turn(self, message: str) -> UserTurn:
        return UserTurn()

    async def evaluate(self, messages: Sequence[Message]) -> Evaluation:
        said = messages[-1].content or ""
        share = sum(character.isascii() and character.isalpha() for character in said) / max(len(said), 1)
        return Evaluation(reward=share, success=share > 0.8)

    async def close(self) -> None: ...


class Plain:
    """An environment whose reward a random model can find: the share of letters in what it says."""

    splits: Mapping[str, int] = {}

    def __init__(self, name: str = "plain") -> None:
        self.name = name

    def tasks(self, split: str) -> Sequence[TaskInstance]:
        raise UsageError("no splits")

    def task(self, task_id: str) -> TaskInstance:
        return self.generate(int(task_id.rpartition("-")[2]))

    def generate(self, seed: int) -> TaskInstance:
        return TaskInstance(id=f"{self.name}-{seed}", environment=self.name, seed=seed, prompt=f"Say {seed % 7}")

    async def start(self, task: TaskInstance) -> PlainEpisode:
        return PlainEpisode(task)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with clear preferences: one that found all tokens alike would take long to learn any."""
    folder = make_base(tmp_path_factory.mktemp("models") / "base")
    model = Qwen3ForCausalLM.from_pretrained(folder)
    model.model.norm.weight.data *= 4
    model.save_pretrained(folder)
    return folder


def policy_of(base: Path, **settings: Any) -> Policy:
    """A policy whose adapter is not zero."""
    config = GRPOConfig(rank=4, **settings)
    policy = Policy(base, config, RandomState(0, CPU))
    torch.manual_seed(1)
    policy.load_adapter({key: torch.randn_like(tensor) * 0.1 for key, tensor in policy.adapter().items()})
    return policy


def some_experience(count: int, seed: int = 0) -> list[Experience]:
    """Trajectories of different lengths, with random tokens, masks and advantages."""
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        rows = []
        for _ in range(rng.choice((1, 1, 2))):
            length = rng.randint(4, 30)
            is_action = [False, False, *(rng.random() < 0.5 for _ in range(length - 3)), True]
            tokens = [rng.randrange(250) for _ in range(length)]
            rows.append(Row(tokens, is_action, [-rng.random() * 8 for _ in range(sum(is_action))]))
        found.append(Experience(tuple(rows), rng.uniform(-2, 2)))
    return found


class TestAdvantages:
    """Equation 1."""

    def test_are_the_rewards_less_their_mean_by_their_deviation(self) -> None:
        rewards, eps = [1.0, 0.0, 0.0, 0.5], 0.1
        mean = sum(rewards) / 4
        deviation = math.sqrt(sum((reward - mean) ** 2 for reward in rewards) / 4)
        expected = [(reward - mean) / (deviation + eps) for reward in rewards]
        assert group_advantages(rewards, eps) == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize("rewards", [[], [1.0], [0.0] * 8, [0.1 + 0.2, 0.3]])
    def test_a_group_of_identical_rewards_has_none(self, rewards: list[float]) -> None:
        assert group_advantages(rewards) is None

    @given(st.lists(st.integers(0, 100), min_size=2, max_size=8), st.floats(0.1, 10), st.floats(-5, 5))
    def test_do_not_depend_on_the_scale_of_rewards(self, parts: list[int], scale: float, shift: float) -> None:
        rewards = [part / 100 for part in parts]
        found = group_advantages(rewards, 1e-12)
        if found is None:
            assert len(set(parts)) == 1
            return
        assert sum(found) == pytest.approx(0, abs=1e-6)
        moved = group_advantages([reward * scale + shift for reward in rewards], 1e-12)
        assert moved == pytest.approx(found, abs=1e-6)


class TestLoss:
    """Equation 2."""

    @pytest.mark.parametrize("seed", range(4))
    def test_is_the_papers_formula_in_plain_loops(self, seed: int) -> None:
        rng = random.Random(seed)
        # A minibatch of trajectories: (advantage, [(log-probability now, when sampled), ...]).
        minibatch = [
            (rng.uniform(-2, 2), [(old + rng.gauss(0, 0.4), old) for old in (-rng.random() * 5 for _ in range(length))])
            for length in (1, 7, 3, 12)
        ]
        clip, total, clipped = 0.2, 0.0, 0
        for advantage, tokens in minibatch:
            inner = 0.0
            for now, old in tokens:
                ratio = math.exp(now - old)
                bounded = min(max(ratio, 1 - clip), 1 + clip)
                inner += min(ratio * advantage, bounded * advantage)
                clipped += bounded * advantage < ratio * advantage
            total += inner / len(tokens)
        expected = -total / len(minibatch)

        flat = [(now, old, advantage, len(tokens)) for advantage, tokens in minibatch for now, old in tokens]
        now, old, advantages, lengths = (
            torch.tensor(column, dtype=torch.float64) for column in zip(*flat, strict=True)
        )
        loss, ratio, is_clipped = grpo_loss(now, old, advantages, 1 / (len(minibatch) * lengths), clip)
        assert loss.item() == pytest.approx(expected, abs=1e-12)
        assert int(is_clipped.sum()) == clipped
        assert ratio.tolist() == pytest.approx([math.exp(n - o) for n, o, _, _ in flat])

    @pytest.mark.parametrize(
        ("advantage", "gap", "sign"),
        [(1, 0.0, -1), (-1, 0.0, 1), (1, 0.5, 0), (-1, -0.5, 0), (1, -0.5, -1), (-1, 0.5, 1)],
        ids=["praised", "blamed", "praised enough", "blamed enough", "praised after a fall", "blamed after a rise"],
    )
    def test_moves_a_token_the_way_of_its_advantage_until_the_clip(
        self, advantage: float, gap: float, sign: int
    ) -> None:
        now = torch.tensor([-1.0 + gap], requires_grad=True)
        one = torch.ones(1)
        loss, _, is_clipped = grpo_loss(now, torch.tensor([-1.0]), one * advantage, one, 0.2)
        loss.backward()
        assert torch.sign(now.grad).item() == sign
        assert is_clipped.item() == (sign == 0)

    def test_the_penalty_is_zero_at_the_reference_and_grows_away_from_it(self) -> None:
        now = torch.tensor([-1.0, -2.0, -0.5])
        penalty, k = kl_penalty(now, torch.tensor([-1.0, -1.0, -1.0]), torch.full((3,), 0.5))
        assert k.tolist() == pytest.approx([0.0, math.e - 2, math.exp(-0.5) - 0.5])
        assert penalty.item() == pytest.approx(0.5 * k.sum().item())


class TestBatches:
    """Padding and splitting change nothing."""

    def test_the_policys_log_probabilities_are_those_of_each_row_alone(self, base: Path) -> None:
        policy, trajectories = policy_of(base), some_experience(6)
        model = policy.model.eval()
        expected = {}
        for row in (row for experience in trajectories for row in experience.rows):
            with torch.no_grad():
                scores = torch.log_softmax(model(input_ids=torch.tensor([row.token_ids])).logits[0].double(), -1)
            places = [place for place, is_action in enumerate(row.is_action) if is_action]
            expected[tuple(row.logprobs)] = [scores[place - 1, row.token_ids[place]].item() for place in places]
        for batch in batches(trajectories, 10_000, CPU):
            logprobs, entropy = policy.evaluate(batch)
            assert (entropy > 0).all()
            found = iter(logprobs.tolist())
            order = iter(batch.sampled.tolist())
            left = dict(expected)
            while left:
                first = next(order)
                key = next(key for key in left if key[0] == pytest.approx(first, abs=1e-6))
                values = [next(found) for _ in key]
                assert values == pytest.approx(left.pop(key), abs=1e-4)
                for _ in key[1:]:
                    next(order)

    def test_splitting_a_minibatch_leaves_its_gradient_as_it_is(self, base: Path) -> None:
        policy, trajectories = policy_of(base), some_experience(7)

        def gradient(most_tokens: int) -> tuple[float, list[torch.Tensor]]:
            policy.model.zero_grad()
            total = 0.0
            for batch in batches(trajectories, most_tokens, CPU):
                logprobs, _ = policy.evaluate(batch)
                loss, _, _ = grpo_loss(logprobs, batch.sampled, batch.advantages, batch.weights, 0.2)
                loss.backward()
                total += loss.item()
            return total, [parameter.grad.clone() for parameter in policy.parameters]

        whole, gradients = gradient(10_000)
        split, parts = gradient(40)
        assert len(list(batches(trajectories, 40, CPU))) > 3
        assert split == pytest.approx(whole, rel=1e-4)
        for one, other in zip(gradients, parts, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)

    def test_weights_give_each_trajectory_the_same_say(self) -> None:
        trajectories = some_experience(5)
        (batch,) = batches(trajectories, 10_000, CPU)
        assert batch.weights.sum().item() == pytest.approx(1.0)
        assert len(batch.targets) == sum(experience.actions for experience in trajectories)

    def test_folded_layers_compute_what_peft_computes(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (batch,) = batches(some_experience(5), 10_000, CPU)
        outcomes = []
        for is_folded in (True, False):
            policy = policy_of(base)
            layers = [module for module in policy.model.modules() if "forward" in vars(module)]
            assert len(layers) == 14
            if not is_folded:
                for layer in layers:
                    del layer.forward
            logprobs, _ = policy.evaluate(batch)
            (logprobs * batch.advantages).sum().backward()
            outcomes.append((logprobs.detach(), policy.reference(batch), [p.grad for p in policy.parameters]))
        folded, plain = outcomes
        torch.testing.assert_close(folded[0], plain[0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(folded[1], plain[1])
        assert not torch.allclose(folded[0], folded[1], atol=1e-2)
        for one, other in zip(folded[2], plain[2], strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)

    def test_layers_with_dropout_are_not_folded(self, base: Path) -> None:
        assert fold(policy_of(base, dropout=0.1).model) == 0


class TestExperience:
    """From groups of traces to trajectories to learn from."""

    async def test_failed_rollouts_and_groups_without_variance_are_left_out(self, base: Path) -> None:
        chat = ChatFormat.from_pretrained(base)
        good, poor = (call(a=2, b=40), "42"), ("42",)
        failing = (InfrastructureError("gone"),)
        config = RolloutConfig(model="base", retries=0)

        async def group(*scripts: Sequence[str | Exception]) -> list[Any]:
            task = Sums().generate(2)
            return [await rollout(Sums(), task, Script(chat, lines), chat, config) for lines in scripts]

        groups = [
            await group(good, poor, failing),
            await group(good, good, failing),
            await group(good, failing, failing),
        ]
        found, informative = experiences(groups, 1e-6)
        assert informative == 1
        assert [experience.advantage for experience in found] == pytest.approx([1.0, -1.0], abs=1e-4)
        assert [experience.actions for experience in found] == [trace.num_output_tokens for trace in groups[0][:2]]

    async def test_every_sampled_token_of_every_branch_counts_once(self, base: Path) -> None:
        chat = ChatFormat.from_pretrained(base)
        lines = ("<tool_call> " + call(a=2, b=40).removeprefix("<tool_call>"), "Let me see.", "42")
        script = Script(chat, lines)
        config = RolloutConfig(model="base", prompting=Prompting.RENDER)
        rows = rows_of(await rollout(Sums(), Sums().generate(2), script, chat, config))
        assert len(rows) == 2
        actions = [t for row in rows for t, is_action in zip(row.token_ids, row.is_action, strict=True) if is_action]
        assert actions == [token for answer in script.answers for token in answer.token_ids]
        assert [len(row.logprobs) for row in rows] == [sum(row.is_action) for row in rows]

    def test_updates_pass_over_everything_epochs_times(self, base: Path) -> None:
        config = GRPOConfig(rank=4, epochs=3, minibatches=2, kl=0.1)
        randomness = RandomState(0, CPU)
        updater = Updater(Policy(base, config, randomness), config, randomness)
        trajectories = some_experience(5)
        figures = updater.update(trajectories)
        assert figures.tokens == 3 * sum(experience.actions for experience in trajectories)
        assert len(figures.losses) == len(figures.norms) == 6
        assert figures.kl >= 0
        assert isinstance(figures, StepFigures)


class TestSources:
    """Where task instances come from."""

    def test_every_group_has_a_seed_of_its_own_and_none_is_held_out(self) -> None:
        source = SeededTasks(Plain(), train_from=90, validate_from=100, validate=8)
        seeds = [source.training(index).seed for index in range(30)]
        held_out = {task.seed for task in source.validation()}
        assert len(set(seeds)) == 30
        assert held_out == set(range(100, 108))
        assert not held_out & set(seeds)

    def test_fixed_tasks_come_once_a_pass(self) -> None:
        tasks = [Plain().generate(seed) for seed in range(5)]
        source = FixedTasks(Plain(), tasks, [Plain().generate(9)], seed=1)
        passes = [[source.training(turn * 5 + place).seed for place in range(5)] for turn in range(4)]
        assert all(sorted(seeds) == list(range(5)) for seeds in passes)
        assert len({tuple(seeds) for seeds in passes}) > 1

    def test_fixed_tasks_that_are_held_out_too_are_refused(self) -> None:
        task = Plain().generate(1)
        with pytest.raises(UsageError, match=r"tasks \['plain-1'\] are in both"):
            FixedTasks(Plain(), [task], [task])

    async def test_a_mixture_takes_its_sources_in_turn(self) -> None:
        parts = [SeededTasks(Plain(name), train_from=500, validate_from=0, validate=2) for name in ("one", "two")]
        source = MixedTasks(parts)
        assert [source.training(index).id for index in range(4)] == ["one-500", "two-500", "one-501", "two-501"]
        assert [task.id for task in source.validation()] == ["one-0", "one-1", "two-0", "two-1"]
        assert (await source.start(source.training(1))).task.environment == "two"
        with pytest.raises(UsageError, match="use 'one', 'two'"):
            await source.start(Plain("three").generate(1))

    def test_no_more_episodes_are_started_at_once_than_the_environment_can_play(self) -> None:
        few, two = Plain("few"), Plain("two")
        few.most_episodes, two.most_episodes = 3, 2
        tasks = [few.generate(seed) for seed in range(2)]
        sources = [SeededTasks(few, train_from=500, validate_from=0, validate=2), FixedTasks(two, tasks, [])]
        assert [at_once(source, 64) for source in (*sources, MixedTasks(sources))] == [3, 2, 2]
        assert at_once(MixedTasks([SeededTasks(Plain(), train_from=500, validate_from=0, validate=2)]), 64) == 64


SETTINGS = GRPOConfig(
    groups=4,
    group_size=6,
    iterations=6,
    rank=4,
    lr=1e-2,
    validate_every=2,
    rollout=RolloutConfig(model="", max_turns=1, sampling=Sampling(temperature=1.0, max_tokens=4)),
)


def plain_source() -> SeededTasks:
    return SeededTasks(Plain(), train_from=100, validate_from=0, validate=8)


class TestTraining:
    """The whole loop, with the embedded engine."""

    async def test_raises_the_reward_of_a_random_model(self, base: Path, tmp_path: Path) -> None:
        config = SETTINGS.model_copy(update={"iterations": 10, "validation_temperature": 1.0})
        rows: list[MetricRow] = []
        engine = Engine.from_pretrained(base)
        result = await train(plain_source(), engine, base, config, tmp_path / "letters", on_iteration=rows.append)
        assert rows[-1].reward_mean > rows[0].reward_mean + 0.4
        assert result.best.reward > 0.9
        assert result.best.rank > result.initial.rank
        assert rows == list(result.rows)
        assert all(row.sampler_gap is not None and row.sampler_gap < 1e-3 for row in rows)
        assert result.rollouts == 24 * len(rows)
        assert result.validation_rollouts == 8 * len(result.validations)
        # What is left on disk and on the engine is the best adapter.
        sampling = Sampling(temperature=1.0, max_tokens=4)
        rollouts = RolloutConfig(model="letters", max_turns=1, sampling=sampling, trials=8, seed=5)
        chat = ChatFormat.from_pretrained(base)
        kept = await collect(Plain(), plain_source().validation(), engine, chat, rollouts)
        await engine.load_adapter("from-disk", str(result.adapter))
        again = rollouts.model_copy(update={"model": "from-disk"})
        read = await collect(Plain(), plain_source().validation(), engine, chat, again)
        assert [trace.branches[0].token_ids for trace in kept] == [trace.branches[0].token_ids for trace in read]
        assert sum(trace.reward for trace in kept) / len(kept) == pytest.approx(result.best.reward, abs=0.15)

    async def test_a_killed_run_goes_on_bit_by_bit_the_same(self, base: Path, tmp_path: Path) -> None:
        config = SETTINGS.model_copy(update={"dropout": 0.05})

        async def run(out: Path, kill_after: int | None = None) -> TrainResult:
            def watch(row: MetricRow) -> None:
                if row.iteration + 1 == kill_after:
                    raise KeyboardInterrupt

            return await train(plain_source(), Engine.from_pretrained(base), base, config, out, on_iteration=watch)

        whole = await run(tmp_path / "whole" / "letters")
        out = tmp_path / "killed" / "letters"
        for kill_after in (1, 4):
            with pytest.raises(KeyboardInterrupt):
                await run(out, kill_after)
        resumed = await run(out)

        def facts(result: TrainResult) -> list[dict[str, Any]]:
            return [row.model_dump(exclude={"rollout_seconds", "train_seconds"}) for row in result.rows]

        assert facts(resumed) == facts(whole)
        assert resumed.validations == whole.validations
        for name in ("adapter_model.safetensors", "adapter_config.json"):
            assert (out / name).read_bytes() == (whole.adapter / name).read_bytes()
        states = [torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (out, whole.adapter)]
        for one, other in zip(*(state["adapter"].values() for state in states), strict=True):
            assert torch.equal(one, other)
        assert str(states[0]["random"]["python"]) == str(states[1]["random"]["python"])

    async def test_a_run_that_has_ended_returns_its_result(self, base: Path, tmp_path: Path) -> None:
        config = SETTINGS.model_copy(update={"iterations": 2})
        first = await train(plain_source(), Engine.from_pretrained(base), base, config, tmp_path / "letters")
        again = await train(plain_source(), Engine.from_pretrained(base), base, config, tmp_path / "letters")
        assert again == first
        more = await train(
            plain_source(),
            Engine.from_pretrained(base),
            base,
            config.model_copy(update={"iterations": 3}),
            tmp_path / "letters",
        )
        assert (more.iterations, more.rows[:2]) == (3, first.rows)

    async def test_a_checkpoint_of_another_run_is_refused(self, base: Path, tmp_path: Path) -> None:
        config = SETTINGS.model_copy(update={"iterations": 1})
        engine = Engine.from_pretrained(base)
        await train(plain_source(), engine, base, config, tmp_path / "letters")
        other = config.model_copy(update={"lr": 0.5})
        with pytest.raises(UsageError, match=r"configuration\.lr was 0\.01 and is 0\.5"):
            await train(plain_source(), engine, base, other, tmp_path / "letters")
        anew = await train(plain_source(), engine, base, other, tmp_path / "letters", resume=False)
        assert anew.iterations == 1
        (tmp_path / "letters" / "checkpoint.pt").write_bytes(b"torn")
        with pytest.raises(UsageError, match="is damaged"):
            await train(plain_source(), engine, base, other, tmp_path / "letters")

    async def test_training_stops_when_validation_no_longer_improves(self, base: Path, tmp_path: Path) -> None:
        config = SETTINGS.model_copy(update={"lr": 1e-12, "patience": 2, "validate_every": 1, "iterations": 9})
        result = await train(plain_source(), Engine.from_pretrained(base), base, config, tmp_path / "letters")
        assert (result.stop, result.iterations, result.best) == ("plateau", 2, result.initial)

    async def test_failed_rollouts_are_counted_and_left_out(self, base: Path, tmp_path: Path) -> None:
        class Flaky(Engine):
            calls = 0

            async def generate(self, prompt_ids: Sequence[int], model: str, sampling: Sampling) -> Completion:
                self.calls += 1
                if self.calls % 5 == 0:
                    raise InfrastructureError("gone")
                return await super().generate(prompt_ids, model, sampling)

        config = SETTINGS.model_copy(
            update={"iterations": 1, "rollout": SETTINGS.rollout.model_copy(update={"retries": 0})}
        )
        result = await train(plain_source(), Flaky.from_pretrained(base), base, config, tmp_path / "letters")
        (row,) = result.rows
        assert row.infrastructure_failures > 0
        assert row.rollouts == 24
        assert result.failures == (24 + 8 + 8) // 5

    async def test_when_nothing_comes_through_training_says_so(self, base: Path, tmp_path: Path) -> None:
        class Dead(Engine):
            async def generate(self, prompt_ids: Sequence[int], model: str, sampling: Sampling) -> Completion:
                raise InfrastructureError("gone")

        with pytest.raises(InfrastructureError, match="all 8 rollouts failed; the last: model 'letters': gone"):
            await train(plain_source(), Dead.from_pretrained(base), base, SETTINGS, tmp_path / "letters")

    async def test_an_endpoint_elsewhere_gets_the_adapter_as_a_folder(self, base: Path, tmp_path: Path) -> None:
        engine = Engine.from_pretrained(base)

        class Elsewhere:
            """Knows only the endpoint's own methods."""

            def __init__(self) -> None:
                self.generate, self.loads = engine.generate, 0

            async def load_adapter(self, name: str, path: str) -> None:
                self.loads += 1
                await engine.load_adapter(name, path)

        config = SETTINGS.model_copy(update={"iterations": 2})
        elsewhere = Elsewhere()
        there = await train(plain_source(), elsewhere, base, config, tmp_path / "a" / "letters")
        here = await train(plain_source(), Engine.from_pretrained(base), base, config, tmp_path / "b" / "letters")
        assert there.validations == here.validations
        assert elsewhere.loads == 5
        assert sorted(path.name for path in there.adapter.iterdir()) == [
            "adapter_config.json",
            "adapter_model.safetensors",
            "checkpoint.pt",
        ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"device": "cuda:99"}, "device 'cuda:99' cannot be used"),
        ({"target_modules": ("no_proj",)}, r"target_modules \('no_proj',\) fit no module"),
        ({"attention": "magic"}, "does not load"),
    ],
)
async def test_bad_settings_are_named(base: Path, tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        await train(plain_source(), Engine.from_pretrained(base), base, GRPOConfig(**settings), tmp_path / "letters")
