"""The validation kit: its worlds, its matching by behaviour, and that contrast is what finds planted deficits."""

from __future__ import annotations

import pytest

from trace_agents.analysis.catalog import survey
from trace_agents.analysis.guards import guards_together, judge_guards
from trace_agents.analysis.mining import propose
from trace_agents.analysis.statements import Refrain
from trace_agents.analysis.validation.ablations import Contrastive, failures_only, proposals
from trace_agents.analysis.validation.domains import DOMAINS, HELD_OUT
from trace_agents.analysis.validation.kit import Validation, recovery
from trace_agents.analysis.validation.measure import Claim, Truth, matches, score, spearman, truths
from trace_agents.analysis.validation.play import Domain, deal
from trace_agents.analysis.views import read
from trace_agents.cli import main
from trace_agents.contrast import Thresholds
from trace_agents.types import Trajectory

TEN = Thresholds.for_runs(10)
WORLDS = pytest.mark.parametrize("domain", [*DOMAINS, *HELD_OUT], ids=lambda domain: domain.name)


@WORLDS
def test_a_world_deals_the_same_trajectories_for_the_same_seed_and_others_for_another(domain: Domain) -> None:
    assert deal(domain, 3, tasks=14, trials=2) == deal(domain, 3, tasks=14, trials=2)
    assert deal(domain, 3, tasks=14, trials=2) != deal(domain, 4, tasks=14, trials=2)


@WORLDS
def test_what_is_lacking_mostly_fails_and_trajectories_tell_nothing_of_it(domain: Domain) -> None:
    dealt = deal(domain, 0)
    succeeded = {one.id: one.success for one in dealt.trajectories}
    for deficit, labels in dealt.lacking.items():
        lacking = [identity for identity, lacks in labels.items() if lacks]
        assert len(lacking) >= 10, deficit
        assert sum(bool(succeeded[identity]) for identity in lacking) <= 0.1 * len(lacking) + 1
    assert not any(one.info or one.agent or one.environment for one in dealt.trajectories)


def test_worlds_share_no_tool() -> None:
    tools = [
        {call.name for one in deal(domain, 0).trajectories for message in one.messages for call in message.tool_calls}
        for domain in (*DOMAINS, *HELD_OUT)
    ]
    assert sum(map(len, tools)) == len(set().union(*tools))


def test_filling_up_makes_trajectories_longer_and_leaves_the_deficits_in() -> None:
    dealt = deal(DOMAINS[0], 0, tasks=12, trials=2, messages=30)
    assert all(30 <= len(one.messages) <= 50 for one in dealt.trajectories)
    assert any(any(labels.values()) for labels in dealt.lacking.values())


def claim(title: str, *lacking: str) -> Claim:
    return Claim(title=title, coverage=0.1 * len(lacking), lacking=frozenset(lacking))


def truth(*lacking: str, due: bool = True) -> Truth:
    return Truth(coverage=0.1 * len(lacking), due=due, lacking=frozenset(lacking))


def test_claims_are_matched_by_whom_they_call_lacking_and_each_deficit_once() -> None:
    found = {"one": truth("a", "b", "c", "d"), "two": truth("x", "y"), "rare": truth("q", due=False)}
    claims = [claim("nothing like it", "a", "b", "c"), claim("the same again", "a", "b", "c", "d"), claim("two", "m")]
    assert {deficit: one.title for deficit, one in matches(claims, found).items()} == {"one": "the same again"}
    scored = score("world", 0, claims, found)
    assert (scored.precision, scored.recall) == (1 / 3, 1 / 2)
    assert scored.unmatched == ("nothing like it", "two")


def test_no_claim_at_all_has_no_precision_and_no_recall() -> None:
    scored = score("world", 0, [], {"one": truth("a")})
    assert (scored.precision, scored.recall, scored.rank_correlation) == (None, 0.0, None)


@pytest.mark.parametrize(
    ("one", "two", "rho"),
    [([1, 2, 3], [10, 20, 30], 1.0), ([1, 2, 3], [3, 2, 1], -1.0), ([1, 2, 3, 4], [1, 3, 2, 4], 0.8)],
)
def test_spearman_by_hand(one: list[float], two: list[float], rho: float) -> None:
    assert spearman(one, two) == pytest.approx(rho)


def test_contrast_finds_what_was_planted_where_failures_alone_do_not() -> None:
    dealt = deal(DOMAINS[2], 0)
    trajectories = dealt.trajectories
    analysed = Contrastive.discovered(trajectories, 0)
    found = truths(dealt, analysed.draws(TEN), TEN)
    contrast = score("home", 0, analysed.claims(TEN), found)
    alone = score("home", 0, failures_only(proposals(trajectories), trajectories, TEN), found)
    assert contrast.precision == contrast.recall == 1.0
    assert (alone.precision or 0) <= 0.75


def test_guards_judged_together_are_judged_as_each_one_alone() -> None:
    trajectories: tuple[Trajectory, ...] = deal(DOMAINS[0], 1, tasks=22, trials=2).trajectories
    views = [read(one) for one in trajectories]
    guards = [one for one in propose(views, survey(views)) if isinstance(one, Refrain) and one.facts]
    assert len(guards) > 50
    for group in guards_together(guards):
        together = [guards[index] for index in group]
        for view, found in zip(views, judge_guards(together, views), strict=True):
            assert found == [guard.judge(view) for guard in together]


def test_labelling_runs_bear_out_the_top_four_whatever_their_order_in_each() -> None:
    ranked, swapped, short = list("abcde"), list("abced"), list("abce")
    found = recovery("world", 0, list("abcd"), [ranked] * 5 + [swapped] * 4 + [short])
    assert found.frequency == {"a": 1.0, "b": 1.0, "c": 1.0, "d": 0.9}
    assert found.together == 0.9
    assert found.same_top == 0.5


def test_an_analysis_that_keeps_nothing_has_nothing_to_bear_out() -> None:
    found = recovery("world", 0, [], [[], ["a"], []])
    assert (found.frequency, found.together, found.same_top) == ({}, 0.0, 2 / 3)


def test_each_labelling_run_selects_by_its_own_figures() -> None:
    analysed = Contrastive.discovered(deal(DOMAINS[0], 2).trajectories, 2)
    kept = [claim.title for claim in analysed.claims(TEN)]
    runs = analysed.selections(TEN)
    assert len(runs) == 10
    assert {title for title in kept if sum(title in run for run in runs) >= 8} == set(kept)
    found = recovery("clinic", 2, kept[:4], runs)
    assert found.together >= 0.8
    assert min(found.frequency.values()) >= 0.8


@pytest.mark.parametrize("world", ["clinic", "fleet"])
def test_the_command_line_measures_one_world_without_a_file(world: str, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["analyze", "--validate", "--worlds", world, "--seeds", "1"]
    assert main([*asked, "--json"]) == 0
    found = Validation.model_validate_json(capsys.readouterr().out)
    developed = world in {domain.name for domain in DOMAINS}
    measured, other = (found.developed, found.held_out) if developed else (found.held_out, found.developed)
    assert {(one.domain, one.seed) for summary in measured for one in summary.scores} == {(world, 0)}
    assert not any(summary.scores for summary in other)
    assert [one.domain for one in found.stability] == ([world] if developed else [])
    assert [(one.domain, one.seed) for one in found.recovery] == [(world, 0)]
    assert found.recovery[0].together >= 0.8


def test_the_command_line_prints_a_table_of_the_worlds_it_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", "--validate", "--worlds", "fleet", "--seeds", "1"]) == 0
    printed = capsys.readouterr().out
    assert "held-out domains" in printed
    assert "contrast, 10 runs" in printed
    assert "select all four" in printed
    assert "developed with" not in printed


def test_a_world_that_is_none_is_named_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", "--validate", "--worlds", "moon"]) == 2
    assert "unknown world 'moon': use one of 'archive'" in capsys.readouterr().err
