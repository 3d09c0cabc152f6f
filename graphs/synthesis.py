"""Environment synthesis as a graph (§3.3): plan, and for each capability propose → certify → keep, repair or reject.

    START → plan ─ Send for each capability ─→ synthesise ─→ END
                                               propose → certify → keep | propose again | reject

State is JSON, so a run that was killed goes on from its checkpoint; what it works with (`Workshop`) is not state.
"""

from __future__ import annotations

import operator
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Checkpointer, Send

from synth_envs.certify import Bars, Candidate, GroupRewards, certify
from synth_envs.contract import Family, load_family, targeted_tasks
from synth_envs.generate import Attempt, Generator, Proposal, Refusal, Request
from synth_envs.manifest import MANIFEST, OWN_FAMILY, Manifest, SeedRanges, load_synthetic, write_environment
from trace_agents.artifacts import CertificateRow, Check
from trace_agents.environment import Environment, SyntheticEnvironment
from trace_agents.errors import UsageError
from trace_agents.files import write_atomically
from trace_agents.progress import Progress, SilentProgress
from trace_agents.types import Capability, Record, TaskInstance, Trajectory

SampleGroups = Callable[[SyntheticEnvironment, Sequence[TaskInstance]], Awaitable[GroupRewards]]
"""Samples the base policy: a group of rollouts for each task, and gives their rewards, a row a task."""


@dataclass(frozen=True)
class Workshop:
    """What synthesis works with."""

    target: Environment
    folder: Path
    """Where the environments go: `folder/<slug>/`."""
    sample_groups: SampleGroups | None = None
    """None certifies without the gates on the base policy's rewards."""
    groups: int = 8
    """Groups sampled for those gates."""
    attempts: int = 6
    """Most proposals for a capability: the first, and up to five regenerations."""
    bars: Bars = field(default_factory=Bars)
    """What the gates must reach, and the seeds they are tried on."""
    seeds: SeedRanges = field(default_factory=SeedRanges)
    """Noted in the manifest for those who train, validate and route."""
    evidence: Mapping[str, Sequence[Trajectory]] = field(default_factory=dict)
    """Capability → failed trajectories that lack it, for generators that read them."""


class Outcome(Record):
    """What became of one capability."""

    capability: str
    manifest: Manifest | None = None
    """None where it was rejected."""
    attempts: tuple[Attempt, ...] = ()
    """All proposals with their certificates, the kept one last."""
    reason: str = ""
    """Why it was rejected; empty where it was kept."""


@dataclass(frozen=True)
class Synthesised:
    """The result, in the order of the capabilities."""

    outcomes: tuple[Outcome, ...]
    folder: Path

    @property
    def certificates(self) -> list[CertificateRow]:
        """Rows for `certificates.jsonl`, failed attempts among them."""
        return [attempt.certificate for outcome in self.outcomes for attempt in outcome.attempts]

    @property
    def manifests(self) -> dict[str, Manifest]:
        """Capability → manifest of its certified environment."""
        return {outcome.capability: outcome.manifest for outcome in self.outcomes if outcome.manifest}

    @property
    def rejected(self) -> dict[str, str]:
        """Capability → why no environment was certified for it."""
        return {outcome.capability: outcome.reason for outcome in self.outcomes if outcome.manifest is None}

    def environments(self) -> dict[str, SyntheticEnvironment]:
        """Capability → its certified environment, read from the folder."""
        return {name: load_synthetic(self.folder / name) for name in self.manifests}


class SynthesisState(TypedDict):
    """The graph's state."""

    capabilities: list[dict[str, Any]]
    """`Capability` as JSON."""
    plan: NotRequired[dict[str, dict[str, Any]]]
    """The generator's notes, by capability."""
    outcomes: Annotated[list[dict[str, Any]], operator.add]
    """`Outcome` as JSON, as they come in."""


class _One(TypedDict):
    """One capability's part."""

    capability: dict[str, Any]
    plan: dict[str, Any]
    proposal: NotRequired[dict[str, Any] | None]
    """The proposal to certify; None once the generator refused."""
    refusal: NotRequired[str]
    attempts: Annotated[list[dict[str, Any]], operator.add]
    outcomes: Annotated[list[dict[str, Any]], operator.add]


class _Outcomes(TypedDict):
    outcomes: Annotated[list[dict[str, Any]], operator.add]


def build_synthesis_graph(
    generator: Generator, workshop: Workshop, checkpointer: Checkpointer = None
) -> CompiledStateGraph[SynthesisState, None, SynthesisState, SynthesisState]:
    """Compile the synthesis graph."""
    one = _build_one(_Nodes(generator, workshop))

    async def plan(state: SynthesisState) -> dict[str, Any]:
        capabilities = [Capability.model_validate(data) for data in state["capabilities"]]
        return {"plan": await generator.plan(capabilities)}

    def fan_out(state: SynthesisState) -> list[Send]:
        plans, wanted = state.get("plan", {}), state["capabilities"]
        return [Send("synthesise", {"capability": data, "plan": plans.get(data["name"], {})}) for data in wanted]

    graph = StateGraph(SynthesisState)
    graph.add_node("plan", plan)
    graph.add_node("synthesise", one)
    graph.add_edge(START, "plan")
    graph.add_conditional_edges("plan", fan_out, ["synthesise"])
    graph.add_edge("synthesise", END)
    return graph.compile(checkpointer=checkpointer, name="synthesis")


async def synthesise(
    capabilities: Sequence[Capability],
    generator: Generator,
    workshop: Workshop,
    progress: Progress | None = None,
    checkpoint: tuple[Checkpointer, str] | None = None,
) -> Synthesised:
    """Synthesise and certify an environment for each capability.

    Args:
        checkpoint: checkpointer and thread id; a thread that was stopped goes on, one that ended gives its result.
    """
    names = [capability.name for capability in capabilities]
    if len(set(names)) < len(names):
        raise UsageError(f"capabilities {names!r} are not all different: names are the environments' folders")
    saver, thread = checkpoint or (None, "synthesis")
    graph = build_synthesis_graph(generator, workshop, saver)
    outcomes: list[dict[str, Any]] = []
    with (progress or SilentProgress()).stage("synthesis", len(names)) as stage:
        begun: Any = {"capabilities": [one.model_dump(mode="json") for one in capabilities], "outcomes": []}
        config: RunnableConfig = {"configurable": {"thread_id": thread}}
        if saver is not None and (snapshot := await graph.aget_state(config)).values:
            outcomes = list(snapshot.values.get("outcomes", []))
            stage.advance(len(outcomes))
            begun = None
        if begun is not None or snapshot.next:
            async for update in graph.astream(begun, config, stream_mode="updates"):
                for done in (update.get("synthesise") or {}).get("outcomes", []):
                    outcomes.append(done)
                    stage.note(f"{done['capability']}: {'certified' if done['manifest'] else 'rejected'}")
                    stage.advance()
    found = {outcome.capability: outcome for outcome in map(Outcome.model_validate, outcomes)}
    return Synthesised(tuple(found[name] for name in names), workshop.folder)


def _build_one(nodes: _Nodes) -> CompiledStateGraph[_One, None, _One, _Outcomes]:
    graph = StateGraph(_One, output_schema=_Outcomes)
    graph.add_node("propose", nodes.propose)
    graph.add_node("certify", nodes.certify)
    graph.add_node("keep", nodes.keep)
    graph.add_node("reject", nodes.reject)
    graph.add_edge(START, "propose")
    graph.add_conditional_edges("propose", nodes.after_propose, ["certify", "reject"])
    graph.add_conditional_edges("certify", nodes.after_certify, ["keep", "propose", "reject"])
    graph.add_edge("keep", END)
    graph.add_edge("reject", END)
    return graph.compile(name="synthesise")


class _Nodes:
    """The nodes of one capability's part and the decisions between them."""

    def __init__(self, generator: Generator, workshop: Workshop) -> None:
        self._generator, self._workshop = generator, workshop

    async def propose(self, state: _One) -> dict[str, Any]:
        """Ask the generator."""
        capability = Capability.model_validate(state["capability"])
        evidence = self._workshop.evidence.get(capability.name, ())
        request = Request(capability, state["plan"], evidence, _attempts(state))
        answer = await self._generator.propose(request)
        if isinstance(answer, Refusal):
            return {"proposal": None, "refusal": answer.reason}
        return {"proposal": answer.model_dump(mode="json")}

    def after_propose(self, state: _One) -> str:
        """Nothing proposed is rejected."""
        return "certify" if state.get("proposal") else "reject"

    async def certify(self, state: _One) -> dict[str, Any]:
        """Put the proposal through the gates."""
        capability = Capability.model_validate(state["capability"])
        proposal = Proposal.model_validate(state.get("proposal"))
        try:
            family = self._family(capability.name, proposal)
        except UsageError as error:
            certificate = _does_not_load(capability, error)
        else:
            candidate = Candidate(family, self._workshop.target, capability)
            certificate = await self._certificate(candidate)
        return {"attempts": [Attempt(proposal=proposal, certificate=certificate).model_dump(mode="json")]}

    def after_certify(self, state: _One) -> str:
        """Certified is kept; else the generator may repair it, as often as allowed."""
        attempts = _attempts(state)
        if attempts[-1].certificate.passed:
            return "keep"
        return "propose" if len(attempts) < self._workshop.attempts else "reject"

    def keep(self, state: _One) -> dict[str, Any]:
        """Write the environment's folder."""
        attempts, capability = _attempts(state), Capability.model_validate(state["capability"])
        last = attempts[-1]
        manifest = Manifest(
            family=last.proposal.family,
            parameters=last.proposal.parameters,
            capability=capability,
            seeds=self._workshop.seeds,
            certificate=last.certificate,
        )
        write_environment(self._workshop.folder / capability.name, manifest, last.proposal.source)
        outcome = Outcome(capability=capability.name, manifest=manifest, attempts=tuple(attempts))
        return {"outcomes": [outcome.model_dump(mode="json")]}

    def reject(self, state: _One) -> dict[str, Any]:
        """Note why nothing was certified, and leave nothing that looks certified."""
        attempts = _attempts(state)
        (self._workshop.folder / state["capability"]["name"] / MANIFEST).unlink(missing_ok=True)  # Of an earlier run.
        reason = state.get("refusal") or _failures(attempts[-1].certificate, len(attempts))
        outcome = Outcome(capability=state["capability"]["name"], attempts=tuple(attempts), reason=reason)
        return {"outcomes": [outcome.model_dump(mode="json")]}

    def _family(self, slug: str, proposal: Proposal) -> Family:
        if proposal.source is None:
            return load_family(proposal.family, proposal.parameters)
        folder = self._workshop.folder / slug
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / OWN_FAMILY, proposal.source)
        file, _, attribute = proposal.family.rpartition(":")
        return load_family(f"{folder / file}:{attribute}", proposal.parameters)

    async def _certificate(self, candidate: Candidate) -> CertificateRow:
        """All gates; the base policy is only sampled in an environment that passes the others."""
        shop = self._workshop
        certificate = await certify(candidate, None, shop.bars)
        if not certificate.passed or shop.sample_groups is None:
            return certificate
        environment = candidate.environment()
        tasks = targeted_tasks(candidate.family, environment, shop.seeds.certification.seeds)
        rewards = await shop.sample_groups(environment, list(islice(tasks, shop.groups)))
        return await certify(candidate, rewards, shop.bars)


def _attempts(state: _One) -> list[Attempt]:
    return [Attempt.model_validate(data) for data in state.get("attempts", [])]


def _does_not_load(capability: Capability, error: UsageError) -> CertificateRow:
    checks = (Check(name="loads", passed=False, detail=str(error)),)
    environment = f"synth/{capability.name}"
    return CertificateRow(environment=environment, capability=capability.name, passed=False, checks=checks)


def _failures(certificate: CertificateRow, attempts: int) -> str:
    failed = [check for check in certificate.checks if not check.passed]
    told = [f"{check.name} ({check.detail if check.value is None else check.value})" for check in failed]
    return f"after {attempts} attempts it fails on {'; '.join(told)}"
