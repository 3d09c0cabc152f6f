"""What an analysis of many trajectories takes, measured as a user would run it."""

from __future__ import annotations

from pathlib import Path

from graphs.scale import measure_scale


def test_the_scale_is_measured_on_the_command_line_with_everything_written(tmp_path: Path) -> None:
    scale = measure_scale(tmp_path, trajectories=96, messages=12)
    assert (scale.trajectories, scale.messages >= 12) == (96, True)
    assert min(scale.seconds, scale.processor_seconds, scale.peak_bytes) > 0
    assert {path.name for path in (tmp_path / "analysis").iterdir()} >= {"capabilities.json", "labels.jsonl"}
