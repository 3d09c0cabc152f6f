"""A run whose analyst is a hand-off: it stops where answers are missing, and goes on to environments once they came."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from graphs.analysis import run_analysis
from graphs.analysts.notes import FILE, AnalystNotes
from graphs.pipeline.analysis import analyse, kept
from graphs.pipeline.context import Run
from graphs.pipeline.rollouts import read_trajectories
from graphs.pipeline.synthesis import build_environments, manifests
from trace_agents.analysis.compaction import Compaction, compact, shared_rules
from trace_agents.analysis.handoff import HandoffFolder
from trace_agents.analysis.requests import Request
from trace_agents.analysis.results import Analysis
from trace_agents.analysis.statistical import StatisticalAnalyst
from trace_agents.cli import main
from trace_agents.progress import SilentProgress
from trace_agents.runstore import RunStore
from trace_agents.types import Label, Trajectory

CONFIG = """
version = 1
[target]
environment = "helpdesk"
rollouts_per_task = 6
max_turns = 12
max_tokens = 96
[analysis]
analyst = "handoff"
both = true
runs = 2
keep_in = 2
context_tokens = 1000000
max_capabilities = 2
[synthesis]
certification_groups = 6
"""


class Statistician:
    """Answers requests as the statistical analyst judges, from the trajectories that a request shows."""

    def __init__(self, trajectories: list[Trajectory]) -> None:
        rules = shared_rules(trajectories)
        self._ids = {compact(one, Compaction(), rules): one.id for one in trajectories}
        self._found: Analysis = run_analysis(trajectories, StatisticalAnalyst(seed=7))

    def answer(self, request: Request) -> dict:
        shown = re.findall(r"^=== (T\d+)[^\n]*===\n(.*?)(?=\n\n=== |\n\nAnswer with)", request.prompt, re.M | re.S)
        if request.kind == "discover":
            failed = re.findall(r"^=== (T\d+) .*FAILED", request.prompt, re.M)
            named = [one.capability for one in self._found.kept]
            return {
                "capabilities": {
                    f"read-{number}": {"title": one.title, "description": one.description, "examples": failed[:1]}
                    for number, one in enumerate(named)
                }
            }
        verdicts = self._found.verdicts()
        rows = {}
        for key, text in shown:
            labels = [verdicts[one.capability.name][self._ids[text]] for one in self._found.kept]
            rows[key] = {
                f"read-{number}": "NA" if label is Label.NA else [label.value, 1] for number, label in enumerate(labels)
            }
        return {"labels": rows}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_run_waits_for_its_hand_off_and_goes_on_to_environments(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.toml").write_text(CONFIG)
    root = tmp_path / "run"
    folder = HandoffFolder(root / "handoff")
    command = ["run", str(tmp_path / "c.toml"), "--out", str(tmp_path), "--run-id", "run"]
    reader = None
    for kind, number in (("discover", 1), ("label", 2)):
        assert main(command) == 0
        printed = capsys.readouterr().out
        waiting = folder.open()
        assert [one.kind for one in waiting] == [kind] * number
        told = (f"waiting in {str(folder.path)!r} for answers, {number}:", f"`trace-agents run --resume {root}`")
        assert all(part in printed for part in (*told, *(one.id for one in waiting)))
        assert not (root / "capabilities.json").exists()
        reader = reader or Statistician(trajectories_of(root))
        for one in waiting:
            folder.answer(one.id, reader.answer(one), by="a statistician")
        command = ["run", "--resume", str(root)]
    asyncio.run(to_environments(root))


def trajectories_of(root: Path) -> list[Trajectory]:
    store = RunStore.open(root, write=False)
    return [one for one in read_trajectories(Run(store.config, store, SilentProgress())) if one.success is not None]


async def to_environments(root: Path) -> None:
    """The run's next two stages find the answers, and an environment for each capability of the reader."""
    with RunStore.open(root) as store:
        run = Run(store.config, store, SilentProgress())
        await analyse(run)
        assert "analysis" in store.stages
        found = kept(run)
        assert len(found) == 2
        assert all(one.capability.name.startswith("read-") and one.capability.statement for one in found)
        notes = store.read_json(FILE, AnalystNotes)
        assert notes.answered_by == {"a statistician": 3}
        await build_environments(run)
        assert set(manifests(run)) == {one.capability.name for one in found}
