"""A run's configuration: what is written is what is read, and nothing is silently ignored."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trace_agents.config import RunConfig
from trace_agents.errors import UsageError

ROOT = Path(__file__).parents[2]
TARGET = '[target]\nenvironment = "helpdesk"\n'


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.toml")), ids=lambda path: path.name)
def test_the_shipped_configurations_survive_a_round_trip(path: Path) -> None:
    config = RunConfig.load(path)
    assert RunConfig.parse(config.to_toml()) == config


@given(st.text(min_size=1), st.floats(1e-12, 1e3), st.integers(0, 2**63 - 1), st.none() | st.text(min_size=1))
def test_any_configuration_survives_a_round_trip(name: str, lr: float, seed: int, endpoint: str | None) -> None:
    config = RunConfig.model_validate(
        {
            "run": {"seed": seed},
            "target": {"environment": name},
            "training": {"lr": lr},
            "agent": {"endpoint": endpoint},
        }
    )
    assert RunConfig.parse(config.to_toml()) == config


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            TARGET + "[training]\nlrr = 1\n",
            "unknown key 'lrr' in [training] of 'c.toml': use one of 'alpha', 'batch_tokens'",
        ),
        ("[targt]\na = 1\n", "unknown section 'targt' in 'c.toml': use one of 'agent'"),
        ("", "missing section 'target' in 'c.toml': add it"),
        ("[target]\n", "missing key 'environment' in [target] of 'c.toml'"),
        (TARGET + '[training]\nlr = "fast"\n', "lr = 'fast' in [training] of 'c.toml': give a number"),
        (TARGET + "[analysis]\nruns = 5\n", "keep_in = 8 can never be met in runs = 5: lower keep_in"),
        (TARGET + '[routing]\nrouters = ["prob"]\n', "'prob' in [routing] of 'c.toml': input should be 'zero-shot' or"),
        ("version = 2\n" + TARGET, "version = 2 in 'c.toml'"),
        ("a =", "'c.toml' is not TOML: invalid value at the end, 'a =': text goes in quotes"),
        (TARGET + "\n[training] \nlr = fast", "at line 5, column 6, 'lr = fast': text goes in quotes; true, false and"),
        (TARGET + "[training\n", "is not TOML: expected ']' at the end of a table declaration at line 3, column 10"),
        (TARGET + "[synthesis]\nfamilies = 'a.py:A'\n", "in [synthesis] of 'c.toml': give a list, in square brackets"),
        (TARGET + "[training]\ngradient_checkpointing = 'true'\n", "give true or false, without quotes"),
        ("target = 3\n", "target = 3 in 'c.toml': give a table (in JSON an object), in braces"),
        (TARGET + '[run]\nname = "../up"\n', "name = '../up' in [run]"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_the_remedy(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        RunConfig.parse(text, "c.toml")
    assert said in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent\.toml' does not exist"):
        RunConfig.load(tmp_path / "absent.toml")


def test_a_seed_on_the_command_line_replaces_the_configured_one() -> None:
    config = RunConfig.parse(TARGET)
    assert config.with_seed(7).run.seed == 7
    assert config.with_seed(None) is config
    with pytest.raises(UsageError, match="seed -1 is negative"):
        config.with_seed(-1)
