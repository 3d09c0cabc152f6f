"""An environment on disk: the folder `envs/<slug>/` of a run, from which the same environment is made again.

manifest.json     the family, its parameters, the capability, the seed ranges and the certificate
environment.py    so that any loader of environments takes `envs/<slug>/environment.py:environment`
family.py         only where the family was written for this run
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from synth_envs.contract import Family, load_family
from trace_agents.artifacts import Artifact, CertificateRow
from trace_agents.environment import SyntheticEnvironment
from trace_agents.errors import UsageError
from trace_agents.files import missing, write_atomically
from trace_agents.refusals import wanted
from trace_agents.types import Capability, Record

MANIFEST, LOADER, OWN_FAMILY = "manifest.json", "environment.py", "family.py"

_LOADER_TEXT = '''"""Makes the environment that `manifest.json` beside this file describes."""

from pathlib import Path

from synth_envs.manifest import load_synthetic


def environment():
    """The environment."""
    return load_synthetic(Path(__file__).parent)
'''


class SeedRange(Record):
    """Seeds from `first` up to, not including, `end`."""

    first: int = Field(ge=0)
    end: int

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.end <= self.first:
            raise ValueError(f"seeds {self.first} to {self.end} are none")
        return self

    @property
    def seeds(self) -> range:
        """The range."""
        return range(self.first, self.end)


class SeedRanges(Record):
    """Disjoint seeds for each use, so that nothing is picked or proved on what it trained on."""

    certification: SeedRange = SeedRange(first=0, end=1_000)
    """Gates, and the base policy's groups for them."""
    validation: SeedRange = SeedRange(first=1_000, end=10_000)
    """Picks checkpoints."""
    routing: SeedRange = SeedRange(first=10_000, end=100_000)
    """Trains routers and gates."""
    training: SeedRange = SeedRange(first=100_000, end=100_000_000)


class Manifest(Artifact):
    """`envs/<slug>/manifest.json`."""

    family: str
    """Spec of the family: a registered name, `package.module:Class`, or `family.py:Class` beside the manifest."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """What the family is made with."""
    capability: Capability
    """The mined capability that the environment trains; its name is the slug."""
    seeds: SeedRanges = SeedRanges()
    certificate: CertificateRow

    def load_family(self, folder: Path) -> Family:
        """The family; files are looked for in `folder`."""
        file, colon, attribute = self.family.rpartition(":")
        spec = f"{folder / file}:{attribute}" if colon and file.endswith(".py") else self.family
        return load_family(spec, self.parameters)


def write_environment(folder: Path, manifest: Manifest, family_source: str | None = None) -> Path:
    """Write `envs/<slug>/` and return the folder; the manifest last, so that a folder with one is whole.

    Args:
        family_source: Python source of a family written for this run, kept as `family.py`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if family_source is not None:
        write_atomically(folder / OWN_FAMILY, family_source)
    write_atomically(folder / LOADER, _LOADER_TEXT)
    write_atomically(folder / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
    return folder


def read_manifest(folder: Path) -> Manifest:
    """The manifest in `folder`.

    Raises:
        UsageError: no manifest, not JSON, or of another shape or version.
    """
    path = folder / MANIFEST
    try:
        return Manifest.model_validate(json.loads(path.read_bytes()))
    except FileNotFoundError as error:
        raise missing(path) from error
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"]) or "the whole value"
        raise UsageError(f"{str(path)!r} is malformed ({key}: {wanted(problem)}): synthesise it again") from error
    except ValueError as error:
        raise UsageError(f"{str(path)!r} is not JSON ({error}): synthesise it again") from error


def load_synthetic(folder: Path | str) -> SyntheticEnvironment:
    """The environment that the folder `envs/<slug>/` describes.

    Raises:
        UsageError: as `read_manifest` and `load_family`.
    """
    manifest = read_manifest(Path(folder))
    return manifest.load_family(Path(folder)).environment(manifest.capability)
