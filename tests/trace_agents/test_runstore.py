"""A run on disk survives kills, full disks and a second writer, and says what is wrong with it."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trace_agents import files
from trace_agents.artifacts import MetricRow, RouterArtifact
from trace_agents.config import RunConfig
from trace_agents.errors import UsageError
from trace_agents.runstore import RunStore, peak_memory

CONFIG = RunConfig.parse('[target]\nenvironment = "helpdesk"\n')


@pytest.fixture
def store(tmp_path: Path):
    with RunStore.create(tmp_path / "run", CONFIG) as made:
        yield made


def row(iteration: int) -> MetricRow:
    return MetricRow(adapter="a", iteration=iteration, reward_mean=0.5, success_rate=0.25)


def test_a_run_is_found_again_with_its_configuration(store: RunStore) -> None:
    store.close()
    assert RunStore.open(store.root, write=False).config == CONFIG


def test_what_is_written_is_read_back(store: RunStore) -> None:
    router = RouterArtifact(capabilities=("a", "b"), picked="sum")
    store.write_json("router.json", router)
    store.append_jsonl("metrics.jsonl", [row(0)])
    store.append_jsonl("metrics.jsonl", [row(1), row(2)])
    assert store.read_json("router.json", RouterArtifact) == router
    assert list(store.read_jsonl("metrics.jsonl", MetricRow)) == [row(0), row(1), row(2)]
    assert {json.loads(line)["version"] for line in store.path("metrics.jsonl").read_text().splitlines()} == {1}


def test_a_run_is_not_made_over_another_one(store: RunStore) -> None:
    with pytest.raises(UsageError, match="already exists: continue it with --resume"):
        RunStore.create(store.root, CONFIG)


def test_a_run_is_not_made_among_other_files(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("keep me")
    with pytest.raises(UsageError, match="not empty and not a run"):
        RunStore.create(tmp_path, CONFIG)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(("name", "said"), [("absent", "does not exist"), ("folder", "is not a run")])
def test_what_is_no_run_is_named(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match=said):
        RunStore.open(tmp_path / name)


def test_a_missing_file_is_named_with_what_is_there(store: RunStore) -> None:
    with pytest.raises(UsageError, match=r"missing file .*router\.json': its folder has 'config\.toml', 'run\.json'"):
        store.read_json("router.json", RouterArtifact)


def test_another_schema_version_is_refused(store: RunStore) -> None:
    store.write_text("router.json", '{"version": 9, "capabilities": [], "picked": "sum"}')
    with pytest.raises(UsageError, match="schema version 9, this trace-agents reads 1"):
        store.read_json("router.json", RouterArtifact)


def test_a_malformed_line_is_named_by_its_number(store: RunStore) -> None:
    store.write_text("metrics.jsonl", row(0).model_dump_json() + "\n{oops}\n")
    with pytest.raises(UsageError, match=r"line 2 of .*metrics\.jsonl' is malformed"):
        list(store.read_jsonl("metrics.jsonl", MetricRow))
    store.write_text("metrics.jsonl", '{"version": 1, "adapter": "a"}\n')
    with pytest.raises(UsageError, match=r"line 1 of .* is malformed \(iteration: Field required\)"):
        list(store.read_jsonl("metrics.jsonl", MetricRow))


def test_a_torn_last_line_is_dropped_and_the_rest_kept(store: RunStore) -> None:
    store.append_jsonl("metrics.jsonl", [row(0), row(1)])
    store.close()
    with store.path("metrics.jsonl").open("ab") as stream:
        stream.write(b'{"version": 1, "adapt')
    again = RunStore.open(store.root)
    assert list(again.read_jsonl("metrics.jsonl", MetricRow)) == [row(0), row(1)]
    again.append_jsonl("metrics.jsonl", [row(2)])
    assert list(again.read_jsonl("metrics.jsonl", MetricRow)) == [row(0), row(1), row(2)]
    assert again.dropped == {"metrics.jsonl": 21}
    again.close()


@given(st.lists(st.dictionaries(st.text(max_size=8), st.integers(), max_size=3), max_size=6), st.data())
def test_a_file_cut_anywhere_keeps_every_whole_line(tmp_path_factory, rows: list[dict], data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("cut") / "rows.jsonl"
    path.touch()
    files.append_lines(path, [json.dumps(one) for one in rows])
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    kept = whole[:cut].count(b"\n")
    # A cut just before a line end leaves a whole value, which counts.
    kept += cut < len(whole) and whole[cut : cut + 1] == b"\n" and whole[:cut].rpartition(b"\n")[2] != b""
    assert [one for _, one in files.read_lines(path)] == rows[:kept]
    files.mend_tail(path)
    files.append_lines(path, ['{"after": 1}'])
    assert [one for _, one in files.read_lines(path)] == [*rows[:kept], {"after": 1}]


def test_a_long_torn_line_is_found_block_by_block(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n' + b'{"b": "' + b"x" * 300_000)
    assert files.mend_tail(path) == 300_007
    assert path.read_bytes() == b'{"a": 1}\n'


def test_rows_that_a_killed_stage_had_begun_can_be_taken_back(store: RunStore) -> None:
    store.append_jsonl("metrics.jsonl", [row(i) for i in range(4)])
    store.keep_rows("metrics.jsonl", lambda found: found["iteration"] < 2)
    assert [one.iteration for one in store.read_jsonl("metrics.jsonl", MetricRow)] == [0, 1]


def test_a_full_disk_keeps_what_was_written(store: RunStore) -> None:
    store.append_jsonl("metrics.jsonl", [row(0)])
    before = store.path("metrics.jsonl").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, hard))
        with pytest.raises(OSError, match="File too large") as caught:
            store.append_jsonl("metrics.jsonl", [row(1)])
        with pytest.raises(OSError, match="File too large"):
            store.write_text("run.json", "x" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.filename == str(store.path("metrics.jsonl"))
    assert store.path("metrics.jsonl").read_bytes() == before
    assert not list(store.root.glob("*.part"))
    assert not list(store.root.glob(".*.part"))
    store.close()
    RunStore.open(store.root).close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_no_space_left_names_the_file(store: RunStore) -> None:
    store.path("metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        store.append_jsonl("metrics.jsonl", [row(0)])
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(store.path("metrics.jsonl")))


def test_a_second_process_may_read_but_not_write(store: RunStore) -> None:
    code = f"""
from trace_agents.errors import UsageError
from trace_agents.runstore import RunStore
RunStore.open({str(store.root)!r}, write=False)
try:
    RunStore.open({str(store.root)!r})
except UsageError as error:
    print(error)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert f"is being written by process {os.getpid()}" in found


def test_a_killed_writer_leaves_a_run_that_opens(tmp_path: Path) -> None:
    code = f"""
from trace_agents.config import RunConfig
from trace_agents.runstore import RunStore
store = RunStore.create({str(tmp_path / "run")!r}, RunConfig.parse('[target]\\nenvironment = "helpdesk"\\n'))
with store.stage("rollouts"):
    while True:
        store.append_jsonl("rows.jsonl", [{{"text": "x" * 5000}}])
"""
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        rows = tmp_path / "run" / "rows.jsonl"
        deadline = time.monotonic() + 60
        while not (rows.exists() and rows.stat().st_size > 20_000):
            assert process.poll() is None
            assert time.monotonic() < deadline
        process.kill()
    with RunStore.open(tmp_path / "run") as store:
        assert not store.is_done("rollouts")
        store.append_jsonl("rows.jsonl", [{"text": "after"}])
        texts = [found["text"] for _, found in files.read_lines(rows)]
    assert texts[-1] == "after"
    assert set(texts[:-1]) == {"x" * 5000}


def test_a_run_opened_for_reading_is_not_changed(store: RunStore) -> None:
    reader = RunStore.open(store.root, write=False)
    with pytest.raises(UsageError, match="opened for reading"):
        reader.write_text("note.txt", "x")


def test_a_stage_is_done_once_it_ended_on_the_same_inputs(store: RunStore) -> None:
    assert not store.is_done("analysis", {"runs": 10})
    with store.stage("analysis", {"runs": 10}) as facts:
        facts["trajectories"] = 480
    assert store.is_done("analysis", {"runs": 10})
    assert not store.is_done("analysis", {"runs": 9})
    assert store.stages["analysis"].facts == {"trajectories": 480}


def test_a_stage_that_fails_is_not_done(store: RunStore) -> None:
    with pytest.raises(RuntimeError, match="boom"), store.stage("analysis"):
        raise RuntimeError("boom")
    assert not store.is_done("analysis")


def test_a_stage_runs_again_when_a_file_that_it_reads_changed(store: RunStore) -> None:
    store.append_jsonl("rows.jsonl", [{"a": 1}])
    store.folder("envs/slug")
    store.write_text("envs/slug/env.py", "x = 1")
    with store.stage("analysis", reads=["rows.jsonl", "envs"]):
        pass
    assert store.is_done("analysis", reads=["rows.jsonl", "envs"])
    store.write_text("envs/slug/env.py", "x = 2")
    assert not store.is_done("analysis", reads=["rows.jsonl", "envs"])
    with store.stage("analysis", reads=["rows.jsonl", "envs"]):
        pass
    store.append_jsonl("rows.jsonl", [{"a": 2}])
    assert not store.is_done("analysis", reads=["rows.jsonl", "envs"])
    assert list(store.stages) == ["analysis"]


def test_peak_memory_counts_workers() -> None:
    subprocess.run([sys.executable, "-c", "x = bytearray(80_000_000)"], check=True)
    assert peak_memory(2) - peak_memory(1) > 70_000_000
