"""An analysis handed off: it asks, stops or waits, takes answers in as they come, and refuses what does not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mcp.client import Client
from reading_model import read, talks

from graphs.analysis import AnalysisConfig, arun_analysis
from graphs.analysts.handoff import AnswersWanted, HandoffMind
from graphs.analysts.language import LanguageAnalyst, LanguageConfig
from graphs.analysts.notes import notes_on
from mcp_servers.handoff import handoff_server
from trace_agents.analysis.handoff import HandoffFolder
from trace_agents.analysis.results import Analysis
from trace_agents.contrast import Thresholds
from trace_agents.errors import UsageError

THREE = AnalysisConfig(thresholds=Thresholds.for_runs(3))


async def analyse(folder: Path, config: AnalysisConfig = THREE, **options) -> Analysis:
    reader = LanguageAnalyst(HandoffMind(folder, **options))
    return await arun_analysis(talks(), reader, config, checkpoint=folder / "analysis.sqlite")


async def test_it_stops_where_answers_are_missing_and_goes_on_when_they_came(tmp_path: Path) -> None:
    folder = HandoffFolder(tmp_path)
    with pytest.raises(AnswersWanted) as waiting:
        await analyse(tmp_path)
    (discovery,) = folder.open()
    assert waiting.value.requests == (discovery.id,)
    assert (tmp_path / "requests" / f"{discovery.id}.md").read_text() == discovery.prompt + "\n"
    folder.answer(discovery.id, read(discovery.prompt), by="a test")

    with pytest.raises(AnswersWanted) as waiting:
        await analyse(tmp_path)
    assert [one.kind for one in folder.open()] == ["label"] * 3
    first, second, third = folder.open()
    folder.answer(second.id, read(second.prompt), by="a test")
    written = tmp_path / "answers" / f"{third.id}.json"
    written.write_text(json.dumps(read(third.prompt)))

    with pytest.raises(AnswersWanted) as waiting:
        await analyse(tmp_path)
    assert waiting.value.requests == (first.id,)
    folder.answer(first.id, read(first.prompt), by="another")
    analysis = await analyse(tmp_path)
    assert [one.capability.name for one in analysis.kept] == ["check-owner"]
    notes = notes_on(analysis, LanguageAnalyst(HandoffMind(tmp_path)))
    assert notes.answered_by == {"a test": 2, "another": 1, "unnamed": 1}
    assert (await analyse(tmp_path)) == analysis


async def test_waiting_it_takes_answers_in_as_an_mcp_client_gives_them(tmp_path: Path) -> None:
    asked: list[str] = []

    async def answer_one(seconds: float) -> None:
        """Stands where the analysis pauses: an agent answers one request meanwhile."""
        async with Client(handoff_server(HandoffFolder.existing(tmp_path)), cache=None) as agent:
            listed = json.loads((await agent.call_tool("list_requests", {})).content[0].text)["open"]
            identity = listed[0]["id"]
            asked.append(listed[0]["kind"])
            text, offset = "", 0
            while offset < listed[0]["characters"]:
                part = (await agent.call_tool("read_request", {"id": identity, "offset": offset})).content[0].text
                body, _, _ = part.rpartition("\n\n[characters ")
                text, offset = text + body, offset + len(body)
            given = await agent.call_tool("answer_request", {"id": identity, "answer": read(text)})
            assert not given.is_error

    analysis = await analyse(tmp_path, wait=True, pause=answer_one)
    assert asked == ["discover", "label", "label", "label"]
    assert len(analysis.kept) == 1


async def test_a_dictionary_merged_in_rounds_asks_for_one_merge_after_another(tmp_path: Path) -> None:
    folder, some, one_run = HandoffFolder(tmp_path), talks(tasks=60), AnalysisConfig(thresholds=Thresholds.for_runs(1))
    merging: list[int] = []
    while True:
        reader = LanguageAnalyst(HandoffMind(tmp_path), LanguageConfig(context_tokens=4000, candidates=6))
        try:
            analysis = await arun_analysis(some, reader, one_run, checkpoint=tmp_path / "analysis.sqlite")
            break
        except AnswersWanted:
            waiting = folder.open()
            merging += [len(waiting)] * (waiting[0].kind == "merge")
            for request in waiting:
                folder.answer(request.id, read(request.prompt))
    assert len(merging) > 1
    assert set(merging) == {1}
    assert [one.capability.name for one in analysis.kept] == ["check-owner"]


async def test_an_answer_file_that_does_not_fit_stays_open_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(AnswersWanted):
        await analyse(tmp_path)
    folder = HandoffFolder(tmp_path)
    (discovery,) = folder.open()
    path = tmp_path / "answers" / f"{discovery.id}.json"
    for text, reason in (("{", "no JSON object"), ("{}", "the answer: 'capabilities' is missing")):
        path.write_text(text)
        with pytest.raises(AnswersWanted):
            await analyse(tmp_path)
        assert reason in folder.refusals()[discovery.id]
    path.write_text(json.dumps(read(discovery.prompt)))
    with pytest.raises(AnswersWanted) as waiting:
        await analyse(tmp_path)
    assert len(waiting.value.requests) == 3


async def test_a_folder_belongs_to_one_analysis(tmp_path: Path) -> None:
    with pytest.raises(AnswersWanted):
        await analyse(tmp_path)
    with pytest.raises(UsageError, match="belongs to another analysis"):
        await analyse(tmp_path, AnalysisConfig(thresholds=Thresholds.for_runs(4)))
    with pytest.raises(AnswersWanted):  # How many tasks go at once is no part of what is asked.
        await analyse(tmp_path, THREE.model_copy(update={"concurrency": 1}))
    other = LanguageAnalyst(HandoffMind(tmp_path), LanguageConfig(seed=1))
    with pytest.raises(UsageError, match="belongs to another analysis"):
        await arun_analysis(talks(), other, THREE, checkpoint=tmp_path / "other.sqlite")
