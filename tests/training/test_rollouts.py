"""Rollouts: the tokens of a trace are the model's own, and what infrastructure does is no reward."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import verifiers.v1 as vf
from rollout_doubles import ADD, Script, Sums, SumsEpisode, call
from tiny_base import make_base
from transformers import Qwen3ForCausalLM
from verifiers.v1 import load_taskset, taskset_config_type

from trace_agents.endpoint import Sampling
from trace_agents.errors import InfrastructureError, TaskUnavailable, UsageError
from trace_agents.routing import Route
from trace_agents.types import Message, StopReason, TaskInstance, ToolCall, UserTurn
from training.chat import ChatFormat
from training.engine import Engine
from training.rollouts import (
    Prompting,
    RolloutConfig,
    TraceWriter,
    collect,
    collect_trials,
    count_rollouts,
    read_traces,
    rollout,
    trajectory_from_trace,
)
from training.rollouts.messages import tool_from_verifiers, tool_to_verifiers
from training.rollouts.record import TraceRecorder, agent_info

GOOD = (call(a=2, b=40), "It is 42.")
CONFIG = RolloutConfig(model="base")
TASK = Sums().generate(2)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture(scope="module")
def chat(base: Path) -> ChatFormat:
    return ChatFormat.from_pretrained(base)


async def test_the_tokens_of_a_trace_are_those_that_were_sent_and_sampled(chat: ChatFormat) -> None:
    script = Script(chat, (call(a=2), *GOOD[:1], "Let me see.", GOOD[1]))
    trace = await rollout(Sums(), TASK, script, chat, CONFIG)
    (branch,) = trace.branches
    last_prompt, _, _ = script.requests[-1]
    assert branch.token_ids == [*last_prompt, *script.answers[-1].token_ids]
    sampled = [token for token, is_sampled in zip(branch.token_ids, branch.sampled_mask, strict=True) if is_sampled]
    assert sampled == [token for answer in script.answers for token in answer.token_ids]
    nodes = [node for node in trace.nodes if node.sampled]
    assert [node.logprobs for node in nodes] == [answer.logprobs for answer in script.answers]
    assert [call.usage.prompt_tokens for call in trace.calls] == [len(prompt) for prompt, _, _ in script.requests]
    assert [trace.nodes[call.node].token_ids for call in trace.calls] == [a.token_ids for a in script.answers]
    assert trace.num_branches == 1


async def test_each_prompt_begins_with_the_one_before_and_its_answer(chat: ChatFormat) -> None:
    # A line that no tokenizer would give back: re-tokenised, its pieces would merge.
    script = Script(chat, (*GOOD[:1], GOOD[1]))
    odd = chat.encode("Ple") + chat.encode("ase wait.") + list(chat.stop_token_ids)
    assert odd != chat.encode("Please wait.") + list(chat.stop_token_ids)
    first = script.generate

    async def generate(prompt_ids: list[int], model: str, sampling: Sampling):
        answer = await first(prompt_ids, model, sampling)
        if len(script.requests) == 1:
            script.answers[0] = answer = answer.model_copy(update={"token_ids": odd, "logprobs": [-1.0] * len(odd)})
        return answer

    script.generate = generate
    trace = await rollout(Sums(), TASK, script, chat, CONFIG)
    for (prompt, _, _), answer, (following, _, _) in zip(
        script.requests, script.answers, script.requests[1:], strict=False
    ):
        assert following[: len(prompt) + len(answer.token_ids)] == [*prompt, *answer.token_ids]
    assert trace.num_branches == 1


async def test_recorded_log_probabilities_are_the_models(base: Path, chat: ChatFormat) -> None:
    engine = Engine.from_pretrained(base)
    config = RolloutConfig(model="base", seed=3, max_turns=3, sampling=Sampling(temperature=1.0, max_tokens=8))
    trace = await rollout(Sums(), TASK, engine, chat, config)
    for branch in trace.branches:
        ids = torch.tensor([branch.token_ids])
        with torch.no_grad():
            logits = Qwen3ForCausalLM.from_pretrained(base)(input_ids=ids).logits
        expected = torch.log_softmax(logits[0, :-1], -1).gather(-1, ids[0, 1:, None]).squeeze(-1)
        mask = torch.tensor(branch.sampled_mask[1:])
        assert mask.any()
        torch.testing.assert_close(torch.tensor(branch.logprobs[1:])[mask], expected[mask], atol=1e-4, rtol=1e-4)


async def test_a_trace_becomes_a_trajectory(chat: ChatFormat) -> None:
    trace = await rollout(Sums(), TASK, Script(chat, (call(a=2), "Hm.", *GOOD)), chat, CONFIG, trial=5)
    trajectory = trajectory_from_trace(trace)
    assert trajectory.messages == (
        Message(role="user", content="What is 2 and 40?"),
        Message(role="assistant", tool_calls=(ToolCall(id="call_0", name="add", arguments={"a": 2}),)),
        Message(role="tool", content='{"error": "give a and b"}', tool_call_id="call_0", name="add", is_error=True),
        Message(role="assistant", content="Hm."),
        Message(role="user", content="And the sum is?"),
        Message(role="assistant", tool_calls=(ToolCall(id="call_1", name="add", arguments={"a": 2, "b": 40}),)),
        Message(role="tool", content='{"sum": 42}', tool_call_id="call_1", name="add"),
        Message(role="assistant", content="It is 42."),
    )
    assert trajectory.tools == (ADD,)
    assert (trajectory.task_id, trajectory.trial, trajectory.environment, trajectory.agent) == (
        "sum-2",
        5,
        "sums",
        "base",
    )
    assert (trajectory.reward, trajectory.success, trajectory.stop) == (1.0, True, StopReason.USER)
    assert trajectory.error is None
    assert trajectory.info["breakdown"] == {"asked": 1.0, "said": 1.0}


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ('<tool_call>{"name": "add", "argum</tool_call>', "arguments of tool 'add' are not a JSON object"),
        (
            '<tool_call>{"name": "add", "arguments": [2, 40]}</tool_call>',
            "arguments of tool 'add' are not a JSON object",
        ),
        ("<tool_call>add 2 and 40</tool_call>", 'tool call is not JSON with "name" and "arguments"'),
        ('<tool_call>{"name": "sum", "arguments": {}}</tool_call>', "unknown tool 'sum': use one of add"),
    ],
)
async def test_a_call_that_cannot_be_run_is_an_error_that_the_agent_reads(
    chat: ChatFormat, said: str, read: str
) -> None:
    script = Script(chat, (said, *GOOD))
    trace = await rollout(Sums(), TASK, script, chat, CONFIG)
    result = trajectory_from_trace(trace).messages[2]
    assert result.is_error
    assert json.loads(result.content or "") == {"error": read}
    assert json.dumps({"error": read}) in chat.tokenizer.decode(script.requests[1][0])
    assert trace.ok
    assert count_rollouts([trace]).malformed_calls == 1


async def test_calls_in_one_turn_run_in_order(chat: ChatFormat) -> None:
    trace = await rollout(Sums(), TASK, Script(chat, (call(a=1, b=1) + call(a=2, b=40), GOOD[1])), chat, CONFIG)
    results = [message for message in trajectory_from_trace(trace).messages if message.role == "tool"]
    assert [(message.tool_call_id, message.content) for message in results] == [
        ("call_0", '{"sum": 2}'),
        ("call_1", '{"sum": 42}'),
    ]


class TestLimits:
    """Episodes that someone else than the user ends are judged as they stand."""

    async def test_turns(self, chat: ChatFormat) -> None:
        config = CONFIG.model_copy(update={"max_turns": 2})
        trajectory = trajectory_from_trace(await rollout(Sums(), TASK, Script(chat, ("Hm.", GOOD[0])), chat, config))
        assert (trajectory.stop, trajectory.reward, trajectory.success) == (StopReason.MAX_TURNS, 0.5, False)
        assert trajectory.messages[-1].content == '{"sum": 42}'

    async def test_tokens_of_a_turn(self, chat: ChatFormat) -> None:
        trace = await rollout(Sums(), TASK, Script(chat, GOOD, cut=4), chat, CONFIG)
        assert trajectory_from_trace(trace).stop is StopReason.MAX_TOKENS
        assert (trace.num_turns, trace.ok, trace.is_truncated) == (1, True, True)

    async def test_context(self, chat: ChatFormat) -> None:
        first = len(chat.prompt_ids([Message(role="user", content=TASK.prompt)]))
        config = RolloutConfig(model="base", max_context=first + 8, sampling=Sampling(max_tokens=8))
        trace = await rollout(Sums(), TASK, Script(chat, ("Hm.",)), chat, config)
        assert trajectory_from_trace(trace).stop is StopReason.MAX_TOKENS
        assert (trace.num_turns, trace.ok) == (1, True)
        assert trace.messages[-1].content == "And the sum is?"


class TestInfrastructure:
    """A failure that is not the agent's is recorded, retried, counted, and never a reward."""

    async def test_a_failed_attempt_is_repeated_in_a_fresh_episode(self, chat: ChatFormat) -> None:
        sums = Sums()
        script = Script(chat, (GOOD[0], InfrastructureError("server gone"), *GOOD))
        trace = await rollout(sums, TASK, script, chat, CONFIG)
        assert (trace.ok, trace.reward, trace.num_turns) == (True, 1.0, 2)
        assert [(error.type, error.message) for error in trace.errors] == [
            ("ProviderError", "model 'base': server gone")
        ]
        assert [episode.closed for episode in sums.started] == [1, 1]
        counts = count_rollouts([trace])
        assert (counts.rollouts, counts.failed, counts.failed_attempts) == (1, 0, 1)

    async def test_when_every_attempt_fails_there_is_no_verdict(self, chat: ChatFormat) -> None:
        script = Script(chat, (GOOD[0], ConnectionError("refused")))
        trace = await rollout(Sums(), TASK, script, chat, CONFIG)
        trajectory = trajectory_from_trace(trace)
        assert (trajectory.reward, trajectory.success, trajectory.stop) == (None, None, StopReason.ERROR)
        assert trajectory.error == "ProviderError: model 'base': refused"
        assert count_rollouts([trace]).model_dump(include={"failed", "failed_attempts"}) == {
            "failed": 1,
            "failed_attempts": 3,
        }
        assert trace.calls[-1].error is not None

    @pytest.mark.parametrize("operation", ["call", "user_turn", "evaluate"])
    async def test_an_environment_that_raises_is_infrastructure(self, chat: ChatFormat, operation: str) -> None:
        class Broken(SumsEpisode):
            pass

        async def fail(self: object, *arguments: object) -> None:
            raise RuntimeError("database gone")

        setattr(Broken, operation, fail)
        sums = Sums(Broken)
        trace = await rollout(sums, TASK, Script(chat, GOOD), chat, CONFIG.model_copy(update={"retries": 0}))
        assert not trace.ok
        assert "database gone" in trace.errors[0].message
        assert sums.started[0].closed == 1

    async def test_an_attempt_that_takes_too_long_is_given_up(self, chat: ChatFormat) -> None:
        class Silent(SumsEpisode):
            async def user_turn(self, message: str) -> UserTurn:
                await asyncio.Event().wait()
                raise AssertionError

        sums = Sums(Silent)
        config = CONFIG.model_copy(update={"timeout": 0.05, "retries": 1})
        trace = await rollout(sums, TASK, Script(chat, GOOD), chat, config)
        assert (trace.ok, trace.is_timeout, len(trace.errors)) == (False, True, 2)
        assert [episode.closed for episode in sums.started] == [1, 1]

    async def test_a_turn_that_could_not_be_continued_is_refused(self, chat: ChatFormat) -> None:
        script = Script(chat, GOOD)
        script.chat = chat
        inner = script.generate

        async def endless(prompt_ids: list[int], model: str, sampling: Sampling):
            answer = await inner(prompt_ids, model, sampling)
            return answer.model_copy(update={"token_ids": answer.token_ids[:-1], "logprobs": answer.logprobs[:-1]})

        script.generate = endless
        trace = await rollout(Sums(), TASK, script, chat, CONFIG.model_copy(update={"retries": 0}))
        assert "the turn ended with token" in trace.errors[0].message

    async def test_a_task_that_cannot_be_played_here_has_no_verdict_and_ends_nothing(self, chat: ChatFormat) -> None:
        def keyless(task: TaskInstance) -> SumsEpisode:
            if task.id == "sum-1":
                raise TaskUnavailable("task 'sum-1' needs a key: set SUMS_KEY")
            return SumsEpisode(task)

        sums = Sums(keyless)
        traces = await collect(sums, sums.tasks("train"), Script(chat, GOOD), chat, CONFIG)
        assert [trace.ok for trace in traces] == [True, False]
        assert "set SUMS_KEY" in trajectory_from_trace(traces[1]).error

    async def test_bad_input_is_not_infrastructure(self, chat: ChatFormat) -> None:
        with pytest.raises(UsageError, match="unknown model 'bse': use one of 'base'"):
            await collect(Sums(), [TASK], Script(chat, GOOD), chat, RolloutConfig(model="bse"))


def test_a_tool_is_in_a_trace_as_the_environment_states_it() -> None:
    notes = {"annotations": {"own": None}, "title": "Add", "icons": [{"src": "x"}], "meta": {"a": {"b": []}}}
    for spec in (ADD, ADD.model_copy(update=notes)):
        assert tool_from_verifiers(vf.Tool.model_validate_json(tool_to_verifiers(spec).model_dump_json())) == spec


async def test_a_prompt_that_does_not_extend_the_last_starts_a_branch(chat: ChatFormat) -> None:
    trace = await rollout(
        Sums(),
        TASK,
        Script(chat, ("<tool_call> " + call(a=2, b=40).removeprefix("<tool_call>"), GOOD[1])),
        chat,
        CONFIG.model_copy(update={"prompting": Prompting.RENDER}),
    )
    # The template writes the call back without the space that was sampled.
    assert count_rollouts([trace]).extra_branches == 1
    first, second = trace.branches
    assert [node.sampled for node in first.nodes] == [False, False, True]
    assert [node.sampled for node in second.nodes] == [False, False, False, False, True]
    assert trajectory_from_trace(trace).messages[-1].content == GOOD[1]


async def test_rollouts_come_in_the_order_of_tasks_then_trials(chat: ChatFormat) -> None:
    seen: list[str] = []
    tasks = Sums().tasks("train")
    config = RolloutConfig(model="base", trials=2, max_turns=1)
    traces = await collect(Sums(), tasks, Script(chat, ("42",)), chat, config, lambda trace: seen.append(trace.id))
    assert [(t.task.data.id, t.info["trial"]) for t in traces] == [
        ("sum-0", 0),
        ("sum-0", 1),
        ("sum-1", 0),
        ("sum-1", 1),
    ]
    assert sorted(seen) == sorted(trace.id for trace in traces)


async def test_a_router_sends_tasks_to_models(chat: ChatFormat) -> None:
    config = RolloutConfig(model="elsewhere", models={"sum-2": "base"})
    trace = await rollout(Sums(), TASK, Script(chat, GOOD), chat, config)
    assert trajectory_from_trace(trace).agent == "base"


async def test_a_seed_makes_rollouts_repeatable_however_many_run_at_once(base: Path, chat: ChatFormat) -> None:
    engine = Engine.from_pretrained(base)
    sampling = Sampling(temperature=1.0, max_tokens=6)
    config = RolloutConfig(model="base", seed=3, trials=3, max_turns=2, sampling=sampling)

    async def tokens(concurrency: int) -> list[list[int]]:
        chosen = config.model_copy(update={"concurrency": concurrency})
        traces = await collect(Sums(), [TASK], engine, chat, chosen)
        return [trace.branches[-1].token_ids for trace in traces]

    together = await tokens(8)
    assert together == await tokens(1)
    assert len({tuple(ids) for ids in together}) > 1


class TestFiles:
    """Traces on disk are in verifiers' schema, whole line by whole line."""

    async def test_what_is_written_is_read_back(self, chat: ChatFormat, tmp_path: Path) -> None:
        pairs: list[tuple[TaskInstance, int]] = [(TASK, 0), (TASK, 1)]
        with TraceWriter(tmp_path / "trajectories.jsonl") as writer:
            traces = await collect_trials(Sums(), pairs, Script(chat, GOOD), chat, CONFIG, writer.write)
        back = {trace.id: trace for trace in read_traces(tmp_path / "trajectories.jsonl")}
        for trace in traces:
            again = back[trace.id]
            assert trajectory_from_trace(again) == trajectory_from_trace(trace)
            assert again.branches[0].token_ids == trace.branches[0].token_ids
            assert again.branches[0].logprobs == trace.branches[0].logprobs
            assert again.task.data.environment == "sums"
            assert again.timing == trace.timing

    async def test_a_torn_last_line_is_cut_off_before_more_is_written(self, chat: ChatFormat, tmp_path: Path) -> None:
        path = tmp_path / "trajectories.jsonl"
        trace = await rollout(Sums(), TASK, Script(chat, GOOD), chat, CONFIG)
        with TraceWriter(path) as writer:
            writer.write(trace)
        whole = path.read_bytes()
        path.write_bytes(whole + whole[:100])
        assert len(list(read_traces(path))) == 1
        with TraceWriter(path) as writer:
            writer.write(trace)
        assert path.read_bytes() == whole * 2

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            ("{", "line 2 of .* is malformed"),
            ('{"version": 9}', "schema version 9"),
            ('{"version": 1}', "task: Field required"),
        ],
    )
    async def test_a_malformed_line_is_named(self, chat: ChatFormat, tmp_path: Path, line: str, reason: str) -> None:
        path = tmp_path / "trajectories.jsonl"
        trace = await rollout(Sums(), TASK, Script(chat, GOOD), chat, CONFIG)
        with TraceWriter(path) as writer:
            writer.write(trace)
        path.write_bytes(path.read_bytes() + f"{line}\n".encode() + path.read_bytes())
        with pytest.raises(UsageError, match=reason) as caught:
            list(read_traces(path))
        assert "line 2" in str(caught.value)

    async def test_bad_lines_are_left_out_when_asked(self, chat: ChatFormat, tmp_path: Path) -> None:
        path = tmp_path / "trajectories.jsonl"
        trace = await rollout(Sums(), TASK, Script(chat, GOOD), chat, CONFIG)
        with TraceWriter(path) as writer:
            writer.write(trace)
        whole = path.read_bytes()
        path.write_bytes(whole + b'{"version": 1}\n' + b"{\n" + whole)
        assert len(list(read_traces(path, skip_bad=True))) == 2

    async def test_a_full_disk_loses_nothing_that_was_written(self, chat: ChatFormat) -> None:
        trace = await rollout(Sums(), TASK, Script(chat, GOOD), chat, CONFIG)
        with TraceWriter("/dev/full") as writer, pytest.raises(OSError, match="/dev/full") as caught:
            writer.write(trace)
        assert caught.value.errno == errno.ENOSPC


class TestTaskset:
    """Any environment is a taskset that verifiers' own tools can load."""

    def taskset(self, **settings: object) -> vf.Taskset:
        config = taskset_config_type("training").model_validate(
            {"id": "training", "environment": "rollout_doubles:Sums", **settings}
        )
        return load_taskset(config)

    def test_a_split_is_loaded_by_id(self) -> None:
        tasks = list(self.taskset(split="train"))
        assert [(task.data.idx, task.data.id, task.data.prompt) for task in tasks] == [
            (0, "sum-0", "What is 0 and 40?"),
            (1, "sum-1", "What is 1 and 40?"),
        ]
        assert tasks[1].key == "rollout_doubles:Sums/sum-1"

    def test_seeds_go_on_until_a_view_bounds_them(self) -> None:
        endless = self.taskset(first_seed=7)
        assert not endless.bounded
        assert [task.data.seed for task in endless.take(3)] == [7, 8, 9]
        assert self.taskset(first_seed=7, seeds=2).bounded

    def test_the_task_of_an_author_stays_with_the_environment(self) -> None:
        (task,) = self.taskset(seeds=1)
        assert "40" not in task.data.model_dump_json(exclude={"prompt"})

    def test_an_unknown_split_is_named(self) -> None:
        with pytest.raises(UsageError, match="unknown split 'tset': use one of 'train'"):
            list(self.taskset(split="tset"))

    async def test_a_task_that_nobody_played_cannot_be_scored(self) -> None:
        (task,) = self.taskset(seeds=1)
        trace = TraceRecorder(task, agent_info("base", Sampling()), 0).trace
        with pytest.raises(vf.TaskError, match="was not evaluated"):
            await task.score(trace)
        assert trace.rewards == {"evaluation": None}


class Unspoken(SumsEpisode):
    """A user who finds their first words only once the episode has started."""

    def __init__(self, task: TaskInstance) -> None:
        super().__init__(task.model_copy(update={"prompt": f"Add {task.seed} and 40!"}))


class Asked:
    """A router that remembers what it was asked."""

    def __init__(self) -> None:
        self.prompts: list[str] = []

    async def route(self, prompt: str) -> Route:
        self.prompts.append(prompt)
        return Route(model="base", router="probe")

    async def route_all(self, prompts: Sequence[str]) -> list[Route]:
        return [await self.route(prompt) for prompt in prompts]


async def test_a_task_whose_user_has_not_spoken_is_routed_inside_its_episode(chat: ChatFormat) -> None:
    router, silent = Asked(), [Sums().generate(seed).model_copy(update={"prompt": ""}) for seed in (2, 2)]
    config = RolloutConfig(model="nobody", router=router)
    traces = await collect(Sums(Unspoken), silent[:1], Script(chat, GOOD), chat, config)
    assert router.prompts == ["Add 2 and 40!"]
    assert [(trace.ok, trace.info["route"], trace.agent.config.model) for trace in traces] == [(True, "base", "base")]
    known = config.model_copy(update={"models": {"sum-2": "base"}})
    (trace,) = await collect(Sums(), silent[1:], Script(chat, GOOD), chat, known)
    assert (trace.ok, "route" in trace.info, len(router.prompts)) == (True, False, 1)
