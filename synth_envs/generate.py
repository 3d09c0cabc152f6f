"""The generator seam: who proposes the environment for a capability, and proposes again when a gate fails.

The template generator picks a registered family by behaviour and needs no language model. A generation agent that
writes families is another implementation: it proposes source, and reads the certificates of what it proposed before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from pydantic import Field

from synth_envs.contract import Family, load_family
from synth_envs.match import SEEDS, match
from trace_agents.artifacts import CertificateRow
from trace_agents.types import Capability, Record, Trajectory


class Proposal(Record):
    """An environment that might train a capability."""

    family: str
    """Spec of the family; `family.py:Class` where `source` has it."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    source: str | None = None
    """Python source of a family written for this capability; None for one that exists."""
    reason: str = ""
    """Why this one, in one line."""


class Refusal(Record):
    """The generator has nothing (more) to propose."""

    reason: str


class Attempt(Record):
    """A proposal and what became of it."""

    proposal: Proposal
    certificate: CertificateRow


@dataclass(frozen=True)
class Request:
    """What a generator is asked for."""

    capability: Capability
    plan: Mapping[str, Any]
    """What the generator's own `plan` noted for this capability."""
    evidence: Sequence[Trajectory] = ()
    """Failed trajectories that lack the capability."""
    attempts: Sequence[Attempt] = ()
    """What was proposed before, each time with a certificate that failed."""


@runtime_checkable
class Generator(Protocol):
    """Proposes environments."""

    async def plan(self, capabilities: Sequence[Capability]) -> dict[str, dict[str, Any]]:
        """Capability → notes for its proposals, made with all capabilities in view; JSON values, since they are
        checkpointed."""

    async def propose(self, request: Request) -> Proposal | Refusal:
        """The first proposal for a capability, or the next one after the attempts before."""


class TemplateGenerator:
    """Picks among existing families the one that behaves like the capability's statement."""

    MENDABLE = frozenset({"learnable", "informative", "deviation", "shortcuts-below-base"})
    """Gates that an easier version of the same family may pass."""

    def __init__(self, families: Mapping[str, Family], seeds: range = SEEDS) -> None:
        self._families, self._seeds = families, seeds

    async def plan(self, capabilities: Sequence[Capability]) -> dict[str, dict[str, Any]]:
        """The family of each capability, or why there is none."""
        matching = await match(capabilities, self._families, self._seeds)
        chosen = {
            name: {"family": spec, "score": matching.scores[name][spec]} for name, spec in matching.families.items()
        }
        return chosen | {name: {"unmatched": reason} for name, reason in matching.unmatched(capabilities).items()}

    async def propose(self, request: Request) -> Proposal | Refusal:
        """The matched family; then, where its rewards told a group too little, easier versions of it."""
        if "family" not in request.plan:
            return Refusal(reason=str(request.plan.get("unmatched", "it was not planned for")))
        spec = str(request.plan["family"])
        if not request.attempts:
            parameters = dict(self._families[spec].parameters)
            return Proposal(family=spec, parameters=parameters, reason=f"behaves alike ({request.plan['score']:.2f})")
        last = request.attempts[-1]
        failed = [check.name for check in last.certificate.checks if not check.passed]
        if not set(failed) <= self.MENDABLE:
            return Refusal(reason=f"family {spec!r} failed on {', '.join(failed)}, which an easier version would too")
        easier = load_family(spec, last.proposal.parameters).easier()
        if easier is None:
            return Refusal(reason=f"family {spec!r} failed on {', '.join(failed)} in its easiest version")
        return Proposal(family=spec, parameters=dict(easier.parameters), reason=f"easier, after {', '.join(failed)}")
