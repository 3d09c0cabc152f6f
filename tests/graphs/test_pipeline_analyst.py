"""A run whose analyst is a chat model: its stage asks the model, keeps the answers, and says what it took."""

from __future__ import annotations

from pathlib import Path

import pytest
from reading_server import ReadingServer, serving

from graphs.analysts.notes import FILE, AnalystNotes
from graphs.pipeline.analysis import analyse
from graphs.pipeline.context import Run
from graphs.pipeline.rollouts import roll_out
from trace_agents.analysis.results import CapabilitiesArtifact
from trace_agents.config import RunConfig
from trace_agents.errors import UsageError
from trace_agents.progress import SilentProgress
from trace_agents.runstore import RunStore

CONFIG = """
version = 1
[target]
environment = "helpdesk"
rollouts_per_task = 1
max_turns = 4
[analysis]
analyst = "MODEL"
runs = 1
keep_in = 1
"""


@pytest.mark.filterwarnings("ignore::FutureWarning")
async def test_a_run_may_have_a_chat_model_as_its_analyst(tmp_path: Path) -> None:
    with serving(ReadingServer()) as server:
        model = f"{server.url}#reader"
        config = RunConfig.parse(CONFIG.replace("MODEL", model))
        with RunStore.create(tmp_path / "run", config) as store:
            run = Run(config, store, SilentProgress())
            await roll_out(run)
            # The reader knows locksmiths only: at the help desk it finds nothing that tells failures apart.
            with pytest.raises(UsageError, match="the analysis kept no capability"):
                await analyse(run)
            asked = len(server.prompts)
            with pytest.raises(UsageError, match="the analysis kept no capability"):
                await analyse(run)
            assert len(server.prompts) == asked
            summary = store.read_json("capabilities.json", CapabilitiesArtifact)
            assert (summary.analyst, len(summary.capabilities)) == (model, 2)
            notes = store.read_json(FILE, AnalystNotes)
            assert notes.usage.answered == asked
