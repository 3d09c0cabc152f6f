"""Families and environments are found by name, by file and by folder, and survive on disk."""

import json
import sys
from pathlib import Path

import pytest

from mcp_servers.helpdesk import Helpdesk
from synth_envs.certify import Candidate, certify
from synth_envs.contract import families_of, family_names, load_family
from synth_envs.helpdesk import FAMILIES, Unlock
from synth_envs.manifest import Manifest, SeedRange, SeedRanges, load_synthetic, read_manifest, write_environment
from trace_agents.errors import UsageError
from trace_agents.registry import load_environment
from trace_agents.types import Capability

PARCELS = Path(__file__).with_name("parcel_family.py")
MINED = Capability(name="retry-after-lock", description="Mined.")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A distribution on the path that registers the desk's families and an environment of one of them."""
    metadata = tmp_path / "shelf-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: shelf\nVersion: 1.0\n")
    lines = [f"shelf/{family().slug} = synth_envs.helpdesk:{family.__name__}" for family in FAMILIES]
    environments = ["shelf-synth/unlock = synth_envs.helpdesk:Unlock.default"]
    text = ["[trace_agents.families]", *lines, "[trace_agents.environments]", *environments]
    (metadata / "entry_points.txt").write_text("\n".join(text))
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("installed")
def test_registered_families_are_found_by_name_and_by_target():
    assert {f"shelf/{family().slug}" for family in FAMILIES} <= set(family_names())
    assert isinstance(load_family("shelf/unlock"), Unlock)
    assert {family.slug for family in families_of("helpdesk").values()} == {family().slug for family in FAMILIES}
    assert families_of("parcels") == {}


@pytest.mark.usefixtures("installed")
def test_a_synthetic_environment_is_served_by_name_like_any_other():
    environment = load_environment("shelf-synth/unlock")
    assert environment.name == "synth/unlock"
    assert environment.generate(3) == Unlock().environment().generate(3)


def test_a_family_is_made_with_its_parameters_from_a_module_or_a_file():
    assert load_family("synth_envs.helpdesk:Unlock", {"balance": 0.5}).parameters["balance"] == 0.5
    assert load_family(f"{PARCELS}:ParcelFamily", {"size": 3}).parameters == {"size": 3}


@pytest.mark.parametrize(
    ("spec", "parameters", "message"),
    [
        ("unlok", {}, "unknown family 'unlok'"),
        ("synth_envs.helpdesk:Nothing", {}, "family 'synth_envs.helpdesk:Nothing' cannot be imported"),
        ("synth_envs.helpdesk:FAMILIES", {}, "is a tuple: name a class or function"),
        ("synth_envs.helpdesk:Mix", {}, "gives a Mix, not a family"),
        (f"{PARCELS}:ParcelFamily", {"weight": 3}, "does not take the parameters {'weight': 3}"),
        ("no/such/file.py:Family", {}, "family file 'no/such/file.py' does not exist"),
    ],
)
def test_what_is_no_family_is_a_usage_error_that_says_why(spec, parameters, message):
    with pytest.raises(UsageError) as raised:
        load_family(spec, parameters)
    assert message in str(raised.value)


def test_a_family_file_that_fails_while_it_is_imported_is_a_usage_error(tmp_path):
    for text in ("def oops(:", "1 / 0"):
        (tmp_path / "family.py").write_text(text)
        with pytest.raises(UsageError, match="cannot be imported"):
            load_family(f"{tmp_path / 'family.py'}:Family")


async def manifest_of(family, spec: str, target) -> Manifest:
    certificate = await certify(Candidate(family, target, MINED))
    return Manifest(family=spec, parameters=family.parameters, capability=MINED, certificate=certificate)


async def test_an_environment_on_disk_makes_the_same_tasks_again_for_any_loader(tmp_path):
    family = Unlock(balance=0.4, compound=0.1)
    manifest = await manifest_of(family, "synth_envs.helpdesk:Unlock", Helpdesk())
    folder = write_environment(tmp_path / "envs" / MINED.name, manifest)
    assert read_manifest(folder) == manifest
    expected = [family.environment(MINED).generate(seed) for seed in range(20)]
    for environment in (load_synthetic(folder), load_environment(f"{folder / 'environment.py'}:environment")):
        assert environment.capability == MINED
        assert [environment.generate(seed) for seed in range(20)] == expected


async def test_a_family_written_for_a_run_travels_with_the_folder(tmp_path):
    family = load_family(f"{PARCELS}:ParcelFamily")
    manifest = await manifest_of(family, "family.py:ParcelFamily", family.environment())
    folder = write_environment(tmp_path / "first", manifest, PARCELS.read_text())
    moved = folder.rename(tmp_path / "second")
    assert load_synthetic(moved).generate(5).prompt == "Send parcel 5."
    assert "parcel_family" not in {getattr(module, "__file__", "") for module in sys.modules.values() if module}


def test_uses_of_seeds_do_not_overlap():
    ranges = [found.seeds for found in SeedRanges().__dict__.values()]
    for one in ranges:
        for other in ranges:
            assert one is other or one.stop <= other.start or other.stop <= one.start


def test_an_empty_range_of_seeds_is_refused():
    with pytest.raises(ValueError, match="are none"):
        SeedRange(first=5, end=5)


async def test_a_folder_without_a_sound_manifest_is_a_usage_error_that_names_the_file(tmp_path):
    with pytest.raises(UsageError, match=r"missing file .*manifest.json"):
        load_synthetic(tmp_path)
    path = tmp_path / "manifest.json"
    path.write_text("{")
    with pytest.raises(UsageError, match="is not JSON"):
        load_synthetic(tmp_path)
    sound = await manifest_of(Unlock(), "synth_envs.helpdesk:Unlock", Helpdesk())
    for key, value in {"version": 2, "family": 3, "seeds": {"training": {"first": 9, "end": 1}}}.items():
        path.write_text(json.dumps(sound.model_dump(mode="json") | {key: value}))
        with pytest.raises(UsageError, match=f"is malformed \\({key}"):
            load_synthetic(tmp_path)
