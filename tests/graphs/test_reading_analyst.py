"""The analyst that reads: what a chat model is asked, what is asked again, and what is never asked twice."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from reading_model import CAPABILITIES, ReadingModel, talk, talks

from graphs.analysis import AnalysisConfig, arun_analysis
from graphs.analysts.batches import deal, fill
from graphs.analysts.chat import ChatConfig, ChatMind
from graphs.analysts.language import LanguageAnalyst, LanguageConfig, evidence_from
from graphs.analysts.merging import merged
from graphs.analysts.mind import Mind
from graphs.analysts.notes import notes_on
from trace_agents.analysis.agreement import cohen
from trace_agents.analysis.analyst import BatchedAnalyst, Discovered
from trace_agents.analysis.requests import Prices, Usage
from trace_agents.analysis.statistical import StatisticalAnalyst
from trace_agents.contrast import Thresholds
from trace_agents.errors import InfrastructureError, UsageError
from trace_agents.types import Capability

THREE = AnalysisConfig(thresholds=Thresholds.for_runs(3), concurrency=1)


def analyst(model: ReadingModel, config: LanguageConfig | None = None, chat: ChatConfig | None = None):
    waits: list[float] = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)

    made = LanguageAnalyst(ChatMind(model, "reading", chat, wait), config)
    made.waits = waits  # type: ignore[attr-defined]
    return made


def prompts(model: ReadingModel, kind: str) -> list[str]:
    marks = {"discover": '"examples"', "merge": '"merges"', "label": '"labels"'}
    return [str(said[0].content) for said in model.asked if marks[kind] in str(said[0].content)]


def test_the_reader_fits_the_seams() -> None:
    reader = analyst(ReadingModel())
    assert isinstance(reader, BatchedAnalyst)
    assert isinstance(reader.mind, Mind)
    assert not isinstance(StatisticalAnalyst(), BatchedAnalyst)


async def test_a_reader_finds_what_is_lacking_with_its_deciding_steps() -> None:
    model = ReadingModel()
    reader = analyst(model)
    analysis = await arun_analysis(talks(), reader, THREE.model_copy(update={"batch": 14}))
    (kept,) = analysis.kept
    assert kept.capability.name == "check-owner"
    assert kept.selection.passes == 3
    assert kept.overall.lacking_failed == 14
    assert {one.step for one in kept.evidence} == {2}
    assert all(name in {one.id for one in talks()} for name in kept.examples)
    assert (len(prompts(model, "discover")), len(prompts(model, "merge"))) == (1, 0)
    assert len(prompts(model, "label")) == 9
    assert reader.spent().answered == 10


async def test_labelling_is_blind_to_outcomes_and_every_run_has_its_own_order() -> None:
    model = ReadingModel()
    await arun_analysis(talks(), analyst(model), THREE)
    discovery, labelling = prompts(model, "discover"), prompts(model, "label")
    assert "FAILED" in discovery[0]
    assert not any("FAILED" in text or "succeeded," in text or "reward 1" in text for text in labelling)
    shown = [re.findall(r"user: It is about the door of (\S+)", text) for text in labelling]
    assert len({tuple(order) for order in shown}) == 3
    assert len({tuple(sorted(order)) for order in shown}) == 1


async def test_what_exceeds_the_context_is_discovered_in_parts_and_merged_into_one_dictionary() -> None:
    model = ReadingModel()
    reader = analyst(model, LanguageConfig(context_tokens=6500))
    analysis = await arun_analysis(talks(), reader, THREE)
    parts = prompts(model, "discover")
    assert len(parts) > 1
    assert all("FAILED" in text and "succeeded" in text for text in parts)
    assert all(len(text) / 3 < 6500 for text in parts + prompts(model, "label"))
    assert len(prompts(model, "merge")) == 1
    assert {one.capability.name for one in analysis.summary.capabilities} == set(CAPABILITIES)
    merged = {one.capability.name: one.figures["candidates_merged"] for one in analysis.summary.capabilities}
    assert merged == dict.fromkeys(CAPABILITIES, len(parts))


async def test_a_trajectory_larger_than_the_context_is_refused_with_the_remedy() -> None:
    with pytest.raises(UsageError, match=r"more than --context-tokens 2000: give \d000 or more"):
        await arun_analysis(talks(), analyst(ReadingModel(), LanguageConfig(context_tokens=2000)), THREE)


async def test_what_no_request_could_hold_is_refused_before_discovery_with_a_remedy_that_works() -> None:
    model, context, refusals = ReadingModel(), 1000, []
    while not model.asked:
        try:
            settings = LanguageConfig(context_tokens=context, candidates=30)
            await arun_analysis(talks(), analyst(model, settings), THREE)
        except UsageError as error:
            assert not model.asked
            refusals.append(str(error))
            found = re.search(r"trajectory '(\S+)' takes about \d+ tokens .* give (\d+) or more", str(error))
            assert found is not None
            assert found.group(1) in {one.id for one in talks()}
            context = int(found.group(2))
    assert len(refusals) == 2  # For discovery, and for labelling with the longest dictionary that may come of it.
    assert prompts(model, "label")


async def test_candidates_too_many_for_one_request_are_merged_in_rounds_and_cut_where_two_parts_are() -> None:
    def part(number: int) -> list[Discovered]:
        entries = [
            Capability(name=name, title=title, description=f"{number}: {text * 8}")
            for name, (title, text) in CAPABILITIES.items()
        ]
        return [Discovered(capability=one, examples=(f"{one.name}-{number}",)) for one in entries]

    parts = [part(number) for number in range(24)]
    for context, asked in ((20_000, 1), (7000, 3 + 1), (4000, 12 + 2)):
        model = ReadingModel()
        found = await merged(ChatMind(model, "reading"), parts, context, 10)
        merges = {one.capability.name: one.figures["candidates_merged"] for one in found}
        assert merges == dict.fromkeys(CAPABILITIES, 24)
        assert all(len(one.examples) == 4 for one in found)
        assert len(model.asked) == asked
        assert all(len(text) / 3 + 10 * 250 <= context for text in prompts(model, "merge"))
        assert any("characters)" in text for text in prompts(model, "merge")) == (context == 4000)


async def test_an_answer_that_does_not_fit_is_asked_again_with_the_reason() -> None:
    wrong = '{"capabilities": {"Check Owner": {"title": "Check", "description": "too short", "examples": ["T99"]}}}'
    twice = '{"capabilities": {"a": 1, "a": 2}}'
    model = ReadingModel(before=["no idea", wrong, twice])
    reader = analyst(model)
    await arun_analysis(talks(), reader, THREE)
    reasons = [str(said[-1].content) for said in model.asked[1:4]]
    assert "no JSON object in no idea" in reasons[0]
    assert '"Check Owner" where a slug: lower-case words joined by single hyphens is wanted' in reasons[1]
    assert '"too short" where two or three sentences, 20 to 800 characters is wanted' in reasons[1]
    assert '"T99" where a key of a failed trajectory above, such as T6 is wanted' in reasons[1]
    assert "key 'a' occurs twice" in reasons[2]
    assert [len(said) for said in model.asked[:5]] == [1, 3, 3, 3, 1]
    assert reader.spent().refused == 3


async def test_a_model_that_said_nothing_is_asked_again_without_an_empty_turn() -> None:
    model = ReadingModel(before=["", " \n"])
    await arun_analysis(talks(), analyst(model), THREE)
    assert [len(said) for said in model.asked[:4]] == [1, 3, 3, 1]
    assert all(str(turn.content).strip() for said in model.asked for turn in said)


async def test_nonsense_for_ever_ends_in_a_usage_error_and_a_better_model_goes_on(tmp_path: Path) -> None:
    checkpoint = tmp_path / "analysis.sqlite"
    with pytest.raises(
        UsageError, match=r"request 'label-\w+' \(run 1: .*\) got no answer of 'reading' that fits in 2"
    ):
        await arun_analysis(
            talks(), analyst(ReadingModel(nonsense="never"), chat=ChatConfig(attempts=2)), THREE, checkpoint=checkpoint
        )
    model = ReadingModel()
    reader = analyst(model)
    analysis = await arun_analysis(talks(), reader, THREE, checkpoint=checkpoint)
    assert (len(prompts(model, "discover")), len(prompts(model, "label"))) == (0, 3)
    assert len(analysis.kept) == 1
    assert (reader.spent().answered, reader.spent().refused) == (4, 2)


async def test_infrastructure_is_retried_with_growing_waits_and_then_given_up() -> None:
    busy = httpx.HTTPStatusError(
        "busy", request=httpx.Request("POST", "http://x"), response=httpx.Response(429, headers={"retry-after": "7"})
    )
    reader = analyst(ReadingModel(before=[httpx.ConnectError("gone"), InfrastructureError("gone"), busy]))
    await arun_analysis(talks(), reader, THREE)
    assert reader.waits == [1.0, 2.0, 7.0]
    assert reader.spent().retried == 3
    gone = ReadingModel(before=[httpx.ConnectError("gone")] * 3)
    with pytest.raises(InfrastructureError, match="model 'reading' failed 3 times at request 'discover-"):
        await arun_analysis(talks(), analyst(gone, chat=ChatConfig(retries=2)), THREE)


@pytest.mark.parametrize(("status", "remedy"), [(401, "check the key"), (404, "name"), (400, "lower --context-tokens")])
async def test_a_refused_request_names_the_remedy(status: int, remedy: str) -> None:
    refused = httpx.HTTPStatusError("no", request=httpx.Request("POST", "http://x"), response=httpx.Response(status))
    with pytest.raises(UsageError, match=rf"refuses request 'discover-\w+' \({status}: no\): .*{remedy}"):
        await arun_analysis(talks(), analyst(ReadingModel(before=[refused])), THREE)


async def test_a_defect_stays_a_defect() -> None:
    with pytest.raises(ZeroDivisionError):
        await arun_analysis(talks(), analyst(ReadingModel(before=[ZeroDivisionError()])), THREE)


async def test_tokens_and_cost_are_counted_and_unmetered_answers_told() -> None:
    model = ReadingModel()
    reader = analyst(model)
    analysis = await arun_analysis(talks(), reader, THREE)
    notes = notes_on(analysis, reader, Prices(input_per_million=2, output_per_million=10))
    assert notes.usage.input_tokens == sum(len(str(said[0].content)) // 4 for said in model.asked)
    assert notes.cost == pytest.approx((notes.usage.input_tokens * 2 + notes.usage.output_tokens * 10) / 1e6)
    silent = analyst(ReadingModel(metered=False))
    await arun_analysis(talks(), silent, THREE)
    assert silent.spent() == Usage(answered=4, unmetered=4)


async def test_statistics_are_evidence_for_discovery_and_the_notes_say_where_they_agree() -> None:
    trajectories = [one for one in talks(tasks=30, noise=0.0) if int(one.task_id.removeprefix("task-")) % 3]
    statistics = await arun_analysis(trajectories, StatisticalAnalyst(seed=0), THREE)
    evidence = evidence_from(statistics)
    assert evidence
    model = ReadingModel()
    reader = analyst(model, LanguageConfig(evidence=evidence))
    analysis = await arun_analysis(trajectories, reader, THREE)
    (text,) = prompts(model, "discover")
    assert f"{evidence[0].title} (delta {evidence[0].delta}, coverage {evidence[0].coverage})" in text
    assert not any("coverage" in asked for asked in prompts(model, "label"))
    failed = {one.id for one in trajectories if not one.success}
    notes = notes_on(analysis, reader, statistics=statistics, failed=failed)
    assert notes.statistics is not None
    by_name = {one.capability: one for one in notes.statistics}
    assert by_name["check-owner"].agrees
    assert by_name["check-owner"].overlap == pytest.approx(1.0, abs=0.2)
    assert not by_name["tell-price"].agrees
    assert notes.beside == "the statistics keep nothing that the reader does not"


async def test_what_the_statistics_keep_and_the_reader_did_not_name_is_told() -> None:
    trajectories = [one for one in talks(tasks=30, noise=0.0) if int(one.task_id.removeprefix("task-")) % 3]
    statistics = await arun_analysis(trajectories, StatisticalAnalyst(seed=0), THREE)
    reader = analyst(ReadingModel())
    analysis = await arun_analysis(trajectories, reader, THREE)
    (price,) = [one for one in analysis.summary.capabilities if one.capability.name == "tell-price"]
    missed = analysis.model_copy(update={"summary": analysis.summary.model_copy(update={"capabilities": (price,)})})
    failed = {one.id for one in trajectories if not one.success}
    titles = [one.capability.title for one in statistics.kept]
    assert titles
    notes = notes_on(missed, reader, statistics=statistics, failed=failed)
    assert notes.beside == f"the statistics alone keep {'; '.join(f'“{title}”' for title in titles)}"
    assert notes_on(missed, reader).beside is None


def test_cohens_kappa_is_chance_corrected() -> None:
    assert cohen(both=20, first=25, second=30, total=50) == pytest.approx(0.4)
    assert cohen(both=0, first=0, second=0, total=9) is None
    assert cohen(both=5, first=5, second=5, total=10) == 1.0


def test_batches_fill_the_budget_evenly_and_keep_tasks_together() -> None:
    assert fill([10] * 10, budget=40, most=None) == [4, 4, 2]
    assert fill([10] * 9, budget=60, most=None) == [5, 4]
    assert fill([10] * 9, budget=60, most=3) == [3, 3, 3]
    assert fill([], budget=60, most=None) == []
    given = talks(tasks=6)
    batches = deal(given, [10] * 24, budget=90, seed=0)
    assert sorted(index for batch in batches for index in batch) == list(range(24))
    for batch in batches:
        assert len(batch) <= 9
        assert len({given[index].task_id for index in batch}) == len(batch) / 4
    cut = deal([talk("one", trial, (True, True), True) for trial in range(10)], [10] * 10, budget=40, seed=0)
    assert sorted(map(len, cut)) == [2, 4, 4]


async def test_a_reader_who_finds_nothing_ends_without_labelling() -> None:
    model = ReadingModel(before=['{"capabilities": {}}'])
    analysis = await arun_analysis(talks(), analyst(model), THREE)
    assert analysis.summary.capabilities == ()
    assert len(model.asked) == 1
