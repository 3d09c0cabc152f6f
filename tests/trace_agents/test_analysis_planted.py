"""The statistical analyst against planted truth in a domain of the tests' own, with confounders."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from functools import cache

import pytest
from clinic import NEEDS, Clinic
from talks import Call, User, talk

from trace_agents.analysis.analyst import Discovered
from trace_agents.analysis.results import Candidate, Verdicts, conclude
from trace_agents.analysis.statistical import StatisticalAnalyst
from trace_agents.contrast import Thresholds
from trace_agents.errors import UsageError
from trace_agents.types import Label, Message, Trajectory

TEN = Thresholds.for_runs(10)


@cache
def analysed(seed: int) -> tuple[Clinic, list[Trajectory], tuple[Candidate, ...], Verdicts]:
    """A clinic, its trajectories, and what the analysis says of them."""
    clinic = Clinic(seed=seed)
    trajectories = clinic.trajectories()
    return clinic, trajectories, *analyse(trajectories)


def analyse(trajectories: Sequence[Trajectory], seed: int = 0) -> tuple[tuple[Candidate, ...], Verdicts]:
    async def run() -> tuple[tuple[Candidate, ...], Verdicts]:
        analyst = StatisticalAnalyst(seed=seed)
        found: Sequence[Discovered] = await analyst.discover(trajectories)
        dictionary = [entry.capability for entry in found]
        runs = [await analyst.label(analyst.draw(trajectories, run), dictionary, run) for run in range(TEN.runs)]
        return conclude(found, runs, trajectories, TEN), Verdicts(runs)

    return asyncio.run(run())


def agreement(claimed: set[str], actual: set[str]) -> float:
    """F1 of two sets of trajectory ids."""
    return 2 * len(claimed & actual) / max(len(claimed) + len(actual), 1)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_planted_deficits_are_found_each_once_and_nothing_else(seed: int) -> None:
    clinic, trajectories, candidates, verdicts = analysed(seed)
    kept = [candidate.capability.name for candidate in candidates if candidate.selection.kept]
    matched = set()
    for name in kept:
        lacking = {one.id for one in trajectories if verdicts.get(name, one.id)[0] is Label.LACKING}
        scores = {need: agreement(lacking, clinic.lacking[need]) for need in NEEDS}
        best = max(scores, key=lambda need: scores[need])
        assert scores[best] >= 0.8, (name, scores)
        assert best not in matched, f"{best} is found twice"
        matched.add(best)
    failed = sum(not one.success for one in trajectories)
    due = {need for need in NEEDS if len(clinic.lacking[need]) >= 0.12 * failed}
    assert due <= matched


def test_instructions_that_state_no_rule_change_nothing() -> None:
    polite = Message(role="system", content="You are a helpful assistant. Be polite, and look before you answer.")
    _, trajectories, candidates, _ = analysed(1)
    instructed = [one.model_copy(update={"messages": (polite, *one.messages)}) for one in trajectories]
    found, _ = analyse(instructed)
    assert [one.capability.name for one in found] == [one.capability.name for one in candidates]
    assert [one.selection for one in found] == [one.selection for one in candidates]


def test_two_deficits_of_one_trajectory_are_both_named() -> None:
    clinic, _, candidates, verdicts = analysed(1)
    both = clinic.lacking["everything"] & clinic.lacking["tell-result"]
    names = [candidate.capability.name for candidate in candidates if candidate.selection.kept]
    lacked = [sum(verdicts.get(name, one)[0] is Label.LACKING for name in names) for one in both]
    assert len(both) >= 10
    assert sum(count == 2 for count in lacked) >= 0.9 * len(both)


def test_evidence_are_failures_that_lack_the_capability_beside_a_success_that_has_it() -> None:
    _, trajectories, candidates, verdicts = analysed(1)
    by_id = {one.id: one for one in trajectories}
    for candidate in candidates:
        name = candidate.capability.name
        assert len(candidate.evidence) >= 5
        for one in candidate.evidence:
            assert not by_id[one.trajectory_id].success
            assert verdicts.get(name, one.trajectory_id) == (Label.LACKING, one.step)
            assert one.excerpt
            if one.contrast_id is not None:
                assert by_id[one.contrast_id].success
                assert by_id[one.contrast_id].task_id == one.task_id
                assert verdicts.get(name, one.contrast_id)[0] is Label.PRESENT


def test_names_read_like_capabilities() -> None:
    candidates = analysed(1)[2]
    titles = {candidate.capability.title for candidate in candidates}
    assert titles == {
        "Check state before renewing the prescription",
        "Tell the user “value” after getting the lab result",
        "Take “payer” from the “insurer” on record when billing the visit",
        "Recover from “appointment … is on hold” when rescheduling",
        "Handle everything that the user names",
    }
    for candidate in candidates:
        assert candidate.capability.name == candidate.capability.name.lower()
        assert len(candidate.capability.description.split(". ")) >= 2


@pytest.mark.parametrize("seed", range(4))
def test_outcomes_that_chance_decides_give_no_capability(seed: int) -> None:
    rng = random.Random(seed)
    trajectories = [one.model_copy(update={"success": rng.random() < 0.4}) for one in Clinic(seed=seed).trajectories()]
    candidates, _ = analyse(trajectories)
    assert [candidate.capability.title for candidate in candidates] == []


def test_task_difficulty_is_not_taken_for_a_deficit() -> None:
    """Hard tasks use another tool than easy ones; within a task, nothing decides."""
    rng = random.Random(0)
    trajectories = []
    for index in range(40):
        hard = index % 2 == 0
        call = Call("open_old_archive" if hard else "open_archive", {"file": f"F{index}"}, {"pages": 3})
        for trial in range(6):
            good = rng.random() < (0.15 if hard else 0.85)
            trajectories.append(talk(User("Open it."), call, "Open.", task=str(index), trial=trial, success=good))
    assert analyse(trajectories)[0] == ()


def test_one_trial_a_task_is_enough_where_tasks_are_many() -> None:
    clinic = Clinic(seed=5, noise=0.02)
    trajectories = clinic.trajectories(tasks=320, trials=1)
    candidates, verdicts = analyse(trajectories)
    name = next(one.capability.name for one in candidates if one.selection.kept)
    lacking = {one.id for one in trajectories if verdicts.get(name, one.id)[0] is Label.LACKING}
    assert max(agreement(lacking, clinic.lacking[need]) for need in NEEDS) >= 0.8


def test_the_same_trajectories_give_the_same_capabilities() -> None:
    trajectories = Clinic(seed=2).trajectories(tasks=22)
    assert analyse(trajectories)[0] == analyse(trajectories)[0]


@pytest.mark.parametrize("success", [True, False])
def test_one_class_only_is_refused(success: bool) -> None:
    trajectories = [one.model_copy(update={"success": success}) for one in Clinic().trajectories(tasks=11, trials=2)]
    with pytest.raises(UsageError, match="too few to contrast: give 10 or more of each outcome"):
        analyse(trajectories)


def test_runs_draw_their_own_share_of_each_tasks_trials() -> None:
    trajectories = Clinic().trajectories(tasks=11, trials=8)
    analyst = StatisticalAnalyst(seed=3)
    draws = [analyst.draw(trajectories, run) for run in range(10)]
    for draw in draws:
        trials = [sum(one.task_id == f"task-{index:02d}" for one in draw) for index in range(11)]
        assert set(trials) <= {6, 7}
    assert len({tuple(one.id for one in draw) for draw in draws}) == 10
    assert [one.id for one in analyst.draw(trajectories, 4)] == [one.id for one in draws[4]]
