"""Certificates: a sound environment passes, and each way of being unsound fails its own gate."""

import json

import pytest
from parcel_family import CAPABILITY, TOOLS, ParcelFamily, Parcels

from mcp_servers.helpdesk import Helpdesk
from synth_envs.certify import Bars, Candidate, certify, learnability
from synth_envs.helpdesk import FAMILIES, Unlock
from trace_agents.analysis.statements import Before, NoRepeat
from trace_agents.artifacts import CertificateRow
from trace_agents.errors import InfrastructureError, UsageError
from trace_agents.types import Capability, Evaluation, ToolCall, ToolSpec

GROUPS = [[0.1, 1.0, 0.1, 0.2], [0.1, 0.1, 0.1, 1.0], [0.1, 0.1, 0.1, 0.1]]


def failures(certificate: CertificateRow) -> set[str]:
    return {check.name for check in certificate.checks if not check.passed}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
async def test_every_family_of_the_desk_is_certified(family):
    certificate = await certify(Candidate(family(), Helpdesk()), GROUPS)
    assert failures(certificate) == set()
    assert certificate.passed


async def test_a_family_of_another_target_is_certified_through_the_same_contract():
    statement = Before(first="weigh", then="send").model_dump(mode="json")
    mined = Capability(name="scales", description="Weigh before sending.", statement=statement)
    certificate = await certify(Candidate(ParcelFamily(), Parcels(), mined), GROUPS)
    assert failures(certificate) == set()
    assert (certificate.environment, certificate.capability) == ("synth/scales", "scales")


async def test_a_certificate_is_one_json_line_that_reads_back_equal():
    certificate = await certify(Candidate(ParcelFamily(), Parcels()), GROUPS)
    line = certificate.model_dump_json()
    assert "\n" not in line
    assert CertificateRow.model_validate(json.loads(line)) == certificate


async def test_without_rewards_of_a_policy_the_gates_on_learnability_are_left_out():
    certificate = await certify(Candidate(ParcelFamily(), Parcels()))
    assert certificate.passed
    assert not {"learnable", "informative", "deviation"} & {check.name for check in certificate.checks}


def spoilt(**changes):
    """A parcel family whose environment differs in the named methods."""
    environment = type("Spoilt", (Parcels,), {k: v for k, v in changes.items() if hasattr(Parcels, k)})

    class Family(ParcelFamily):
        def environment(self, capability=None):
            return environment(capability or CAPABILITY)

    for name, value in changes.items():
        if not hasattr(Parcels, name):
            setattr(Family, name, value)
    return Family()


def with_tools(*tools: ToolSpec):
    async def start(self, task):
        return await Parcels(tools=tools).start(task)

    return start


def judged(rule):
    """`start` of an environment whose episodes are judged by `rule(done)`."""

    async def start(self, task):
        episode = await Parcels().start(task)

        async def evaluate(messages):
            reward = rule(episode.done)
            return Evaluation(reward=reward, success=reward == 1)

        episode.evaluate = evaluate
        return episode

    return start


def other_policy():
    async def start(self, task):
        episode = await Parcels().start(task)
        episode.policy = "Do as you like."
        return episode

    return start


COUNTER = iter(range(10_000))
UNSOUND = {
    "an oracle that falls short": (
        spoilt(oracle=lambda self, task: [ToolCall(name="weigh", arguments={"parcel": task.seed})]),
        {"oracle"},
    ),
    "success without the capability": (
        spoilt(start=judged(lambda done: float("send" in done))),
        {"counterexample"},
    ),
    "a reward for looking": (
        spoilt(start=judged(lambda done: 1.0 if done == ["weigh", "send"] else 0.5 * ("weigh" in done))),
        {"decline", "look-and-claim"},
    ),
    "a reward for nothing": (
        spoilt(start=judged(lambda done: 1.0 if done == ["weigh", "send"] else 0.4)),
        {"idle", "give-up", "claim-success", "random-calls", "decline", "look-and-claim"},
    ),
    "tasks that do not need it": (spoilt(targets=lambda self, task: task.seed % 4 == 0), {"targeted"}),
    "tasks none of which needs it": (spoilt(targets=lambda self, task: False), {"targeted", "counterexample"}),
    "a renamed argument": (
        spoilt(start=with_tools(TOOLS[0], TOOLS[1].model_copy(update={"input_schema": {"type": "object"}}))),
        {"schemas"},
    ),
    "a tool less": (spoilt(start=with_tools(TOOLS[0])), {"schemas"}),
    "another policy": (spoilt(start=other_policy()), {"policy"}),
    "tasks from chance": (
        spoilt(generate=lambda self, seed: Parcels().generate(seed).model_copy(update={"data": {"n": next(COUNTER)}})),
        {"deterministic"},
    ),
    "one task for all seeds": (
        spoilt(generate=lambda self, seed: Parcels().generate(7)),
        {"distinct"},
    ),
}


@pytest.mark.parametrize(("family", "gates"), UNSOUND.values(), ids=UNSOUND.keys())
async def test_an_unsound_environment_fails_the_gates_that_are_meant_for_it(family, gates):
    certificate = await certify(Candidate(family, Parcels()))
    assert failures(certificate) == gates
    assert not certificate.passed


async def test_transcripts_that_differ_between_replays_fail():
    async def start(self, task):
        episode = await Parcels().start(task)
        done = episode.call

        async def call(name, arguments):
            result = await done(name, arguments)
            return result.model_copy(update={"content": f"{result.content} (receipt {next(COUNTER)})"})

        episode.call = call
        return episode

    assert failures(await certify(Candidate(spoilt(start=start), Parcels()))) == {"same-transcript"}


async def test_tools_in_another_key_order_are_the_same_tools():
    schema = dict(reversed(TOOLS[1].input_schema.items()))
    family = spoilt(start=with_tools(TOOLS[0], TOOLS[1].model_copy(update={"input_schema": schema})))
    assert (await certify(Candidate(family, Parcels()))).passed


async def test_a_mined_capability_that_the_environment_does_not_exercise_fails_its_statement():
    mined = Capability(name="calm", description="Do not repeat.", statement=NoRepeat().model_dump(mode="json"))
    certificate = await certify(Candidate(ParcelFamily(), Parcels(), mined))
    assert failures(certificate) == {"statement"}


async def test_a_family_that_breaks_gets_a_certificate_that_says_so():
    def broken(self, task):
        raise KeyError("parcel")

    certificate = await certify(Candidate(spoilt(oracle=broken), Parcels()))
    assert [(check.name, check.detail) for check in certificate.checks] == [("runs", "KeyError: 'parcel'")]
    assert not certificate.passed


async def test_a_failure_of_infrastructure_is_no_verdict():
    async def start(self, task):
        raise InfrastructureError("server gone")

    with pytest.raises(InfrastructureError, match="server gone"):
        await certify(Candidate(spoilt(start=start), Parcels()))


@pytest.mark.parametrize(
    ("groups", "gates"),
    [
        ([[0.1, 0.1], [0.1, 0.1]], {"informative", "deviation"}),
        ([[0.0, 0.0], [0.0, 0.0]], {"learnable", "informative", "deviation", "shortcuts-below-base"}),
        ([[1.0, 1.0], [1.0, 1.0], [1.0, 0.9]], {"learnable", "informative", "deviation"}),
        ([[0.2, 0.21], [0.2, 0.21]], {"deviation"}),
        ([[0.1, 1.0], [0.1, 0.1], [0.1, 0.1]], {"informative"}),
        ([[0.0, 0.14], [0.14, 0.0]], {"shortcuts-below-base"}),
        ([[0.1, 1.0], [0.1, 0.2]], set()),
    ],
)
def test_rewards_that_a_group_cannot_learn_from_fail(groups, gates):
    checks = learnability(groups, 0.1, Bars())
    assert {check.name for check in checks if not check.passed} == gates


def test_groups_that_lost_their_rollouts_are_left_out_and_none_at_all_is_a_failure_of_infrastructure():
    checks = {check.name: check.value for check in learnability([[0.1, 1.0], [0.5], []], 0.0, Bars())}
    assert checks["informative"] == 1.0
    with pytest.raises(InfrastructureError, match="none of 2 groups"):
        learnability([[0.5], []], 0.0, Bars())


async def test_no_seeds_to_certify_on_is_a_usage_error():
    with pytest.raises(UsageError, match=r"range\(0, 0\)"):
        await certify(Candidate(Unlock(), Helpdesk()), bars=Bars(seeds=range(0)))
