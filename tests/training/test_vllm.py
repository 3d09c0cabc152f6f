"""A real vLLM server in the engine's place, by URL: the same tokens, log-probabilities and run-time adapters.

Name the Python of an environment that has vLLM in TRACE_AGENTS_VLLM_PYTHON; without it these tests are skipped.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tiny_base import make_adapter

from trace_agents.cli.serve import listen
from trace_agents.endpoint import Sampling
from trace_agents.errors import UsageError
from trace_agents.registry import load_environment
from training.base_agent import find_model
from training.engine import Engine
from training.engine.remote import RemoteEndpoint
from training.grpo import GRPOConfig, SeededTasks, train
from training.rollouts import RolloutConfig

VLLM_PYTHON = os.environ.get("TRACE_AGENTS_VLLM_PYTHON")
READY_SECONDS = 240

pytestmark = [
    pytest.mark.skipif(not VLLM_PYTHON, reason="TRACE_AGENTS_VLLM_PYTHON names no Python with vLLM"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

PROMPT = list(range(20, 60))
BASE = "helpdesk-1m"


@pytest.fixture(scope="module")
def base() -> Path:
    return find_model("embedded:helpdesk-1m")


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(base, tmp_path_factory.mktemp("adapters") / "plain", 1)


@pytest.fixture(scope="module")
def url(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A vLLM server of the embedded base, that adapters can be loaded into."""
    listening = listen("127.0.0.1", 0)
    port = listening.getsockname()[1]
    listening.close()
    options = {"model": base, "served-model-name": BASE, "port": port, "dtype": "float32", "max-model-len": 512}
    command = [str(VLLM_PYTHON), "-m", "vllm.entrypoints.openai.api_server", "--enable-lora", "--enable-scale-out"]
    command += [part for name, value in options.items() for part in (f"--{name}", str(value))]
    settings = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True", "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
    log = tmp_path_factory.mktemp("vllm") / "log"
    with log.open("w") as stream:
        server = subprocess.Popen(
            command, env=os.environ | settings, stdout=stream, stderr=stream, start_new_session=sys.platform != "win32"
        )
    try:
        asyncio.run(_ready(f"http://127.0.0.1:{port}", server, log))
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(60)


async def _ready(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    async with asyncio.timeout(READY_SECONDS), httpx.AsyncClient() as client:
        while True:
            if server.poll() is not None:
                pytest.fail(f"vLLM ended:\n{log.read_text()[-3000:]}")
            try:
                if (await client.get(f"{url}/health")).is_success:
                    return
            except httpx.TransportError:
                await asyncio.sleep(0.5)


async def test_vllm_and_the_engine_agree_on_the_base_and_on_a_run_time_adapter(
    url: str, base: Path, adapter: Path
) -> None:
    engine, sampling = Engine.from_pretrained(base), Sampling(max_tokens=24)
    await engine.load_adapter("plain", str(adapter))
    async with RemoteEndpoint(url) as remote:
        await remote.load_adapter("plain", str(adapter))
        assert {BASE, "plain"} <= set(await remote.models())
        for model in (BASE, "plain"):
            here, there = await asyncio.gather(
                engine.generate(PROMPT, model, sampling), remote.generate(PROMPT, model, sampling)
            )
            assert there.token_ids == here.token_ids
            assert there.logprobs == pytest.approx(here.logprobs, abs=1e-4)
            scores = await remote.score_next(PROMPT, [5, 6, 7], model)
            assert scores == pytest.approx(await engine.score_next(PROMPT, [5, 6, 7], model), abs=1e-4)


async def test_an_adapter_is_replaced_in_place(url: str, base: Path, adapter: Path, tmp_path: Path) -> None:
    other = make_adapter(base, tmp_path / "other", 2)
    sampling = Sampling(max_tokens=12)
    async with RemoteEndpoint(url) as remote:
        await remote.load_adapter("changing", str(adapter))
        before = await remote.generate(PROMPT, "changing", sampling)
        await remote.load_adapter("changing", str(other))
        after = await remote.generate(PROMPT, "changing", sampling)
        assert after != before
        await remote.load_adapter("fresh", str(other))
        assert (await remote.generate(PROMPT, "fresh", sampling)).logprobs == pytest.approx(after.logprobs, abs=1e-4)


async def test_an_unknown_model_is_named(url: str) -> None:
    async with RemoteEndpoint(url) as remote:
        with pytest.raises(UsageError, match="nobody"):
            await remote.generate(PROMPT, "nobody", Sampling(max_tokens=2))


async def test_grpo_samples_from_vllm_what_it_trains_on(url: str, base: Path, tmp_path: Path) -> None:
    rollout = RolloutConfig(model="", sampling=Sampling(temperature=1.0, max_tokens=96), max_turns=8)
    config = GRPOConfig(groups=4, group_size=4, iterations=2, stop_when_solved=False, rollout=rollout)
    source = SeededTasks(load_environment("synth/unlock"), train_from=100, validate_from=10, validate=4)
    async with RemoteEndpoint(url) as remote:
        result = await train(source, remote, base, config, tmp_path / "unlock")
    trained = [row for row in result.rows if row.informative_groups]
    assert trained
    assert all(row.infrastructure_failures == 0 for row in result.rows)
    assert all(row.sampler_gap == pytest.approx(0.0, abs=1e-3) for row in trained)
