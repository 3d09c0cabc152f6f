"""Families are matched to mined capabilities by behaviour."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth_envs.helpdesk import AllRequests, Eligibility, RefundMethod, TellArrival, Unlock
from synth_envs.match import assign, contrast, fit, match
from trace_agents.analysis.statements import Cover, Fact, NoRepeat, Recover, Refrain, Report, Source, Statement, Use
from trace_agents.errors import UsageError
from trace_agents.types import Capability

FAMILIES = {
    "a": Eligibility(),
    "b": RefundMethod(),
    "c": AllRequests(),
    "d": Unlock(),
    "e": TellArrival(),
}
SHIPPED = Fact(tool="get_order", field="status", value="shipped")
MINED = {
    "a": Refrain(tool="cancel_order", facts=(SHIPPED,)),
    "b": Source(tool="return_item", argument="refund_to", origin="get_order", field="paid_with"),
    "c": Cover(family="order_id", pattern=r"W\d+", least=2),
    "d": Recover(tool="change_address", error="order is locked"),
    "e": Report(tool="track_shipment", field="arrives"),
}


def mined(name: str, statement: Statement | None) -> Capability:
    data = statement.model_dump(mode="json") if statement else None
    return Capability(name=name, description="Mined.", statement=data)


async def test_each_capability_finds_its_family_whatever_it_is_called():
    names = ["unlock", "tell-arrival", "eligibility", "refund-method", "all-requests"]  # Misleading on purpose.
    capabilities = [mined(name, statement) for name, statement in zip(names, MINED.values(), strict=True)]
    matching = await match(capabilities, FAMILIES, range(20))
    assert matching.families == dict(zip(names, MINED, strict=True))
    for name, spec in matching.families.items():
        assert matching.scores[name][spec] == 1.0
        assert all(score < 0.1 for other, score in matching.scores[name].items() if other != spec)


async def test_what_no_family_behaves_like_is_left_unmatched_with_the_reason():
    capabilities = [mined("calm", NoRepeat()), mined("opaque", None), mined("late", MINED["d"])]
    matching = await match(capabilities, FAMILIES, range(12))
    assert matching.families == {"late": "d"}
    assert matching.unmatched(capabilities) == {
        "calm": "no family behaves like its statement",
        "opaque": "it has no checkable statement to compare behaviour by",
    }


async def test_of_two_capabilities_that_one_family_trains_the_better_one_gets_it():
    capabilities = [mined("loose", Use(tools=("unlock_order",))), mined("exact", MINED["d"])]
    matching = await match(capabilities, {"d": Unlock(compound=0)}, range(12))
    assert len(matching.families) == 1
    [reason] = matching.unmatched(capabilities).values()
    assert reason == "family 'd' (1.00) trains another capability that it fits as well or better"


async def test_a_fit_is_presence_when_the_oracle_plays_times_lack_in_the_counterexample():
    behaviour = await contrast(Unlock(), range(12))
    found = fit(mined("any", NoRepeat()), behaviour)
    assert (found.present, found.lacking, found.score) == (1.0, 0.0, 0.0)
    assert fit(mined("retry", MINED["d"]), behaviour).score == 1.0


async def test_balance_cases_take_no_part():
    behaviour = await contrast(Eligibility(balance=0.5), range(40))
    assert len(behaviour.oracle) == len(behaviour.counterexample) < 30
    assert not any(trajectory.success for trajectory in behaviour.counterexample)


async def test_a_statement_of_another_grammar_is_a_usage_error():
    capability = Capability(name="odd", description="Odd.", statement={"kind": "dream"})
    with pytest.raises(UsageError, match="'odd' is not of this grammar"):
        await match([capability], {"d": Unlock()}, range(4))


@given(
    st.lists(st.lists(st.sampled_from([0.0, 0.4, 0.5, 0.7, 0.9, 1.0]), min_size=4, max_size=4), min_size=0, max_size=4)
)
def test_the_assignment_is_the_best_of_all_by_brute_force(table):
    scores = {f"row{i}": dict(zip("wxyz", row, strict=True)) for i, row in enumerate(table)}
    found = assign(scores, 0.5)
    assert len(set(found.values())) == len(found)
    assert all(scores[row][column] >= 0.5 for row, column in found.items())
    best = 0.0
    for columns in itertools.permutations([*"wxyz", *[None] * len(table)], len(table)):
        picked = [(f"row{i}", column) for i, column in enumerate(columns) if column is not None]
        if all(scores[row][column] >= 0.5 for row, column in picked):
            best = max(best, sum(scores[row][column] for row, column in picked))
    assert sum(scores[row][column] for row, column in found.items()) == pytest.approx(best)
