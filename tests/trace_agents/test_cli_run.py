"""`trace-agents run` on runs that stop early: what the user is told, and what is kept."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from trace_agents.cli import main
from trace_agents.runstore import RunStore

ENVIRONMENT = '''
import signal
from pathlib import Path
from trace_agents.errors import unknown
from trace_agents.types import TaskInstance

class Shop:
    """An environment on whose train tasks, once the run is there, the user presses Ctrl-C, twice, so as not to wait for
    the next await."""
    name = "shop"
    splits = {"train": 1, "validation": 1, "test": 1}
    def tasks(self, split):
        if split not in self.splits:
            raise unknown("split", split, list(self.splits))
        if split != "train" or not Path("runs").exists():
            return [TaskInstance(id=split, environment=self.name, split=split, prompt="Hello.")]
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    def task(self, task_id): raise unknown("task", task_id, [])
    def generate(self, seed): raise unknown("seed", seed, [])
    async def start(self, task): raise NotImplementedError
'''


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an environment and a configuration that names it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.py").write_text(ENVIRONMENT)
    (tmp_path / "shop.toml").write_text('[target]\nenvironment = "shop.py:Shop"\n')
    return tmp_path


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C interrupts, as in a terminal: a process that a shell starts in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_run_says_how_to_go_on_and_is_kept(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "shop.toml", "--run-id", "one", "--seed", "5"]) == 130
    assert "trace-agents: interrupted; resume with `trace-agents run --resume runs/one`" in capsys.readouterr().err
    with RunStore.open(shop / "runs" / "one") as store:
        assert store.config.run.seed == 5
        assert store.stages == {}


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ('environment = "shp"', "unknown environment 'shp': use one of"),
        ('environment = "absent.py:Shop"', "environment file 'absent.py' does not exist"),
        (
            'environment = "shop.py:Shop"\ntrain_split = "tain"',
            "unknown split 'tain' of environment 'shop': use one of 'train'",
        ),
        (
            'environment = "shop.py:Shop"\nvalidation_split = "test"',
            "validation_split 'test' and test_split 'test' of environment 'shop' share 1 tasks ('test')",
        ),
        ('environment = "synth/unlock"', "environment 'synth/unlock' has no splits, only tasks from seeds"),
        (
            'environment = "shop.py:Shop"\n[agent]\nmodel = "http://127.0.0.1:8001/v1#m"',
            "model 'http://127.0.0.1:8001/v1#m' is a URL, and what is trained is a folder of weights",
        ),
        ('environment = "shop.py:Shop"\n[agent]\nmodel = "nowhere"', "model folder 'nowhere' holds no config.json"),
    ],
)
def test_a_target_that_does_not_exist_is_one_line_and_makes_no_run(
    shop: Path, section: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (shop / "bad.toml").write_text(f"[target]\n{section}\n")
    assert main(["run", "bad.toml", "--run-id", "bad"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not (shop / "runs").exists()
