"""The generator families that a run may build its environments from."""

from __future__ import annotations

from pathlib import Path

from graphs.pipeline.context import Run
from synth_envs.contract import Family, families_of, load_family
from trace_agents.errors import UsageError


def families(run: Run) -> dict[str, Family]:
    """The target's registered families, and those that the configuration names, by spec.

    Raises:
        UsageError: one of those is no family, or another target's.
    """
    found = families_of(run.target.name)
    for spec in run.config.synthesis.families:
        place, colon, attribute = spec.rpartition(":")
        # In the environment's manifest, a relative path would be one beside the manifest.
        whole = f"{Path(place).resolve()}:{attribute}" if colon and place.endswith(".py") else spec
        family = load_family(whole)
        if family.target != run.target.name:
            raise UsageError(
                f"family {spec!r} in [synthesis] families is for target {family.target!r}, not {run.target.name!r}: "
                "name families of the target"
            )
        found[whole] = family
    return found
