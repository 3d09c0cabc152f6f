"""The synthesis graph: plan, propose, certify, repair or reject, and write what was certified."""

from contextlib import contextmanager
from pathlib import Path

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from graphs.synthesis import Workshop, build_synthesis_graph, synthesise
from mcp_servers.helpdesk import Helpdesk
from synth_envs.generate import Attempt, Generator, Proposal, Refusal, Request, TemplateGenerator
from synth_envs.helpdesk import TellArrival, Unlock
from synth_envs.manifest import read_manifest
from trace_agents.analysis.statements import NoRepeat, Recover, Report
from trace_agents.errors import InfrastructureError, UsageError
from trace_agents.registry import load_environment
from trace_agents.types import Capability, Trajectory

UNLOCK, TELL = "synth_envs.helpdesk:Unlock", "synth_envs.helpdesk:TellArrival"
FAMILIES = {UNLOCK: Unlock(), TELL: TellArrival()}


def mined(name: str, statement=None) -> Capability:
    data = statement.model_dump(mode="json") if statement else None
    return Capability(name=name, description="Mined.", statement=data)


LOCKED = mined("retry-after-lock", Recover(tool="change_address", error="order is locked"))
WHEN = mined("say-when", Report(tool="track_shipment", field="arrives"))
CALM = mined("calm", NoRepeat())


def workshop(folder: Path, **changes) -> Workshop:
    return Workshop(target=Helpdesk(), folder=folder / "envs", **changes)


async def good_groups(environment, tasks):
    return [[0.1, 1.0, 0.1, 0.2] for _ in tasks]


async def test_each_capability_gets_its_certified_environment_on_disk_or_a_reason(tmp_path):
    generator = TemplateGenerator(FAMILIES, range(12))
    made = await synthesise([LOCKED, CALM, WHEN], generator, workshop(tmp_path, sample_groups=good_groups))
    assert [outcome.capability for outcome in made.outcomes] == ["retry-after-lock", "calm", "say-when"]
    assert made.rejected == {"calm": "no family behaves like its statement"}
    assert {name: manifest.family for name, manifest in made.manifests.items()} == {
        "retry-after-lock": UNLOCK,
        "say-when": TELL,
    }
    assert all(certificate.passed for certificate in made.certificates)
    for name, environment in made.environments().items():
        folder = tmp_path / "envs" / name
        assert read_manifest(folder) == made.manifests[name]
        assert environment.capability.name == name
        again = load_environment(f"{folder / 'environment.py'}:environment")
        assert again.generate(7) == environment.generate(7)
    assert not (tmp_path / "envs" / "calm").exists()


async def test_the_base_policy_is_sampled_on_tasks_that_need_the_capability_once_the_other_gates_pass(tmp_path):
    sampled = []

    async def sample(environment, tasks):
        sampled.append((environment.name, [task.seed for task in tasks]))
        assert all("unlock" in task.capabilities for task in tasks)
        return [[0.1, 1.0] for _ in tasks]

    shop = workshop(tmp_path, sample_groups=sample, groups=5)
    made = await synthesise([LOCKED], TemplateGenerator(FAMILIES, range(12)), shop)
    [(name, seeds)] = sampled
    assert name == "synth/retry-after-lock"
    assert len(seeds) == 5
    assert set(seeds) <= set(shop.seeds.certification.seeds)
    checks = {check.name: check.value for check in made.certificates[-1].checks}
    assert checks["learnable"] == 0.55


async def test_an_environment_that_tells_groups_too_little_is_made_easier_and_certified_again(tmp_path):
    async def sample(environment, tasks):
        easy = all(len(task.data["requests"]) == 1 and not task.data["omitted"] for task in tasks)
        return [[0.1, 1.0] if easy else [0.1, 0.1] for _ in tasks]

    made = await synthesise([LOCKED], TemplateGenerator(FAMILIES, range(12)), workshop(tmp_path, sample_groups=sample))
    [outcome] = made.outcomes
    assert [attempt.certificate.passed for attempt in outcome.attempts] == [False, True]
    assert outcome.manifest.parameters == {"balance": 0.25, "compound": 0.0, "last": 0.0, "omit": 0.0}
    assert [row.passed for row in made.certificates] == [False, True]
    assert "informative" in outcome.attempts[1].proposal.reason


async def test_what_stays_unlearnable_in_its_easiest_version_is_rejected_with_the_reason(tmp_path):
    async def sample(environment, tasks):
        return [[0.1, 0.1] for _ in tasks]

    made = await synthesise([LOCKED], TemplateGenerator(FAMILIES, range(12)), workshop(tmp_path, sample_groups=sample))
    assert made.rejected.keys() == {LOCKED.name}
    assert "in its easiest version" in made.rejected[LOCKED.name]
    assert len(made.certificates) == 2
    assert not (tmp_path / "envs" / LOCKED.name / "manifest.json").exists()


BROKEN = """
from synth_envs.helpdesk import Unlock

class Written(Unlock):
    def counterexample(self, task):
        return self.environment().oracle(task)
"""
SOUND = """
from synth_envs.helpdesk import Unlock

class Written(Unlock):
    pass
"""


class Writer:
    """A generation agent that writes families: what it will propose is given, what it was asked is kept."""

    def __init__(self, *answers: Proposal | Refusal) -> None:
        self.answers, self.requests = list(answers), []

    async def plan(self, capabilities):
        return {capability.name: {"place": place} for place, capability in enumerate(capabilities)}

    async def propose(self, request: Request) -> Proposal | Refusal:
        self.requests.append(request)
        return self.answers[len(request.attempts)]


def written(source: str) -> Proposal:
    return Proposal(family="family.py:Written", source=source)


async def test_a_written_family_is_repaired_until_it_is_certified_and_travels_in_the_folder(tmp_path):
    evidence = (Trajectory(id="t", task_id="x", messages=()),)
    writer = Writer(written("class Written("), written(BROKEN), written(SOUND))
    assert isinstance(writer, Generator)
    shop = workshop(tmp_path, evidence={LOCKED.name: evidence})
    made = await synthesise([LOCKED], writer, shop)
    assert [len(request.attempts) for request in writer.requests] == [0, 1, 2]
    assert all(request.evidence == evidence and request.plan == {"place": 0} for request in writer.requests)
    loads, behaves = [
        {check.name for check in attempt.certificate.checks if not check.passed}
        for attempt in writer.requests[-1].attempts
    ]
    assert loads == {"loads"}
    assert behaves == {"counterexample", "statement"}
    assert made.manifests[LOCKED.name].family == "family.py:Written"
    assert (tmp_path / "envs" / LOCKED.name / "family.py").read_text() == SOUND
    assert made.environments()[LOCKED.name].generate(1).prompt == Unlock().environment().generate(1).prompt


async def test_regeneration_ends_after_the_allowed_attempts(tmp_path):
    writer = Writer(*[written(BROKEN)] * 9)
    made = await synthesise([LOCKED], writer, workshop(tmp_path, attempts=3))
    assert len(writer.requests) == 3
    assert made.rejected[LOCKED.name].startswith("after 3 attempts it fails on counterexample (1.0)")


async def test_a_rejected_capability_leaves_no_manifest_of_an_earlier_run(tmp_path):
    shop = workshop(tmp_path)
    await synthesise([LOCKED], Writer(written(SOUND)), shop)
    assert (tmp_path / "envs" / LOCKED.name / "manifest.json").exists()
    await synthesise([LOCKED], Writer(Refusal(reason="not today")), shop)
    assert not (tmp_path / "envs" / LOCKED.name / "manifest.json").exists()


async def test_no_capabilities_make_no_environments(tmp_path):
    made = await synthesise([], TemplateGenerator(FAMILIES, range(4)), workshop(tmp_path))
    assert (made.outcomes, made.certificates, made.rejected) == ((), [], {})


async def test_two_capabilities_of_one_name_are_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="not all different"):
        await synthesise([LOCKED, LOCKED], TemplateGenerator(FAMILIES, range(4)), workshop(tmp_path))


class Watcher:
    """A `Progress` that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    @contextmanager
    def stage(self, name, total=None):
        self.heard.append((name, total))
        yield self

    def advance(self, amount=1):
        self.heard.append(amount)

    def note(self, text):
        self.heard.append(text)

    def total(self, amount): ...


async def test_progress_hears_of_each_capability_as_it_is_done(tmp_path):
    watcher = Watcher()
    await synthesise([LOCKED, CALM], TemplateGenerator(FAMILIES, range(12)), workshop(tmp_path), watcher)
    assert watcher.heard[0] == ("synthesis", 2)
    assert watcher.heard.count(1) == 2
    assert {"retry-after-lock: certified", "calm: rejected"} <= set(watcher.heard[1:])


class Failing(TemplateGenerator):
    """Fails for one capability until it is told to go on."""

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.down, self.asked = True, []

    async def plan(self, capabilities):
        self.asked.append("plan")
        return await super().plan(capabilities)

    async def propose(self, request: Request):
        self.asked.append(request.capability.name)
        if self.down and request.capability.name == WHEN.name:
            raise InfrastructureError("model server gone")
        return await super().propose(request)


@pytest.fixture(params=["memory", "sqlite"])
async def saver(request, tmp_path):
    if request.param == "memory":
        yield InMemorySaver()
        return
    async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "checkpoints.sqlite")) as made:
        yield made


async def test_a_stopped_run_goes_on_from_its_checkpoint_and_an_ended_one_gives_its_result(tmp_path, saver):
    generator, shop = Failing(FAMILIES, range(12)), workshop(tmp_path)
    with pytest.raises(InfrastructureError):
        await synthesise([LOCKED, WHEN], generator, shop, checkpoint=(saver, "one"))
    generator.down = False
    made = await synthesise([LOCKED, WHEN], generator, shop, checkpoint=(saver, "one"))
    assert made.manifests.keys() == {LOCKED.name, WHEN.name}
    assert generator.asked.count("plan") == 1
    asked = list(generator.asked)
    assert await synthesise([LOCKED, WHEN], generator, shop, checkpoint=(saver, "one")) == made
    assert generator.asked == asked


def test_an_attempt_is_json_that_reads_back():
    proposal = Proposal(family=UNLOCK, parameters={"balance": 0.2}, reason="r")
    assert Proposal.model_validate_json(proposal.model_dump_json()) == proposal
    assert set(Attempt.model_fields) == {"proposal", "certificate"}


def test_the_graph_is_drawn_as_documented(tmp_path):
    graph = build_synthesis_graph(TemplateGenerator(FAMILIES), workshop(tmp_path)).get_graph(xray=True)
    edges = {(edge.source, edge.target) for edge in graph.edges}
    assert edges == {
        ("__start__", "plan"),
        ("plan", "synthesise:__start__"),
        ("synthesise:__start__", "synthesise:propose"),
        ("synthesise:propose", "synthesise:certify"),
        ("synthesise:propose", "synthesise:reject"),
        ("synthesise:certify", "synthesise:keep"),
        ("synthesise:certify", "synthesise:propose"),
        ("synthesise:certify", "synthesise:reject"),
        ("synthesise:keep", "synthesise:__end__"),
        ("synthesise:reject", "synthesise:__end__"),
        ("synthesise:__end__", "__end__"),
    }
