"""The guide's benchmark keeps the contract and gives the figures that the guide says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trace_agents.cli import main

PARKING = f"{Path(__file__).parents[2] / 'docs' / 'examples' / 'parking' / 'parking.py'}:Parking"


def test_the_guides_benchmark_conforms_over_every_transport(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conform", PARKING, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["check"] for one in found["findings"] if one["status"] != "passed"] == ["generation"]


def test_its_ceiling_is_one_and_its_floor_is_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["evaluate", PARKING, "--split", "test", "--agent", "do-nothing", "--out", str(tmp_path / "out"), "--json"]
    assert main(asked) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["score"]["pass_rate"]["value"] == 0.5
    assert next(one for one in found["beside"] if one["agent"] == "oracle")["pass_rate"]["value"] == 1
