"""The routed agent's section of the room's README runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "graphs" / "README.md"


def test_the_example_plays_an_episode_with_the_embedded_agent(capsys: pytest.CaptureFixture[str]) -> None:
    section = README.read_text(encoding="utf-8").split("## The routed agent")[1].split("\n## ")[0]
    (code,) = re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    exec(compile(code, "README", "exec"), {"__name__": "example"})
    assert re.match(r"helpdesk-1m .+ reward=[01]\.0 success=(True|False)", capsys.readouterr().out)
