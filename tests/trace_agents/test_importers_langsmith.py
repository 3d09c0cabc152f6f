"""LangSmith runs: what LangChain's own tracer sends, nested and flat, and feedback as the reward."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langchain_core.tracers.langchain import LangChainTracer
from langchain_core.utils.function_calling import convert_to_openai_tool
from langsmith import Client
from langsmith._internal._serde import dumps_json
from langsmith.types.run import Run as NewerRun

from trace_agents.errors import UsageError
from trace_agents.importers import Outcomes, load_trajectories
from trace_agents.types import StopReason


@tool
def get_order(order_id: str) -> str:
    """Look an order up."""
    return f"{order_id} is lost"


class Model(GenericFakeChatModel):
    """A scripted model that may be offered tools."""

    def bind_tools(self, tools: Any, **_: Any) -> Any:
        return self.bind(tools=[convert_to_openai_tool(one) for one in tools])


class Recorder(Client):
    """Keeps the runs that the tracer would send, as the JSON that it would send."""

    def __init__(self) -> None:
        super().__init__(api_url="http://127.0.0.1:9", api_key="none", auto_batch_tracing=False)
        self.sent: dict[str, dict[str, Any]] = {}

    def create_run(self, *args: Any, **run: Any) -> None:
        sent = json.loads(dumps_json(run))
        self.sent[sent["id"]] = sent

    def update_run(self, run_id: Any, **run: Any) -> None:
        self.sent[str(run_id)] |= {
            key: value for key, value in json.loads(dumps_json(run)).items() if value is not None
        }


@pytest.fixture(scope="module")
def recorded() -> list[dict[str, Any]]:
    """The runs of a LangGraph agent that makes one tool call."""
    script: list[BaseMessage] = [
        AIMessage(content="", tool_calls=[{"name": "get_order", "args": {"order_id": "W1"}, "id": "c1"}]),
        AIMessage(content="It is lost."),
    ]
    agent = create_agent(Model(messages=iter(script)), [get_order], system_prompt="Be brief.")
    recorder = Recorder()
    config: RunnableConfig = {"callbacks": [LangChainTracer(client=recorder)], "metadata": {"task_id": "w1"}}
    agent.invoke({"messages": [{"role": "user", "content": "Where is W1?"}]}, config=config)
    return list(recorder.sent.values())


def write(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def judged(runs: list[dict[str, Any]], **scores: float) -> list[dict[str, Any]]:
    stats = {key: {"n": 1, "avg": score, "stdev": 0.0, "errors": 0, "values": {}} for key, score in scores.items()}
    return [run | {"feedback_stats": stats} if "parent_run_id" not in run else run for run in runs]


def nested(runs: list[dict[str, Any]], parent: str | None = None) -> list[dict[str, Any]]:
    own = [run for run in runs if run.get("parent_run_id") == parent]
    return [run | {"child_runs": nested(runs, run["id"])} for run in own]


def test_a_recorded_agent_is_read_whole_whatever_the_order_of_its_runs(
    tmp_path: Path, recorded: list[dict[str, Any]]
) -> None:
    runs = judged(recorded, correctness=1.0)
    orders = [runs, runs[::-1], random.Random(0).sample(runs, len(runs)), nested(runs)]
    for index, rows in enumerate(orders):
        report = load_trajectories(write(tmp_path / f"{index}.jsonl", *rows))
        (one,) = report.trajectories
        assert report.format == "langsmith"
        assert (one.id, one.task_id, one.trial, one.success, one.reward) == (recorded[0]["id"], "w1", 0, True, 1.0)
        assert [(m.role, m.content) for m in one.messages] == [
            ("system", "Be brief."),
            ("user", "Where is W1?"),
            ("assistant", ""),
            ("tool", "W1 is lost"),
            ("assistant", "It is lost."),
        ]
        assert one.messages[2].tool_calls[0].arguments == {"order_id": "W1"}
        assert (one.messages[3].name, one.messages[3].tool_call_id) == ("get_order", "c1")
        assert [spec.name for spec in one.tools] == ["get_order"]


def test_a_page_of_the_api_holds_runs(tmp_path: Path, recorded: list[dict[str, Any]]) -> None:
    path = tmp_path / "page.json"
    for indent in (None, 2):
        path.write_text(json.dumps({"cursors": {"next": None}, "runs": judged(recorded, reward=0.0)}, indent=indent))
        assert [one.success for one in load_trajectories(path).trajectories] == [False]


def newer(run: dict[str, Any]) -> dict[str, Any]:
    """The run as the SDK's `client.runs.query` gives it: through the SDK's own type."""
    extra = dict(run.get("extra") or {})
    own = {key: run.get(key) for key in ("id", "trace_id", "name", "inputs", "outputs", "error", "dotted_order")}
    ancestors = [part.partition("Z")[2] for part in run["dotted_order"].split(".")][:-1]
    return json.loads(  # type: ignore[no-any-return]
        NewerRun(
            **own,
            run_type=run["run_type"].upper(),
            status="SUCCESS",
            start_time=run["start_time"],
            end_time=run["end_time"],
            parent_run_ids=ancestors,
            metadata=extra.pop("metadata", None),
            extra=extra,
            feedback_stats=run.get("feedback_stats"),
        ).to_json()
    )


def command_line(run: dict[str, Any]) -> dict[str, Any]:
    """The run as `langsmith trace export --full` writes it (langchain-ai/langsmith-cli, `internal/extract`)."""
    kept = ("trace_id", "name", "run_type", "start_time", "end_time", "inputs", "outputs", "error", "feedback_stats")
    own = {key: run.get(key) for key in kept}
    return own | {
        "run_id": run["id"],
        "parent_run_id": run.get("parent_run_id"),
        "status": "success",
        "custom_metadata": run["extra"].get("metadata"),
        "token_usage": None,
    }


@pytest.mark.parametrize("form", [newer, command_line])
def test_newer_exports_say_what_the_older_say(
    tmp_path: Path, recorded: list[dict[str, Any]], form: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    runs = judged(recorded, correctness=1.0)
    (older,) = load_trajectories(write(tmp_path / "older.jsonl", *runs)).trajectories
    rows = [form(run) for run in runs]
    page = tmp_path / "page.json"
    page.write_text(json.dumps({"items": rows, "next_cursor": None}))
    for path in (write(tmp_path / "newer.jsonl", *rows[::-1]), page):
        report = load_trajectories(path)
        (one,) = report.trajectories
        # The command line leaves the tools out, and either the project's name, which the tracer sends.
        unsaid = {"tools", "environment"}
        assert one.model_dump(exclude=unsaid) == older.model_dump(exclude=unsaid)
        assert report.format == "langsmith"


def test_a_trace_of_the_newer_sdk_is_its_root_run(tmp_path: Path) -> None:
    run = root(1, run_type="CHAIN", parent_run_ids=[], **score(correct=1.0))
    path = write(tmp_path / "traces.jsonl", {"root_run": run, "trace_aggregates": {"total_tokens": 3}})
    (one,) = load_trajectories(path).trajectories
    assert (one.id, one.success, len(one.messages)) == ("r1", True, 2)


def test_a_trace_may_lie_in_several_files(tmp_path: Path, recorded: list[dict[str, Any]]) -> None:
    runs = judged(recorded, correctness=1.0)
    (whole,) = load_trajectories(write(tmp_path / "whole" / "a.jsonl", *runs)).trajectories
    for number, run in enumerate(runs):
        write(tmp_path / "parts" / f"{number}.jsonl", run)
    assert load_trajectories(tmp_path / "parts").trajectories == (whole,)


def root(number: int, **more: Any) -> dict[str, Any]:
    asked = {"messages": [{"role": "user", "content": "Hi"}]}
    said = {"messages": [["human", "Hi"], {"type": "ai", "data": {"content": "Hello"}}]}
    run = {"id": f"r{number}", "name": "agent", "run_type": "chain", "inputs": asked, "outputs": said, "error": None}
    return run | {"trace_id": f"r{number}", "end_time": "2026"} | more


def score(**scores: float | bool) -> dict[str, Any]:
    return {"feedback": [{"key": key, "score": value, "comment": ""} for key, value in scores.items()]}


def test_the_same_input_is_the_same_task_unless_the_run_says_otherwise(tmp_path: Path) -> None:
    rows = [
        root(1, **score(correct=True)),
        root(2, **score(correct=False)),
        root(3, reference_example_id="example", **score(correct=True)),
    ]
    first, second, third = load_trajectories(write(tmp_path / "runs.jsonl", *rows)).trajectories
    assert first.task_id == second.task_id != third.task_id == "example"
    assert [one.trial for one in (first, second, third)] == [0, 1, 0]
    assert [one.success for one in (first, second, third)] == [True, False, True]
    assert [(m.role, m.content) for m in first.messages] == [("user", "Hi"), ("assistant", "Hello")]


def test_several_feedback_keys_need_one_to_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "runs.jsonl", root(1, **score(tone=1.0, facts=0.0)))
    with pytest.raises(UsageError, match=r"several feedback keys: .* --reward-column, one of 'feedback\.tone'"):
        load_trajectories(path)
    (one,) = load_trajectories(path, outcomes=Outcomes(reward_column="feedback.facts")).trajectories
    assert (one.reward, one.success) == (0.0, False)
    path = write(tmp_path / "more.jsonl", root(1, **score(tone=0.0, correctness=1.0)))
    assert load_trajectories(path).trajectories[0].success is True


def test_a_run_without_feedback_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"row 1 of .*no feedback score: name the column .*--success-column"):
        load_trajectories(write(tmp_path / "runs.jsonl", root(1)))


@pytest.mark.parametrize(
    ("change", "success", "stop"),
    [
        ({"error": "APIConnectionError('reset')\n\nTraceback"}, None, StopReason.ERROR),
        ({"error": "GraphRecursionError('Recursion limit')"}, False, StopReason.MAX_TURNS),
        ({"outputs": None, "end_time": None, "status": "pending"}, None, StopReason.ERROR),
        ({"error": "ValueError()"} | score(correct=0.0), False, None),
    ],
)
def test_an_error_without_feedback_is_infrastructures(
    tmp_path: Path, change: dict[str, Any], success: bool | None, stop: StopReason | None
) -> None:
    report = load_trajectories(write(tmp_path / "runs.jsonl", root(1, **change)))
    (one,) = report.trajectories
    assert (one.success, one.stop) == (success, stop)
    assert report.excluded_infrastructure == (success is None)


def test_a_trace_without_its_root_is_named(tmp_path: Path) -> None:
    child = root(2, parent_run_id="r9", trace_id="r9")
    path = write(tmp_path / "runs.jsonl", root(1, **score(correct=1.0)), child)
    with pytest.raises(UsageError, match=r"row 2 of .*no root run of the trace of run 'r2': export it too"):
        load_trajectories(path)
    assert len(load_trajectories(path, skip_bad=True).trajectories) == 1


def test_agents_traced_without_messages_are_read_from_their_tools(tmp_path: Path) -> None:
    rows = [
        root(1, inputs={"question": "2+3?"}, outputs={"answer": "5"}, **score(correct=1.0)),
        {
            **{
                "id": "b",
                "run_type": "tool",
                "name": "add",
                "parent_run_id": "r1",
                "trace_id": "r1",
                "start_time": "2",
            },
            **{"inputs": {"x": 2, "y": 3}, "outputs": {"output": "5"}},
        },
        {
            **{"id": "a", "run_type": "tool", "name": "parse", "parent_run_id": "r1", "trace_id": "r1"},
            **{"start_time": "1", "inputs": {"input": '{"text": "2+3"}'}, "outputs": None, "error": "ValueError: no"},
        },
    ]
    (one,) = load_trajectories(write(tmp_path / "runs.jsonl", *rows)).trajectories
    assert [(m.role, m.content, m.is_error) for m in one.messages] == [
        ("user", "2+3?", False),
        ("assistant", None, False),
        ("tool", "ValueError: no", True),
        ("assistant", None, False),
        ("tool", "5", False),
        ("assistant", "5", False),
    ]
    calls = [call for message in one.messages for call in message.tool_calls]
    assert [(call.name, call.arguments) for call in calls] == [
        ("parse", {"text": "2+3"}),
        ("add", {"x": 2, "y": 3}),
    ]


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        (
            {"messages": [{"role": "user", "content": "Hi"}], "model": "m"},
            {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}}]},
        ),
        ({"input": "Hi"}, {"output": [{"type": "message", "role": "assistant", "content": [{"text": "Hello"}]}]}),
        (
            {"messages": [{"role": "user", "content": "Hi"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "Hello"}], "stop_reason": "end_turn"},
        ),
        ({"messages": [["human", "Hi"]]}, {"generations": [[{"text": "Hello", "message": None}]]}),
    ],
)
def test_model_calls_of_several_providers_are_read(
    tmp_path: Path, inputs: dict[str, Any], outputs: dict[str, Any]
) -> None:
    run = root(1, run_type="llm", inputs=inputs, outputs=outputs, **score(correct=1.0))
    (one,) = load_trajectories(write(tmp_path / "runs.jsonl", run)).trajectories
    assert [(m.role, m.content) for m in one.messages] == [("user", "Hi"), ("assistant", "Hello")]
