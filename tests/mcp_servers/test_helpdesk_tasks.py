"""The embedded target: its tasks, its gold behaviour, and what its capabilities mean in behaviour."""

import itertools
import json
import os
import random
import re
import subprocess
import sys

import pytest

from mcp_servers.helpdesk import Helpdesk
from mcp_servers.helpdesk.expert import gold_actions
from mcp_servers.helpdesk.scenario import Need, Scenario
from trace_agents.environment import Environment, GroundTruth
from trace_agents.errors import UsageError
from trace_agents.types import Evaluation, Message, TaskInstance, ToolCall

DESK = Helpdesk()
ALL = [task for split in DESK.splits for task in DESK.tasks(split)]
DECIDED = (Need.ELIGIBILITY, Need.REFUND_METHOD, Need.ALL_REQUESTS, Need.UNLOCK, Need.TELL_ARRIVAL)


def scenario_of(task: TaskInstance) -> Scenario:
    return Scenario.model_validate(task.data)


async def play(task: TaskInstance, actions) -> tuple[Evaluation, list[Message]]:
    """Play actions through the episode's contract alone."""
    episode = await DESK.start(task)
    messages = [Message(role="user", content=task.prompt)]
    for action in actions:
        if isinstance(action, str):
            messages.append(Message(role="assistant", content=action))
            turn = await episode.user_turn(action)
            if turn.done:
                break
            messages.append(Message(role="user", content=turn.content))
        else:
            result = await episode.call(action.name, action.arguments)
            messages.append(Message(role="assistant", tool_calls=(action,)))
            messages.append(Message(role="tool", name=action.name, content=result.content, is_error=result.is_error))
    verdict = await episode.evaluate(messages)
    await episode.close()
    return verdict, messages


def test_the_desk_keeps_the_environment_contract():
    assert isinstance(DESK, Environment)
    assert isinstance(DESK, GroundTruth)


async def test_the_gold_behaviour_scores_one_on_every_task_of_every_split():
    failed = [task.id for task in ALL if not (await play(task, gold_actions(scenario_of(task))))[0].success]
    assert failed == []


async def test_the_closing_message_of_the_gold_behaviour_ends_the_conversation_and_no_earlier_one_does():
    for task in ALL:
        actions = list(gold_actions(scenario_of(task)))
        _, messages = await play(task, actions)
        spoken = [message.content for message in messages if message.role == "assistant" and message.content]
        assert spoken == [action for action in actions if isinstance(action, str)], task.id
        assert messages[-1].role == "assistant", task.id


async def test_agents_that_do_nothing_decline_or_claim_success_fail_nearly_always():
    for words in ("", "I am sorry, I cannot help you.", "All done!", "It has shipped."):
        won = sum([(await play(task, [words]))[0].success for task in ALL])
        assert won / len(ALL) < 0.12, words
    assert not any([(await play(task, [_transfer(), "Sorry."]))[0].success for task in ALL])


def _transfer() -> ToolCall:
    return ToolCall(name="transfer_to_human", arguments={"reason": "too hard"})


async def test_an_agent_that_makes_random_calls_fails():
    rng = random.Random(0)
    episode_tools = (await DESK.start(ALL[0])).tools
    won = 0
    for task in ALL:
        values = re.findall(r"W\d{4}|\S+@\S+\w", task.prompt) or ["W1000"]
        calls = []
        for tool in rng.choices(episode_tools, k=3):
            properties = tool.input_schema["properties"]
            arguments = {name: rng.choice(schema.get("enum", values)) for name, schema in properties.items()}
            calls.append(ToolCall(name=tool.name, arguments=arguments))
        won += (await play(task, [*calls, "Done."]))[0].success
    assert won / len(ALL) < 0.02


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(DESK.splits, 2)))
def test_splits_share_no_database_no_customer_and_no_prompt_that_names_anything(one, other):
    """Prompts that leave everything out (`Please cancel my order.`) are alike by nature."""
    for part in (
        lambda task: task.prompt if any(char.isdigit() for char in task.prompt) else task.id,
        lambda task: json.dumps(task.data["state"], sort_keys=True),
        lambda task: (task.data["customer"], task.data["requests"][0]["order_id"]),
    ):
        assert not {part(task) for task in DESK.tasks(one)} & {part(task) for task in DESK.tasks(other)}


def test_generated_tasks_share_no_database_with_any_split():
    generated = {json.dumps(DESK.generate(seed).data["state"], sort_keys=True) for seed in range(1000)}
    assert not generated & {json.dumps(task.data["state"], sort_keys=True) for task in ALL}
    assert len(generated) == 1000


def test_a_task_is_the_same_by_split_and_by_id_and_in_other_processes_whatever_their_hash_seed():
    code = (
        "import hashlib; from mcp_servers.helpdesk import Helpdesk; d = Helpdesk();"
        "tasks = [*d.tasks('test'), *map(d.generate, range(50))];"
        "print(hashlib.sha256(''.join(t.model_dump_json() for t in tasks).encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "7")
    }
    assert len(digests) == 1
    assert all(DESK.task(task.id) == task for task in ALL)
    assert DESK.task("seed-42") == DESK.generate(42)


@pytest.mark.parametrize("bad", ["test-400", "test-", "nope-1", "seed--1", "42"])
def test_an_unknown_task_id_is_a_usage_error_that_names_it(bad):
    with pytest.raises(UsageError, match=re.escape(repr(bad))):
        DESK.task(bad)


def test_an_unknown_split_and_a_reserved_seed_are_usage_errors():
    with pytest.raises(UsageError, match="'tset'"):
        DESK.tasks("tset")
    for seed in (-1, 9_000_000):
        with pytest.raises(UsageError, match=str(seed)):
            DESK.generate(seed)


@pytest.mark.parametrize("need", DECIDED)
async def test_without_one_capability_the_gold_behaviour_fails_exactly_where_a_task_needs_it(need):
    needing = 0
    for task in ALL:
        verdict, _ = await play(task, gold_actions(scenario_of(task), lapses={need}))
        assert verdict.success is (need not in task.capabilities), task.id
        needing += need in task.capabilities
    assert needing >= 60


async def test_picking_another_item_fails_exactly_where_a_task_needs_the_item_found_by_name():
    for task in ALL:
        scenario = scenario_of(task)
        actions = [_with_other_item(scenario, action) for action in gold_actions(scenario)]
        verdict, _ = await play(task, actions)
        assert verdict.success is (Need.ITEM_BY_NAME not in task.capabilities), task.id


def _with_other_item(scenario: Scenario, action: ToolCall | str) -> ToolCall | str:
    if isinstance(action, str) or "item" not in action.arguments:
        return action
    items = [item["name"] for item in scenario.state["orders"][action.arguments["order_id"]]["items"]]
    other = next((item for item in items if item != action.arguments["item"]), action.arguments["item"])
    return action.model_copy(update={"arguments": action.arguments | {"item": other}})


@pytest.mark.parametrize(("need", "skipped"), [(Need.ASK_MISSING, "questions"), (Need.FIND_BY_EMAIL, "find_customer")])
async def test_values_come_from_nowhere_without_asking_or_finding_exactly_where_a_task_needs_it(need, skipped):
    for task in ALL:
        actions = list(gold_actions(scenario_of(task)))
        kept = [a for a in actions[:-1] if not _is_skipped(a, skipped)] + actions[-1:]
        _, messages = await play(task, kept)
        assert _invents_a_value(messages) is (need in task.capabilities), task.id


def _is_skipped(action: ToolCall | str, skipped: str) -> bool:
    return skipped == "questions" if isinstance(action, str) else action.name == skipped


def _invents_a_value(messages: list[Message]) -> bool:
    heard = ""
    for message in messages:
        values = [str(value) for call in message.tool_calls for value in call.arguments.values()]
        if any(value not in heard for value in values if value not in ("S", "M", "L", "XL")):
            return True
        heard += f" {message.content or ''}"
    return False


async def test_the_gold_behaviour_exercises_all_that_is_needed_by_the_ground_truth_and_a_lapse_does_not():
    for task in ALL:
        scenario = scenario_of(task)
        decided = {need.value for need in DECIDED} & set(task.capabilities)
        _, messages = await play(task, gold_actions(scenario))
        assert DESK.exercised(task, messages) == dict.fromkeys(decided, True), task.id
        for need in decided:
            _, messages = await play(task, gold_actions(scenario, lapses={need}))
            assert DESK.exercised(task, messages)[need] is False, (task.id, need)


DAYS = {
    "1 May": True,
    "1st of May": True,
    "May 1": True,
    "May 1st, 2027": True,
    "11 May": False,
    "May 11": False,
    "May 10": False,
    "1 March": False,
    "May": False,
}


async def test_the_day_may_be_told_in_any_common_form_and_no_other_day_passes_for_it():
    task = next(task for task in ALL if task.capabilities == (Need.TELL_ARRIVAL,))
    scenario = scenario_of(task)
    number = scenario.requests[0].order_id
    scenario.state["orders"][number]["arrives"] = "1 May"
    task = task.model_copy(update={"data": scenario.model_dump(mode="json")})
    look = ToolCall(name="track_shipment", arguments={"order_id": number})
    told = {day: (await play(task, [look, f"It arrives on {day}."]))[0].success for day in DAYS}
    assert told == DAYS


def test_every_capability_of_the_policy_is_needed_by_tasks_of_each_split():
    for split in DESK.splits:
        found = {need for task in DESK.tasks(split) for need in task.capabilities}
        assert found == {need.value for need in Need}


def test_prompts_name_what_was_not_left_out_and_never_what_was():
    for task in ALL:
        scenario = scenario_of(task)
        for request in scenario.requests:
            details = {"order": request.order_id, "address": request.address, "email": request.email}
            for kind, value in details.items():
                if value:
                    assert (value in task.prompt) is (kind not in scenario.omitted), (task.id, kind)
