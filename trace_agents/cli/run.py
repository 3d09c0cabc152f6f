"""`trace-agents run` and `trace-agents demo`: the whole TRACE loop, resumable."""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from trace_agents.config import RunConfig
from trace_agents.errors import InfrastructureError, UsageError
from trace_agents.registry import SPELLINGS, load_environment
from trace_agents.runstore import RunStore

DEMO = Path("configs") / "helpdesk.toml"

Out = Annotated[Path, typer.Option(help="Folder that holds runs.")]
RunId = Annotated[
    str | None, typer.Option(help="Name of the run's folder; default: name, seed and time.", show_default=False)
]
Seed = Annotated[int | None, typer.Option(help="Seed, in place of the configuration's.", show_default=False)]
Resume = Annotated[
    Path | None, typer.Option(metavar="RUN_DIR", help="Go on with this run where it stopped.", show_default=False)
]


def run(
    config: Annotated[
        Path | None,
        typer.Argument(
            metavar="CONFIG",
            help=f"TOML configuration, such as configs/helpdesk.toml; its [target] names the environment: {SPELLINGS}.",
            show_default=False,
        ),
    ] = None,
    out: Out = Path("runs"),
    run_id: RunId = None,
    seed: Seed = None,
    resume: Resume = None,
) -> None:
    """Run the loop: rollouts, analysis, synthesis, training, routing, evaluation, report."""
    if resume is not None:
        given = {"CONFIG": config, "--run-id": run_id, "--seed": seed}
        clash = ", ".join(name for name, value in given.items() if value is not None)
        if clash:
            raise UsageError(f"--resume {str(resume)!r} keeps the run's own configuration: leave out {clash}")
        store = RunStore.open(resume)
    elif config is None:
        raise UsageError("no configuration given: name a TOML file ('configs/helpdesk.toml'), or --resume RUN_DIR")
    else:
        settings = RunConfig.load(config).with_seed(seed)
        _check(settings)
        store = RunStore.create(out / (run_id or _new_id(settings)), settings)
    with store:
        _execute(store)


def demo(out: Out = Path("runs"), run_id: RunId = None, seed: Seed = None, resume: Resume = None) -> None:
    """The whole loop on the embedded benchmark and agent: `run configs/helpdesk.toml`."""
    run(None if resume is not None else demo_config(), out, run_id, seed, resume)


def demo_config() -> Path:
    """The demo's configuration: in the checkout, or where the wheel installed it.

    Raises:
        UsageError: it is in neither place.
    """
    places = (Path(__file__).parents[2] / DEMO, Path(sys.prefix) / "share" / "trace-agents" / DEMO)
    for place in places:
        if place.is_file():
            return place
    looked = " and ".join(repr(str(place)) for place in places)
    raise UsageError(f"the demo's configuration is missing (looked at {looked}): reinstall, or use `run CONFIG`")


def _check(config: RunConfig) -> None:
    """Find what can be wrong with target and agent before there is a run and before anything heavy is loaded.

    Raises:
        UsageError: unknown environment, split or model, or splits that share tasks.
    """
    from training.base_agent import find_model

    target = config.target
    environment = load_environment(target.environment)
    splits = {name: getattr(target, name) for name in ("train_split", "validation_split", "test_split")}
    if not environment.splits:
        raise UsageError(
            f"environment {environment.name!r} has no splits, only tasks from seeds: a run needs three, to train, to "
            "pick and to report on"
        )
    for key, split in splits.items():
        if split not in environment.splits:
            known = ", ".join(repr(name) for name in environment.splits)
            raise UsageError(
                f"unknown split {split!r} of environment {environment.name!r}: use one of {known} as {key} in [target]"
                "; a run needs three that share no task"
            )
    held = {key: {task.id for task in environment.tasks(split)} for key, split in splits.items()}
    for one, other in itertools.combinations(splits, 2):
        if shared := held[one] & held[other]:
            raise UsageError(
                f"{one} {splits[one]!r} and {other} {splits[other]!r} of environment {environment.name!r} share "
                f"{len(shared)} tasks ({min(shared)!r}): give each its own, as nothing is picked or reported on tasks "
                "that were learnt from"
            )
    find_model(config.agent.model)


def _new_id(config: RunConfig) -> str:
    return f"{config.run.name}-s{config.run.seed}-{time.strftime('%Y%m%d-%H%M%S')}"


def _execute(store: RunStore) -> None:
    from graphs.analysts.handoff import AnswersWanted
    from graphs.pipeline import run_pipeline
    from trace_agents.analysis.handoff import HandoffFolder
    from trace_agents.analysis.notes import FILE
    from trace_agents.artifacts import EvaluationArtifact
    from trace_agents.cli._progress import console, watch
    from trace_agents.cli._reading import show_open
    from trace_agents.cli._tables import evaluation_tables
    from trace_agents.report import build_report
    from trace_agents.report.findings import read_notes

    screen = console()
    screen.print(f"run [bold]{store.root}[/]", highlight=False)
    try:
        with watch(screen) as progress:
            run_pipeline(store.config, store, progress)
    except AnswersWanted as wanted:
        # A hand-off waits for its readers: the run has not failed.
        folder = HandoffFolder.existing(Path(str(wanted.folder)))
        show_open(folder, f"`trace-agents run --resume {store.root}`")
        return
    except (UsageError, InfrastructureError) as error:
        kept = f"what was done is kept: see it with `trace-agents report {store.root}`"
        again = f"change {str(store.path('config.toml'))!r} if need be, and go on with `trace-agents run --resume"
        raise UsageError(f"{error}; {kept}; {again} {store.root}`") from error
    except KeyboardInterrupt:
        typer.echo(f"trace-agents: interrupted; resume with `trace-agents run --resume {store.root}`", err=True)
        raise typer.Exit(130) from None
    notes = read_notes(store.path(FILE))
    for table in evaluation_tables(store.read_json("evaluation.json", EvaluationArtifact), notes):
        screen.print(table)
    screen.print(f"report [bold]{build_report(store.root)}[/]", highlight=False)
