"""Importers on real data, on each format's rows, and on what is wrong with them."""

from __future__ import annotations

import gzip
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from trace_agents.cli import main
from trace_agents.errors import UsageError
from trace_agents.importers import FORMATS, Outcomes, load_trajectories
from trace_agents.types import Trajectory

GUIDE = Path(__file__).parents[2] / "docs" / "importers.md"
SECTIONS = re.findall(r"^### `([\w-]+)`\n(.*?)(?=^### |\Z)", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
EXAMPLES = [
    (name, block) for name, text in SECTIONS for block in re.findall(r"^```json\n(.*?)^```", text, re.M | re.DOTALL)
]
REAL = Path(__file__).parents[2].parent / "shared" / "data" / "tau-bench" / "gpt-4o-airline.json"

CALL = {"id": "c1", "type": "function", "function": {"name": "get_order", "arguments": '{"order_id": "W1"}'}}
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Where is W1?"}]},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": '{"status": "shipped"}'},
    {"role": "assistant", "content": "On its way."},
]


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(row if isinstance(row, str) else f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.skipif(not REAL.exists(), reason="the real trajectories are not beside this checkout")
def test_real_tau_bench_trajectories_are_read_whole_and_without_their_gold_actions() -> None:
    report = load_trajectories(REAL)
    assert (report.format, len(report.trajectories), report.skipped) == ("tau-bench", 200, ())
    assert sum(one.success is True for one in report.trajectories) == 84
    assert len({one.task_id for one in report.trajectories}) == 50
    assert len({one.id for one in report.trajectories}) == 200
    calls = [call for one in report.trajectories for message in one.messages for call in message.tool_calls]
    assert len(calls) == 1164
    assert all(isinstance(call.arguments, dict) for call in calls)
    assert all(one.info == {} for one in report.trajectories)


def test_chat_messages_are_read_with_parts_calls_and_tool_names(tmp_path: Path) -> None:
    tools = [
        {"type": "function", "function": {"name": "get_order", "parameters": {"type": "object"}}},
        {"name": "other"},
    ]
    row = {"task_id": 3, "trial": 1, "reward": 1, "messages": CHAT, "tools": tools, "agent": "m"}
    (one,) = load_trajectories(write(tmp_path / "a.jsonl", row)).trajectories
    assert (one.id, one.task_id, one.trial, one.success, one.reward, one.agent) == ("3#1", "3", 1, True, 1.0, "m")
    assert one.messages[1].content == "Where is W1?"
    assert one.messages[2].tool_calls[0].arguments == {"order_id": "W1"}
    assert one.messages[3].name == "get_order"
    assert [tool.name for tool in one.tools] == ["get_order", "other"]


@pytest.mark.parametrize(
    ("outcome", "success"),
    [
        ({"success": False, "reward": 1.0}, False),
        ({"success": True}, True),
        ({"reward": 0.99}, False),
        ({"reward": 1}, True),
    ],
)
def test_success_is_given_or_a_reward_of_one(tmp_path: Path, outcome: dict[str, Any], success: bool) -> None:
    (one,) = load_trajectories(write(tmp_path / "a.jsonl", {"task_id": "t", "messages": CHAT} | outcome)).trajectories
    assert one.success is success


def test_infrastructure_failures_carry_no_label_and_are_counted(tmp_path: Path) -> None:
    rows = [
        {"task_id": "t", "success": True, "messages": CHAT},
        {"task_id": "u", "error": "time-out\nlong", "messages": []},
    ]
    report = load_trajectories(write(tmp_path / "a.jsonl", *rows))
    assert report.excluded_infrastructure == 1
    assert (report.trajectories[1].success, report.trajectories[1].error) == (None, "time-out")
    crashed = [{"task_id": 0, "reward": 0.0, "traj": [], "info": {"error": "connection reset"}, "trial": 0}]
    path = tmp_path / "b.json"
    path.write_text(json.dumps(crashed))
    assert load_trajectories(path).excluded_infrastructure == 1


def test_repeated_ids_become_unique_and_trials_are_numbered_where_the_rows_do_not(tmp_path: Path) -> None:
    row = {"task_id": "t", "success": True, "messages": CHAT}
    rows = [row | {"trial": 0}, row | {"trial": 0}, row | {"id": "x"}, row]
    report = load_trajectories(write(tmp_path / "a.jsonl", *rows))
    assert [(one.id, one.trial) for one in report.trajectories] == [("t#0", 0), ("t#0.2", 0), ("x", 2), ("t#3", 3)]


def test_arguments_that_are_no_object_are_kept_as_text(tmp_path: Path) -> None:
    broken = {"id": "c1", "function": {"name": "get_order", "arguments": '{"order_id": '}}
    chat = [{"role": "assistant", "content": None, "tool_calls": [broken]}]
    (one,) = load_trajectories(
        write(tmp_path / "a.jsonl", {"task_id": 1, "success": False, "messages": chat})
    ).trajectories
    assert one.messages[0].tool_calls[0].arguments == '{"order_id": '


@pytest.mark.parametrize("as_text", [True, False])
def test_arguments_nested_without_end_are_kept_as_text_and_written_again(tmp_path: Path, as_text: bool) -> None:
    def loaded(depth: int) -> Trajectory:
        text = '{"a": ' * depth + "1" + "}" * depth
        call = {"id": "c1", "function": {"name": "get_order", "arguments": text if as_text else json.loads(text)}}
        chat = [{"role": "assistant", "content": None, "tool_calls": [call]}]
        row = {"task_id": 1, "success": False, "messages": chat}
        (one,) = load_trajectories(write(tmp_path / f"{depth}.jsonl", row)).trajectories
        return one

    assert isinstance(loaded(100).messages[0].tool_calls[0].arguments, dict)
    deep = loaded(300)
    assert deep.messages[0].tool_calls[0].arguments == '{"a": ' * 300 + "1" + "}" * 300
    assert Trajectory.model_validate_json(deep.model_dump_json()) == deep


def test_a_malformed_row_is_named_by_its_number_and_skipped_only_when_asked(tmp_path: Path) -> None:
    good = {"task_id": "t", "success": True, "messages": CHAT}
    path = write(tmp_path / "a.jsonl", good, "\n", '{"task_id": \n', {"task_id": "u", "messages": CHAT}, "[1]\n", good)
    with pytest.raises(UsageError, match=r"row 3 of .*a\.jsonl' is malformed \(not JSON.*--skip-bad"):
        load_trajectories(path)
    report = load_trajectories(path, skip_bad=True)
    assert len(report.trajectories) == 2
    assert [(one.row, one.reason.split(":")[0]) for one in report.skipped] == [
        (3, "not JSON"),
        (4, "neither 'success' nor 'reward'"),
        (5, "a JSON object is wanted, not list"),
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"messages": "hi"}, "'messages' is not a list"),
        ({"messages": [{"role": "robot"}]}, "message 0 has the role 'robot'"),
        ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "a tool call of message 0 has no name"),
        ({"reward": "high", "success": None}, "the reward 'high' is no number"),
        ({"trial": "one"}, "'trial' is 'one', not a whole number"),
    ],
)
def test_what_is_wrong_with_a_row_is_said(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    row = {"task_id": "t", "success": True, "messages": CHAT} | change
    with pytest.raises(UsageError, match=reason):
        load_trajectories(write(tmp_path / "a.jsonl", row), "messages")


def test_an_unknown_format_lists_the_formats(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown format 'tau': use one of 'adp', 'langsmith', 'messages'"):
        load_trajectories(tmp_path / "a.jsonl", "tau")
    assert set(FORMATS) == {"adp", "langsmith", "messages", "tau-bench", "tau2", "toolsandbox", "verifiers"}


def test_a_format_that_cannot_be_guessed_lists_the_formats(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be guessed from the keys 'a', 'b': give --format, one of"):
        load_trajectories(write(tmp_path / "a.jsonl", {"a": 1, "b": 2}))


def test_a_missing_or_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"missing file .*nowhere"):
        load_trajectories(tmp_path / "nowhere.json")
    with pytest.raises(UsageError, match="holds no trajectory"):
        load_trajectories(write(tmp_path / "a.jsonl", ""))
    with pytest.raises(UsageError, match="begins like a JSON array"):
        load_trajectories(write(tmp_path / "b.json", "[{"))


def test_mixed_formats_are_refused_with_the_numbers_of_the_rows(tmp_path: Path) -> None:
    plain = {"task_id": "t", "success": True, "messages": CHAT}
    other = {"task_id": 0, "trial": 0, "reward": 1.0, "traj": CHAT, "info": {}}
    path = write(tmp_path / "a.jsonl", plain, other, plain, *[other] * 7)
    with pytest.raises(UsageError) as refused:
        load_trajectories(path)
    assert str(refused.value) == (
        f"mixed formats in {str(path)!r}: 'messages' in rows 1, 3; 'tau-bench' in rows 2, 4, 5, 6, 7 and 3 more: give "
        "one format at a time, or pass --format NAME --skip-bad to read the rows of one"
    )
    report = load_trajectories(path, "messages", skip_bad=True)
    assert (len(report.trajectories), [one.row for one in report.skipped]) == (2, [2, 4, 5, 6, 7, 8, 9, 10])


def test_files_and_folders_are_read_as_one_and_must_agree(tmp_path: Path) -> None:
    row = {"task_id": "t", "success": True, "messages": CHAT}
    (tmp_path / "runs" / "deep").mkdir(parents=True)
    write(tmp_path / "runs" / "b.jsonl", row)
    write(tmp_path / "runs" / "deep" / "a.json", [row, row])
    write(tmp_path / "runs" / "config.json", {"model": "m"})
    (tmp_path / "runs" / "notes.txt").write_text("no trajectory")
    last = write(tmp_path / "c.jsonl", row)
    report = load_trajectories([tmp_path / "runs", last])
    assert [one.id for one in report.trajectories] == ["t#0", "t#1", "t#2", "t#3"]
    assert report.ignored == (str(tmp_path / "runs" / "config.json"),)
    write(last, {"task_id": 0, "trial": 0, "reward": 1.0, "traj": CHAT})
    with pytest.raises(UsageError, match=r"mixed formats in .*c\.jsonl', .*'tau-bench' in rows .*c\.jsonl:1"):
        load_trajectories([tmp_path / "runs", last])


def test_one_trajectory_spread_over_lines_is_a_file_too(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    path.write_text(json.dumps({"task_id": "t", "success": True, "messages": CHAT}, indent=2))
    assert len(load_trajectories(path).trajectories) == 1
    path.write_text(path.read_text()[:-4])
    with pytest.raises(UsageError, match=r"one\.json' begins like a JSON object and is none"):
        load_trajectories(path)


def test_an_array_is_read_past_the_length_of_any_buffer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trace_agents.importers.json_stream.CHUNK", 7)
    rows = [{"task_id": number, "reward": 1.25e-3 * number, "messages": CHAT} for number in range(9)]
    path = tmp_path / "a.json"
    for indent in (None, 3):
        path.write_text(json.dumps(rows, indent=indent))
        assert [one.reward for one in load_trajectories(path).trajectories] == [row["reward"] for row in rows]
    path.write_text(json.dumps(rows)[:-1] + ", 7 ]")
    with pytest.raises(UsageError, match=r"row 10 of .*a JSON object is wanted, not int"):
        load_trajectories(path)
    path.write_text(json.dumps(rows) + "x")
    with pytest.raises(UsageError, match="something follows its end"):
        load_trajectories(path)


@pytest.mark.parametrize(
    ("row", "outcomes", "expected"),
    [
        ({"won": "yes"}, Outcomes(success_column="won"), (None, True)),
        ({"won": 0}, Outcomes(success_column="won"), (None, False)),
        ({"eval": {"ok": True}, "reward": 0.25}, Outcomes(success_column="eval.ok"), (0.25, True)),
        ({"a.b": False}, Outcomes(success_column="a.b"), (None, False)),
        ({"score": 0.5, "success": True}, Outcomes(reward_column="score"), (0.5, False)),
        ({"score": 0.5}, Outcomes(reward_column="score", threshold=0.5), (0.5, True)),
        ({"reward": 0.9, "success": False}, Outcomes(threshold=0.8), (0.9, True)),
        ({"won": False, "score": 1}, Outcomes(success_column="won", reward_column="score"), (1.0, False)),
    ],
)
def test_columns_and_a_threshold_decide_where_they_are_given(
    tmp_path: Path, row: dict[str, Any], outcomes: Outcomes, expected: tuple[float | None, bool]
) -> None:
    path = write(tmp_path / "a.jsonl", {"task_id": "t", "messages": CHAT} | row)
    (one,) = load_trajectories(path, outcomes=outcomes).trajectories
    assert (one.reward, one.success) == expected


@pytest.mark.parametrize(
    ("row", "outcomes", "reason"),
    [
        ({}, Outcomes(success_column="won"), "no 'won' for --success-column 'won': there is 'task_id', 'messages'"),
        ({"won": "maybe"}, Outcomes(success_column="won"), "'won' is 'maybe', neither true nor false"),
        ({"score": None}, Outcomes(reward_column="score"), "the reward None is no number"),
        ({"success": True}, Outcomes(threshold=0.5), "no reward to hold against the threshold 0.5"),
        ({"reward": float("nan")}, Outcomes(), "the reward nan is no finite number"),
    ],
)
def test_what_is_wrong_with_a_column_is_said(
    tmp_path: Path, row: dict[str, Any], outcomes: Outcomes, reason: str
) -> None:
    path = write(tmp_path / "a.jsonl", {"task_id": "t", "messages": CHAT} | row)
    with pytest.raises(UsageError, match=f"row 1 of .*{reason}"):
        load_trajectories(path, outcomes=outcomes)


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.json.gz"])
def test_packed_files_are_read_like_plain_ones_alone_and_in_a_folder(tmp_path: Path, name: str) -> None:
    row = {"task_id": "7", "success": True, "messages": [{"role": "user", "content": "Hi, ünï"}]}
    packed = tmp_path / name
    packed.write_bytes(gzip.compress((json.dumps([row]) if name == "a.json.gz" else json.dumps(row) + "\n").encode()))
    for path in (packed, tmp_path):
        (one,) = load_trajectories(path).trajectories
        assert one.messages[0].content == "Hi, ünï"


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b"x" * 100_000)[:60]])
def test_a_packed_file_that_is_broken_is_refused_with_the_remedy(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(content)
    with pytest.raises(UsageError, match=r"is no whole gzip file .*: fetch or compress it again"):
        load_trajectories(tmp_path / "a.jsonl.gz")


def test_a_file_is_read_by_what_it_begins_with_whatever_its_name(tmp_path: Path) -> None:
    row = json.dumps({"task_id": "7", "success": True, "messages": [{"role": "user", "content": "Hi, ünï"}]})
    for number, content in enumerate((gzip.compress(row.encode()), row.encode("utf-16"), row.encode("utf-8-sig"))):
        path = tmp_path / f"{number}.jsonl"
        path.write_bytes(content)
        assert load_trajectories(path).trajectories[0].messages[0].content == "Hi, ünï"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"PK\x03\x04zip", "is packed with zip: unpack it first"),
        (b"\x28\xb5\x2f\xfd-", "is packed with zstandard: unpack"),
    ],
)
def test_an_archive_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(UsageError, match=rf"a\.jsonl' {reason}"):
        load_trajectories(tmp_path / "a.jsonl")


def test_what_is_no_file_is_named_and_a_file_named_twice_is_read_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"task_id": "t", "success": True, "messages": CHAT})
    link, loop, pipe = tmp_path / "b.jsonl", tmp_path / "loop.jsonl", tmp_path / "pipe.jsonl"
    link.symlink_to(path)
    assert len(load_trajectories([path, path, link, tmp_path]).trajectories) == 1
    loop.symlink_to(loop)
    os.mkfifo(pipe)
    for wrong, reason in ((loop, "missing file"), (pipe, "is neither a file nor a folder"), ("x" * 5000, "too long")):
        with pytest.raises(UsageError, match=reason):
            load_trajectories(wrong)
    assert len(load_trajectories(tmp_path).trajectories) == 1


def test_text_that_is_a_number_or_a_verdict_is_read(tmp_path: Path) -> None:
    rows = [{"reward": "1.0"}, {"reward": "0.5"}, {"success": "true"}, {"success": 0}]
    path = write(tmp_path / "a.jsonl", *({"task_id": "t", "messages": CHAT} | row for row in rows))
    found = [(one.reward, one.success) for one in load_trajectories(path).trajectories]
    assert found == [(1.0, True), (0.5, False), (None, True), (None, False)]
    for wrong, reason in (({"reward": "nan"}, "no finite number"), ({"success": "maybe"}, "'maybe', neither true nor")):
        with pytest.raises(UsageError, match=reason):
            load_trajectories(write(path, {"task_id": "t", "messages": CHAT} | wrong))


@pytest.mark.parametrize("threshold", [float("nan"), float("inf")])
def test_a_threshold_that_decides_nothing_is_refused(tmp_path: Path, threshold: float) -> None:
    with pytest.raises(UsageError, match=r"threshold (nan|inf) is no finite number: give the least reward"):
        load_trajectories(tmp_path / "a.jsonl", outcomes=Outcomes(threshold=threshold))


@pytest.mark.parametrize(("name", "example"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_rows_of_a_format_that_was_not_named_say_what_they_look_like(tmp_path: Path, name: str, example: str) -> None:
    path = tmp_path / "rows.json"
    path.write_text(example)
    other = "tau-bench" if name != "tau-bench" else "toolsandbox"
    with pytest.raises(UsageError, match=rf"row 1 of .*; it looks like '{name}'\): mend it"):
        load_trajectories(path, other)


def test_half_a_character_does_not_cost_the_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"task_id": "t", "success": true, "messages": [{"role": "user", "content": "cut \\ud83d"}]}\n')
    assert load_trajectories(path).trajectories[0].messages[0].content == "cut \ufffd"


def test_the_guide_has_every_format() -> None:
    assert {name for name, _ in EXAMPLES} == set(FORMATS)


@pytest.mark.parametrize(("name", "example"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_the_guides_examples_are_of_their_formats(tmp_path: Path, name: str, example: str) -> None:
    scenario = tmp_path / "trajectories" / "wifi_off"
    scenario.mkdir(parents=True)
    (scenario / "conversation.json").write_text(json.dumps(CHAT))
    path = tmp_path / "rows.json"
    for text in (example, json.dumps(json.loads(example)), f"[{example}]"):
        path.write_text(text)
        report = load_trajectories(path)
        assert (report.format, len(report.trajectories)) == (name, 1)
        assert report.trajectories[0].success is not None


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ([], "row 1 of 'FILE' is malformed (neither 'success' nor 'reward': name the column"),
        (["--success-column", "won"], "'won' is 7, neither true nor false"),
        (["--reward-column", "lost"], "no 'lost' for --reward-column 'lost': there is 'task_id', 'messages', 'won'"),
        (["--threshold", "0.5"], "neither 'success' nor 'reward'"),
    ],
)
def test_the_command_line_says_which_column_is_wanting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], complaint: str
) -> None:
    path = write(tmp_path / "a.jsonl", {"task_id": "t", "messages": CHAT, "won": 7})
    assert main(["analyze", str(path), str(path), "--out", str(tmp_path / "out"), *options]) == 2
    told = capsys.readouterr().err
    assert complaint.replace("FILE", str(path)) in told
    assert told.count("\n") == 1
