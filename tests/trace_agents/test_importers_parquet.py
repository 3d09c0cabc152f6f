"""Parquet: the same trajectories as from JSON lines, and what is said where it cannot be read."""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pytest
from pyarrow import parquet

from trace_agents.cli import main
from trace_agents.errors import UsageError
from trace_agents.importers import Outcomes, load_trajectories
from trace_agents.importers import parquet as reader


def call(tool: str, **arguments: str) -> dict[str, Any]:
    return {"id": "c1", "type": "function", "function": {"name": tool, "arguments": arguments}}


ROWS: list[dict[str, Any]] = [
    {
        "task_id": str(number),
        "reward": number / 2,
        "messages": [
            {"role": "user", "content": "Where is W1?"},
            {"role": "assistant", "tool_calls": [call("get", id="W1") if number else call("find", name="Ann")]},
            {"role": "tool", "tool_call_id": "c1", "content": "lost"},
        ],
    }
    for number in range(3)
]


def write(path: Path, rows: list[dict[str, Any]], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(arrow.Table.from_pylist(rows), path, **options)
    return path


@pytest.mark.parametrize("as_text", [False, True], ids=["objects", "text"])
@pytest.mark.parametrize("compression", ["zstd", "gzip", "none"])
def test_parquet_holds_what_json_lines_hold(tmp_path: Path, as_text: bool, compression: str) -> None:
    rows = [row | {"messages": json.dumps(row["messages"])} for row in ROWS] if as_text else ROWS
    write(tmp_path / "runs" / "day=1" / "a.parquet", rows, compression=compression)
    lines = tmp_path / "a.jsonl"
    lines.write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    assert load_trajectories(tmp_path / "runs") == load_trajectories(lines)


def test_more_rows_than_are_held_at_a_time_are_read(tmp_path: Path) -> None:
    rows = [ROWS[0] | {"task_id": str(number)} for number in range(2 * reader.BATCH + 1)]
    report = load_trajectories(write(tmp_path / "a.parquet", rows, row_group_size=50))
    assert [one.task_id for one in report.trajectories] == [row["task_id"] for row in rows]


def test_values_that_json_does_not_have_are_read(tmp_path: Path) -> None:
    when = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    table = arrow.table(
        {
            "task_id": ["a"],
            "success": [True],
            "messages": [[{"role": "user", "content": b"Hi \xff"}]],
            "at": arrow.array([1_767_312_000_000_000_001], arrow.timestamp("ns", "UTC")),
            "inner": arrow.array([[{"at": 1}]], arrow.list_(arrow.struct([("at", arrow.timestamp("ns"))]))),
            "far": arrow.array([2**50], arrow.timestamp("ms")),
            "day": [when.date()],
            "tags": arrow.array([[("key", "value")]], arrow.map_(arrow.string(), arrow.string())),
        }
    )
    parquet.write_table(table, tmp_path / "a.parquet")
    (value,) = reader.values_of(tmp_path / "a.parquet")
    assert (value["day"], value["tags"]) == ("2026-01-02", {"key": "value"})
    assert value["at"] == "2026-01-02 00:00:00.000000001Z"
    assert value["inner"] == [{"at": "1970-01-01 00:00:00.000000001"}]
    assert "out of range" in value["far"]
    (one,) = load_trajectories(tmp_path / "a.parquet").trajectories
    assert one.messages[0].content == "Hi \ufffd"


def test_what_was_said_stays_text_though_it_is_json(tmp_path: Path) -> None:
    row = {"example_id": 1, "prompt": '{"a": 1}', "completion": '{"b": 2}', "reward": 1.0}
    (one,) = load_trajectories(write(tmp_path / "results.parquet", [row])).trajectories
    assert [message.content for message in one.messages] == ['{"a": 1}', '{"b": 2}']


@pytest.mark.parametrize("content", [b"", b"PAR1", b"{}", b"PAR1" + b"x" * 100 + b"PAR1"])
def test_what_is_no_parquet_is_refused_with_the_remedy(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(content)
    assert main(["analyze", str(path), "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be read as Parquet (" in line
    assert "fetch or write it again" in line


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.parquet", ROWS)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"needs pyarrow: pip install 'trace-agents\[parquet\]', or convert"):
        load_trajectories(path)


def test_a_bulk_export_of_langsmith_is_read_though_a_trace_lies_in_two_files(tmp_path: Path) -> None:
    """Columns as its documentation names them: objects as JSON text, times in nanoseconds."""
    said = [{"role": "user", "content": "Hi"}]
    root = {
        "id": "r",
        "trace_id": "r",
        "run_type": "chain",
        "is_root": True,
        "status": "success",
        "inputs": json.dumps({"messages": said}),
        "outputs": json.dumps({"answer": 5}),
        "extra": json.dumps({"metadata": {"task_id": "t"}}),
        "feedback_stats": json.dumps({"correctness": {"n": 1, "avg": 0.5}}),
    }
    answer = {"generations": [[{"message": {"type": "ai", "content": "Hello"}}]]}
    model = {
        "id": "m",
        "trace_id": "r",
        "run_type": "llm",
        "is_root": False,
        "inputs": json.dumps({"messages": said}),
        "outputs": json.dumps(answer),
    }
    folder = tmp_path / "export_id=e" / "year=2026"
    write(folder / "month=1" / "a.parquet", [model])
    write(folder / "month=2" / "b.parquet", [root])
    report = load_trajectories(tmp_path, outcomes=Outcomes(threshold=0.5))
    (one,) = report.trajectories
    assert (report.format, one.id, one.task_id, one.reward, one.success) == ("langsmith", "r", "t", 0.5, True)
    assert [(message.role, message.content) for message in one.messages] == [("user", "Hi"), ("assistant", "Hello")]
