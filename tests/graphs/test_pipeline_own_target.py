"""A run on a user's own environment: what cannot go on says why and what to change, and what was done is kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from locker_environment import served, serving
from starlette.applications import Starlette

from graphs.pipeline.context import Run
from graphs.pipeline.evaluation import Contestant, play
from graphs.pipeline.families import families
from graphs.pipeline.prospects import notes
from graphs.pipeline.rollouts import read_trajectories, roll_out
from trace_agents.artifacts import ArmKind
from trace_agents.cli import main
from trace_agents.config import RunConfig
from trace_agents.errors import UsageError
from trace_agents.progress import SilentProgress
from trace_agents.registry import load_environment
from trace_agents.runstore import RunStore
from training.base_agent import find_model
from training.chat import ChatFormat
from training.engine import Engine
from training.engine.http import create_app

LIBRARY = Path(__file__).parents[2] / "docs" / "examples" / "library"
PARCELS = Path(__file__).parents[1] / "synth_envs" / "parcel_family.py"
SPLITS = {"lend-free": "train", "bring-back": "validation", "unpaid-fees": "test"}
LOCKERS = '''
from pathlib import Path
from locker_environment import Lockers
from trace_agents.errors import InfrastructureError

class Away(Lockers):
    """Each locker a split; they are away as long as there is a file of that name, or one for the locker."""
    name = "lockers"
    splits = {"train": 1, "validation": 1, "test": 1}

    def tasks(self, split):
        return [self.task({"train": "3", "validation": "5", "test": "7"}[split])]

    def task(self, task_id):
        split = {"3": "train", "5": "validation", "7": "test"}[task_id]
        return super().task(task_id).model_copy(update={"split": split})

    async def start(self, task):
        if Path("away").exists() or Path(f"away-{task.id}").exists():
            raise InfrastructureError("the lockers are away")
        return await super().start(task)
'''


def config(environment: str, **sections: str) -> RunConfig:
    """Few and short rollouts, and the TOML of some `sections`."""
    text = f'[target]\nenvironment = "{environment}"\nrollouts_per_task = 3\nmax_turns = 4\nmax_tokens = 32\n'
    return RunConfig.parse(text + "".join(f"[{name}]\n{lines}\n" for name, lines in sections.items()))


@pytest.fixture
def lockers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An environment in the current folder, and its name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lockers.py").write_text(LOCKERS)
    return "lockers.py:Away"


def endpoint(name: str) -> Starlette:
    """The embedded agent under `name`, as `trace-agents endpoint` serves it."""
    folder = find_model("embedded:helpdesk-1m")
    return create_app(Engine.from_pretrained(folder, name=name, threads=1), ChatFormat.from_pretrained(folder))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_an_agent_that_knows_other_tools_ends_the_run_with_that_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("benchmark.toml", "policy.md", "server.py"):
        (tmp_path / name).write_text((LIBRARY / name).read_text())
    (tmp_path / "start").mkdir()
    for file in (LIBRARY / "start").iterdir():
        (tmp_path / "start" / file.name).write_text(file.read_text())
    rows = map(json.loads, (LIBRARY / "tasks.jsonl").read_text().splitlines())
    chosen = [row | {"split": SPLITS[row["id"]]} for row in rows if row["id"] in SPLITS]
    (tmp_path / "tasks.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in chosen))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.toml").write_text(config("benchmark.toml").to_toml())
    assert main(["run", "run.toml", "--run-id", "one"]) == 2
    shown = capsys.readouterr()
    assert "agent 'helpdesk-1m' was made for 'helpdesk', and may know no other tools" in shown.out
    assert "no generator family is known for 'library': the run will end after its analysis" in shown.out
    [line] = [line for line in shown.err.splitlines() if line.startswith("trace-agents: ")]
    assert "the agent never succeeds: set [agent] model to one that now and then does" in line
    assert "tool calls were of tools that 'library' lacks" in line
    assert "change 'runs/one/config.toml' if need be, and go on with `trace-agents run --resume runs/one`" in line
    with RunStore.open(tmp_path / "runs" / "one") as store:
        assert [*store.stages] == ["rollouts"]
    assert main(["report", "runs/one"]) == 0


@pytest.mark.filterwarnings("ignore::FutureWarning")
async def test_rollouts_that_infrastructure_failed_are_played_again(lockers: str, tmp_path: Path) -> None:
    wanted = config(lockers)
    with RunStore.create(tmp_path / "run", wanted) as store:
        run = Run(wanted, store, SilentProgress())
        (tmp_path / "away").touch()
        with pytest.raises(
            UsageError, match=r"rollouts: 3 of 3 rollouts have no verdict.*the lockers are away\): mend that"
        ):
            await roll_out(run)
        assert store.stages == {}
        (tmp_path / "away").unlink()
        await roll_out(run)
        assert [one.success for one in read_trajectories(run)] == [False] * 3
        assert [*store.stages] == ["rollouts"]


class Notes(SilentProgress):
    """Keeps the lines that stay on the screen."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


@pytest.mark.filterwarnings("ignore::FutureWarning")
async def test_a_few_lost_episodes_of_an_evaluation_are_told_and_many_end_it(lockers: str, tmp_path: Path) -> None:
    wanted = config(lockers)
    with RunStore.create(tmp_path / "run", wanted) as store:
        run = Run(wanted, store, Notes())
        pairs = [(run.target.task(number), 0) for number in ("3", "5", "7")]
        base = Contestant("base", ArmKind.BASE, run.base_model)
        (tmp_path / "away-5").touch()
        outcomes = await play(run, [base], [task for task, _ in pairs], "evaluation")
        assert [one.success for one in outcomes["base"]] == [False, None, False]
        [line] = run.progress.lines
        assert line.startswith("evaluation, base: 1 of 3 rollouts have no verdict, as infrastructure failed (starting")
        (tmp_path / "away").touch()
        with pytest.raises(UsageError, match="evaluation, base: 3 of 3 rollouts have no verdict"):
            await play(run, [base], [task for task, _ in pairs], "evaluation")


@pytest.mark.filterwarnings("ignore::FutureWarning")
async def test_rollouts_of_another_agent_are_not_taken_for_this_ones(lockers: str, tmp_path: Path) -> None:
    wanted = config(lockers)
    with RunStore.create(tmp_path / "run", wanted) as store:
        run = Run(wanted, store, SilentProgress())
        await roll_out(run)
        text = store.path("trajectories.jsonl").read_text().replace('"model":"helpdesk-1m"', '"model":"another"')
        store.write_text("trajectories.jsonl", text)
        store.write_text("stages.json", '{"version": 1, "stages": []}')
        await roll_out(run)
        assert [one.agent for one in read_trajectories(run)] == ["helpdesk-1m"] * 3


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_served_environment_runs_as_a_local_one_and_its_end_is_one_line(
    lockers: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(load_environment(lockers)) as url:
        (tmp_path / "run.toml").write_text(config(url).to_toml())
        assert main(["run", "run.toml", "--run-id", "one"]) == 2
        assert "the agent never succeeds" in capsys.readouterr().err
    assert main(["run", "--resume", "runs/one"]) == 2
    assert f"no environment answers at {url!r}" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_server_that_cannot_sample_the_agent_says_what_is_missing(
    lockers: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def ended(url: str, name: str) -> str:
        (tmp_path / f"{name}.toml").write_text(config(lockers, agent=f'endpoint = "{url}"').to_toml())
        assert main(["run", f"{name}.toml", "--run-id", name]) == 2
        return capsys.readouterr().err

    with served(endpoint("another")) as url:
        assert f"endpoint {url!r} serves ['another'], not 'helpdesk-1m'" in ended(url, "another")
    assert f"server {url!r} is gone" in ended(url, "gone")
    whole = endpoint("helpdesk-1m")
    chat_only = Starlette(routes=[route for route in whole.routes if "generate" not in route.path])
    with served(chat_only) as url:
        assert f"server {url!r} has no /inference/v1/generate" in ended(url, "chat")
    with served(whole) as url:
        assert "the agent never succeeds" in ended(url, "whole")


async def test_a_runs_families_are_the_targets_own(tmp_path: Path, lockers: str) -> None:
    spec = str(PARCELS)

    def of(name: str) -> Run:
        wanted = config(lockers, synthesis=f'families = ["{spec}:ParcelFamily"]')
        run = Run(wanted, RunStore.create(tmp_path / name, wanted), SilentProgress())
        run.target.name = name
        return run

    with pytest.raises(UsageError, match="is for target 'parcels', not 'lockers': name families of the target"):
        families(of("lockers"))
    parcels = of("parcels")
    assert [*families(parcels)] == [f"{PARCELS.resolve()}:ParcelFamily"]
    assert [note for note in notes(parcels) if "family" in note] == []
