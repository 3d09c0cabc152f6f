"""Adapter folders are PEFT's, and know their base."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from tiny_base import make_adapter, make_base
from transformers import Qwen3ForCausalLM

from trace_agents.errors import UsageError
from training.adapters import read_adapter, save_adapter
from training.checkpoints import RandomState
from training.engine import Engine
from training.grpo import GRPOConfig
from training.grpo.policy import Policy

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

IDS = torch.tensor([[5, 9, 200, 33, 7, 41]])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture(scope="module")
def policy(base: Path) -> Policy:
    policy = Policy(base, GRPOConfig(rank=4), RandomState(0, torch.device("cpu")))
    torch.manual_seed(1)
    policy.load_adapter({key: torch.randn_like(tensor) * 0.1 for key, tensor in policy.adapter().items()})
    return policy


@pytest.fixture
def folder(base: Path, policy: Policy, tmp_path: Path) -> Path:
    return save_adapter(tmp_path / "adapters" / "one", policy.adapter(), policy.lora_config, base)


def test_peft_loads_the_folder_and_says_the_same(base: Path, policy: Policy, folder: Path) -> None:
    model = PeftModel.from_pretrained(Qwen3ForCausalLM.from_pretrained(base), folder)
    with torch.no_grad():
        expected = policy.model(input_ids=IDS).logits
        torch.testing.assert_close(model(input_ids=IDS).logits, expected, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(Qwen3ForCausalLM.from_pretrained(base)(input_ids=IDS).logits, expected, atol=1e-2)


async def test_the_engine_loads_the_folder_and_says_the_same(base: Path, policy: Policy, folder: Path) -> None:
    engine = Engine.from_pretrained(base)
    await engine.load_adapter("one", str(folder))
    with torch.no_grad():
        expected = torch.log_softmax(policy.model(input_ids=IDS).logits[0, -1], -1)
    assert await engine.score_next(IDS[0].tolist(), [3, 7], "one") == pytest.approx(expected[[3, 7]].tolist(), abs=1e-4)


def test_what_was_written_is_read_back(base: Path, policy: Policy, folder: Path) -> None:
    found = read_adapter(folder, base)
    assert found.config["base_model_name_or_path"] == "base"
    assert set(found.tensors) == set(policy.adapter())
    assert all(torch.equal(found.tensors[key], tensor) for key, tensor in policy.adapter().items())


def test_no_path_of_the_machine_is_written(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        assert str(tmp_path.parent).encode() not in path.read_bytes()


def test_the_same_adapter_is_the_same_file(base: Path, policy: Policy, folder: Path, tmp_path: Path) -> None:
    again = save_adapter(tmp_path / "again", dict(reversed(policy.adapter().items())), policy.lora_config, base)
    for path in folder.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes()


def test_an_adapter_for_another_base_is_refused(folder: Path, tmp_path: Path) -> None:
    other = make_base(tmp_path / "other" / "base", seed=1)
    with pytest.raises(UsageError, match="was trained on another base"):
        read_adapter(folder, other)


def test_an_adapter_of_another_tool_says_no_base(base: Path, tmp_path: Path) -> None:
    assert read_adapter(make_adapter(base, tmp_path / "peft", 1), base).base is None


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_damaged_folder_is_named(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"{")
    with pytest.raises(UsageError, match="is damaged"):
        read_adapter(folder)
    (folder / name).unlink()
    with pytest.raises(UsageError, match=f"has no {name!r}"):
        read_adapter(folder)


def test_the_configuration_is_pefts_json(folder: Path) -> None:
    options = json.loads((folder / "adapter_config.json").read_text())
    assert (options["peft_type"], options["r"], options["lora_alpha"]) == ("LORA", 4, 16.0)
    assert options["target_modules"] == sorted(options["target_modules"])
