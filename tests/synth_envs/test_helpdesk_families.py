"""The desk's families: what their rewards pay for, and what they do not."""

import json
import os
import re
import subprocess
import sys
from statistics import fmean

import pytest

from mcp_servers.helpdesk import Helpdesk
from mcp_servers.helpdesk.expert import gold_actions
from mcp_servers.helpdesk.scenario import Kind, Need, Scenario
from synth_envs.contract import Family, targeted_tasks
from synth_envs.helpdesk import FAMILIES, AllRequests, DeskFamily, Eligibility, RefundMethod, TellArrival, Unlock
from synth_envs.policies import SHORTCUTS, play, scripted
from trace_agents.environment import SyntheticEnvironment
from trace_agents.errors import UsageError
from trace_agents.types import Capability, Evaluation, TaskInstance, ToolCall, Trajectory

SEEDS = range(120)
MADE = [family() for family in FAMILIES]
PARTS = pytest.mark.parametrize("family", MADE, ids=lambda family: family.slug)


def scenario_of(task: TaskInstance) -> Scenario:
    return Scenario.model_validate(task.data)


def call(tool: str, **arguments: str) -> ToolCall:
    return ToolCall(name=tool, arguments=arguments)


async def reward(family: DeskFamily, task: TaskInstance, *actions: ToolCall | str) -> float:
    return (await play(family.environment(), task, scripted(actions))).reward


def only(family: DeskFamily, kind: Kind, targeted: bool = True) -> tuple[TaskInstance, Scenario]:
    """A task of one complete request."""
    environment = family.environment()
    for task in map(environment.generate, range(500)):
        scenario = scenario_of(task)
        if len(scenario.requests) == 1 and not scenario.omitted and family.targets(task) is targeted:
            assert scenario.requests[0].kind is kind
            return task, scenario
    raise AssertionError("no such task")


@PARTS
def test_a_family_keeps_the_contract_and_its_environment_keeps_the_environments(family):
    assert isinstance(family, Family)
    assert isinstance(family.environment(), SyntheticEnvironment)
    assert family.environment().capability == family.capability


@PARTS
async def test_every_other_capability_may_lapse_without_a_loss(family):
    for task in map(family.environment().generate, SEEDS):
        for lapse in set(Need) - {family.need}:
            actions = list(gold_actions(scenario_of(task), lapses={lapse}))
            assert await reward(family, task, *actions) == 1.0, (task.id, lapse)


@PARTS
async def test_exactly_the_capability_separates_success_from_failure(family):
    environment = family.environment()
    for task in map(environment.generate, SEEDS):
        lapsed = await play(environment, task, scripted(family.counterexample(task)))
        assert lapsed.success is not family.targets(task), task.id
        assert lapsed.reward <= 0.3 or lapsed.success


@PARTS
async def test_what_succeeds_here_and_gets_all_else_right_succeeds_in_the_target(family):
    """The oracle's conversation is judged a success by the target's own judge too."""
    desk = Helpdesk()
    for task in map(family.environment().generate, SEEDS):
        episode = await desk.start(task)
        played = await play(family.environment(), task, scripted(family.environment().oracle(task)))
        for message in played.messages:
            for made in message.tool_calls:
                await episode.call(made.name, made.arguments)
        assert (await episode.evaluate(played.messages)).success, task.id


@PARTS
async def test_no_shortcut_beats_an_agent_that_exercises_the_capability_one_time_in_six(family):
    environment = family.environment()
    tasks = list(targeted_tasks(family, environment, SEEDS))
    tools = (await environment.start(tasks[0])).tools
    tries = []
    for index, task in enumerate(tasks):
        actions = family.counterexample(task) if index % 6 else environment.oracle(task)
        tries.append(await reward(family, task, *actions))
    for name, policy in SHORTCUTS.items():
        paid = fmean([(await play(environment, task, policy(environment, task, tools))).reward for task in tasks])
        assert paid <= fmean(tries) - 0.03, name


@PARTS
async def test_half_done_pays_between_nothing_and_the_whole_so_that_groups_vary(family):
    environment = family.environment()
    for task in targeted_tasks(family, environment, range(30)):
        levels = {
            await reward(family, task, *environment.oracle(task)),
            await reward(family, task, *family.counterexample(task)),
            await reward(family, task),
        }
        assert len(levels) == 3, task.id


@PARTS
async def test_a_change_that_nobody_asked_for_costs_the_success(family):
    environment = family.environment()
    for task in map(environment.generate, range(40)):
        scenario = scenario_of(task)
        bystander = next(n for n in scenario.state["orders"] if n not in {r.order_id for r in scenario.requests})
        for extra in (call("cancel_order", order_id=bystander), call("transfer_to_human", reason="to be sure")):
            verdict = await play(environment, task, scripted([extra, *environment.oracle(task)]))
            assert (verdict.reward, verdict.success) == (0.6, False)
            assert await reward(family, task, extra) == 0


@PARTS
def test_a_task_depends_on_its_seed_alone_in_any_process(family):
    code = (
        f"from synth_envs.helpdesk import {type(family).__name__} as F; import hashlib\n"
        "text = ''.join(t.model_dump_json() for t in map(F().environment().generate, range(40)))\n"
        "print(hashlib.sha256(text.encode()).hexdigest())"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]


@PARTS
def test_seeds_differ_and_no_task_is_one_of_the_target(family):
    tasks = [family.environment().generate(seed) for seed in range(500)]
    assert len({task.prompt for task in tasks}) > 450
    desk = Helpdesk()
    taken = {json.dumps(t.data["state"], sort_keys=True) for split in desk.splits for t in desk.tasks(split)}
    assert not taken & {json.dumps(task.data["state"], sort_keys=True) for task in tasks}


@PARTS
def test_the_mix_sets_the_shares(family):
    alone = type(family)(balance=0, compound=0, omit=0)
    tasks = [alone.environment().generate(seed) for seed in range(100)]
    assert all(alone.targets(task) for task in tasks)
    assert {len(scenario_of(task).requests) for task in tasks} == {2 if family.need is Need.ALL_REQUESTS else 1}
    assert not any(scenario_of(task).omitted for task in tasks)
    if family.has_balance:
        balanced = type(family)(balance=0.5).environment()
        share = fmean(family.targets(balanced.generate(seed)) for seed in range(400))
        assert 0.4 < share < 0.6


@pytest.mark.parametrize("family", [Eligibility, RefundMethod, Unlock, TellArrival])
def test_in_compound_tasks_the_request_comes_first_or_last_as_the_mix_says(family):
    for last in (0.0, 1.0):
        made = family(compound=1.0, last=last)
        for task in map(made.environment().generate, range(60)):
            requests, needs = scenario_of(task).requests, set(task.capabilities)
            assert len(requests) == 2
            assert needs <= {family.need, Need.ALL_REQUESTS, Need.ITEM_BY_NAME}
            own = {Eligibility: "cancel", RefundMethod: "return", Unlock: "address", TellArrival: "track"}[family]
            assert requests[-1 if last else 0].kind == own


@pytest.mark.parametrize("shares", [{"balance": 1.0}, {"compound": -0.1}, {"omit": "often"}, {"colour": 0.5}])
def test_a_bad_mix_is_a_usage_error_that_names_the_parameter(shares):
    with pytest.raises(UsageError, match=f"{next(iter(shares))!r}.*'unlock'"):
        Unlock(**shares)


def test_a_family_without_balance_cases_refuses_a_share_of_them():
    with pytest.raises(UsageError, match=r"balance = 0.2 of family 'tell-arrival'"):
        TellArrival(balance=0.2)


@pytest.mark.parametrize("bad", ["seed--1", "test-000", "seed-x", "7"])
def test_an_unknown_task_id_is_a_usage_error(bad):
    environment = Unlock().environment()
    with pytest.raises(UsageError, match=re.escape(repr(bad))):
        environment.task(bad)
    with pytest.raises(UsageError, match="'train'"):
        environment.tasks("train")
    assert environment.task("seed-5") == environment.generate(5)


def test_an_environment_takes_the_mined_capability_as_its_own():
    mined = Capability(name="retry-after-lock", description="Mined.")
    environment = Unlock().environment(mined)
    assert (environment.name, environment.capability) == ("synth/retry-after-lock", mined)
    assert environment.generate(3).data == Unlock().environment().generate(3).data


def test_easier_takes_away_what_is_around_the_capability_and_then_ends():
    easier = Unlock(balance=0.4, compound=0.5).easier()
    assert easier.parameters == {"balance": 0.4, "compound": 0.0, "last": 0.0, "omit": 0.0}
    assert easier.easier() is None


# Rewards, level by level.


async def test_eligibility_pays_for_looking_and_for_refusing_with_the_reason():
    family = Eligibility()
    task, scenario = only(family, Kind.CANCEL)
    number = scenario.requests[0].order_id
    look, cancel = call("get_order", order_id=number), call("cancel_order", order_id=number)
    refusal = f"Sorry, order {number} has already shipped."
    assert await reward(family, task, look, refusal) == 1.0
    assert await reward(family, task, look, "Sorry, that is not possible.") == 0.1
    assert await reward(family, task, look, cancel, refusal) == 0.1
    assert await reward(family, task, cancel, look, refusal) == 0.0
    assert await reward(family, task, refusal) == 0.0


async def test_eligibility_pays_for_cancelling_what_may_be_cancelled_once_it_was_looked_up():
    family = Eligibility()
    task, scenario = only(family, Kind.CANCEL, targeted=False)
    number = scenario.requests[0].order_id
    look, cancel = call("get_order", order_id=number), call("cancel_order", order_id=number)
    assert await reward(family, task, look, cancel, "Done.") == 1.0
    assert await reward(family, task, cancel, "Done.") == 0.3
    assert await reward(family, task, look, "Sorry, it has already shipped.") == 0.1
    assert await reward(family, task, "Sorry, it has already shipped.") == 0.0


async def test_refund_method_pays_for_the_method_that_was_looked_up():
    family = RefundMethod()
    task, scenario = only(family, Kind.RETURN)
    request = scenario.requests[0]
    order = scenario.state["orders"][request.order_id]
    look = call("get_order", order_id=request.order_id)

    def back(to: str, item: str = request.item) -> ToolCall:
        return call("return_item", order_id=request.order_id, item=item, refund_to=to)

    assert await reward(family, task, look, back(order["paid_with"])) == 1.0
    assert await reward(family, task, look, back("store credit")) == 0.2
    assert await reward(family, task, back(order["paid_with"])) == 0.1
    assert await reward(family, task, look) == 0.1


async def test_refund_method_is_exercised_with_a_slip_where_the_item_is_the_wrong_one():
    family = RefundMethod(compound=0, omit=0)
    tasks = targeted_tasks(family, family.environment(), SEEDS)
    task = next(task for task in tasks if Need.ITEM_BY_NAME in task.capabilities)
    request = scenario_of(task).requests[0]
    order = scenario_of(task).state["orders"][request.order_id]
    other = next(item["name"] for item in order["items"] if item["name"] != request.item)
    look = call("get_order", order_id=request.order_id)
    wrong = call("return_item", order_id=request.order_id, item=other, refund_to=order["paid_with"])
    assert await reward(family, task, look, wrong) == 0.6


async def test_unlock_pays_step_by_step_and_not_for_unlocking_blindly():
    family = Unlock()
    task, scenario = only(family, Kind.ADDRESS)
    request = scenario.requests[0]
    change = call("change_address", order_id=request.order_id, address=request.address)
    astray = call("change_address", order_id=request.order_id, address="1 Wrong Way")
    unlock = call("unlock_order", order_id=request.order_id)
    assert await reward(family, task, change, unlock, change) == 1.0
    assert await reward(family, task, change, unlock, astray) == 0.6
    assert await reward(family, task, change, unlock) == 0.2
    assert await reward(family, task, change) == 0.1
    assert await reward(family, task, unlock, change) == 0.1
    assert await reward(family, task, unlock) == 0.0


async def test_unlocking_what_is_not_locked_pays_nothing():
    family = Unlock()
    task, scenario = only(family, Kind.ADDRESS, targeted=False)
    request = scenario.requests[0]
    change = call("change_address", order_id=request.order_id, address=request.address)
    unlock = call("unlock_order", order_id=request.order_id)
    assert await reward(family, task, change) == 1.0
    assert await reward(family, task, unlock, change) == 0.0
    assert await reward(family, task, change, unlock) == 0.0


async def test_tell_arrival_pays_for_the_day_that_tracking_gave():
    family = TellArrival()
    task, scenario = only(family, Kind.TRACK)
    number = scenario.requests[0].order_id
    day, look = scenario.state["orders"][number]["arrives"], call("track_shipment", order_id=number)
    assert await reward(family, task, look, f"It arrives on {day}.") == 1.0
    assert await reward(family, task, look, "It is on its way.") == 0.15
    assert await reward(family, task, f"It arrives on {day}.") == 0.0


async def test_all_requests_pays_for_each_request_that_is_taken_up():
    family = AllRequests(balance=0, compound=0)
    environment = family.environment()
    for task in map(environment.generate, range(30)):
        assert await reward(family, task, *family.counterexample(task)) == 0.15
        assert await reward(family, task, *environment.oracle(task)) == 1.0


async def test_all_requests_slips_on_a_wrong_detail_but_not_on_a_wrong_refund():
    family = AllRequests(balance=0, compound=1)
    environment = family.environment()
    tasks = [environment.generate(seed) for seed in range(200)]
    task = next(t for t in tasks if {r.kind for r in scenario_of(t).requests} == {Kind.RETURN, Kind.EXCHANGE})

    def altered(**arguments: str) -> list[ToolCall | str]:
        return [
            a.model_copy(update={"arguments": a.arguments | {k: v for k, v in arguments.items() if k in a.arguments}})
            if isinstance(a, ToolCall)
            else a
            for a in environment.oracle(task)
        ]

    wanted = next(r.size for r in scenario_of(task).requests if r.size)
    assert await reward(family, task, *altered(refund_to="store credit")) == 1.0
    assert await reward(family, task, *altered(size="S" if wanted != "S" else "M")) == 0.6


async def test_a_verdict_says_what_its_reward_is_made_of():
    family = Unlock()
    played: Trajectory = await play(family.environment(), only(family, Kind.ADDRESS)[0], scripted([]))
    assert played.info["breakdown"] == {"exercised": 0.0, "progress": 0.0, "clean": 1.0}
    assert Evaluation(reward=played.reward, success=played.success).reward == 0
