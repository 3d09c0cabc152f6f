"""`trace-agents evaluate`: any agent in any environment, beside floors and ceiling; and two results compared."""

from __future__ import annotations

import contextlib
import json
import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trace_agents.errors import InfrastructureError, UsageError
from trace_agents.registry import SPELLINGS

if TYPE_CHECKING:
    from graphs.evaluation.question import Asked, EvaluationResult


def evaluate(
    environment: Annotated[
        str | None,
        typer.Argument(metavar="ENV", help=f"Environment: {SPELLINGS}.", show_default=False),
    ] = None,
    agent: Annotated[
        str | None,
        typer.Option(
            help="Who plays: 'oracle', 'do-nothing', 'decline', 'random', 'embedded:helpdesk-1m', "
            "'http://HOST:PORT/v1#MODEL', 'provider:MODEL', 'run:RUN_DIR', 'run:RUN_DIR#ARM' or 'file.py:Class'.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            help="Split to play; default: 'test', the only one, or generated tasks where there is none.",
            show_default=False,
        ),
    ] = "",
    tasks: Annotated[
        list[str] | None, typer.Option(help="Id of a task to play, in place of a split (repeatable).")
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Episodes of each task; pass^k needs k of them.")] = 1,
    concurrency: Annotated[int, typer.Option(min=1, help="Episodes at a time.")] = 8,
    temperature: Annotated[float, typer.Option(min=0.0, help="Sampling temperature of the agent's model.")] = 0.0,
    max_turns: Annotated[int, typer.Option(min=1, help="Most turns of the agent in an episode.")] = 50,
    context: Annotated[int, typer.Option(min=1, help="Most tokens of one conversation.")] = 32_768,
    max_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of one turn.")] = 4096,
    seed: Annotated[int, typer.Option(help="Seed of sampling and of random draws.")] = 0,
    timeout: Annotated[float, typer.Option(min=1.0, help="Seconds for one attempt at an episode.")] = 1800.0,
    retries: Annotated[int, typer.Option(min=0, help="Further attempts where infrastructure failed.")] = 2,
    floors: Annotated[bool, typer.Option(help="Play the oracle, do-nothing and decline beside the agent.")] = True,
    random: Annotated[bool, typer.Option("--random", help="Play random valid calls beside the agent too.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the result; the same command goes on there.", show_default=False),
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="DIR DIR", help="Compare two results, task by task, and play nothing.", show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Measure an agent in an environment: pass rate, pass^k, mean reward, beside ceiling and floors.

    Every episode is on disk as it ends; the same command goes on where it stopped, and plays what infrastructure failed
    again. `trace-agents analyze DIR` reads the result.
    """
    if compare is not None:
        _compare(compare, as_json)
        return
    if environment is None or agent is None:
        missing = "ENV" if environment is None else "--agent"
        raise UsageError(f"{missing} is missing: give for example 'trace-agents evaluate helpdesk --agent oracle'")
    if not math.isfinite(temperature):
        raise UsageError(f"--temperature is {temperature!r}: give a number, such as 0.7")
    from graphs.evaluation.evaluate import Beside
    from graphs.evaluation.playing import Pace
    from graphs.evaluation.question import FLOORS, RANDOM, Asked

    asked = Asked(
        environment=environment,
        agent=agent,
        split=split,
        tasks=tuple(tasks or ()),
        trials=trials,
        temperature=temperature,
        max_tokens=max_tokens,
        context=context,
        max_turns=max_turns,
        seed=seed,
    )
    beside = Beside((*(FLOORS if floors else ()), *((RANDOM,) if random else ())))
    pace = Pace(concurrency=concurrency, timeout_s=timeout, retries=retries)
    _evaluate(asked, out or _default_out(asked), pace, beside, as_json)


def _default_out(asked: Asked) -> Path:
    """A folder named after the question, so that the same command finds it again."""
    words = [asked.environment, asked.agent, asked.split or "", *asked.tasks[:1]]
    return Path("evaluations") / "-".join(filter(None, (re.sub(r"[^\w.]+", "-", word).strip("-") for word in words)))


def _evaluate(asked: Asked, out: Path, pace: Any, beside: Any, as_json: bool) -> None:
    from graphs.evaluation.evaluate import evaluate as play
    from trace_agents.cli._progress import console, watch
    from trace_agents.cli._scores import score_tables

    screen = console(stderr=as_json)
    try:
        # With --json, what an agent or an environment prints must not get into the figures.
        aside = contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext()
        with aside, watch(screen) as progress:
            result = play(asked, out, pace, beside, progress)
    except KeyboardInterrupt:
        typer.echo(f"trace-agents: interrupted; the same command goes on in {str(out)!r}", err=True)
        raise typer.Exit(130) from None
    except SystemExit as error:
        # Of a module that is imported, a constructor, or a task that an agent began; within an episode it is recorded.
        what = f"the code of {asked.agent!r} or {asked.environment!r} ended the process with code {error.code!r}"
        raise UsageError(f"{what}: let it raise or return; what was played is kept") from error
    except InfrastructureError as error:
        # Before or after the episodes, whose own failures are recorded.
        raise UsageError(f"{error}; what was played is kept: give the same command again") from error
    if as_json:
        print(result.model_dump_json(indent=2))
    else:
        for table in score_tables(result):
            screen.print(table)
        screen.print(f"report [bold]{out / 'report.html'}[/]", highlight=False)
    if not result.score.episodes:
        raise UsageError(f"no episode has a verdict, so nothing can be estimated: {result.notes[0]}")


def _compare(folders: tuple[Path, Path], as_json: bool) -> None:
    from graphs.evaluation.folder import stream_result
    from trace_agents.cli._progress import console
    from trace_agents.cli._scores import comparison_table
    from trace_agents.scores import compare

    (first, played), (second, others) = (stream_result(folder) for folder in folders)
    _check_comparable(first, second, folders)
    difference = compare(played, others)
    if as_json:
        json.dump({"version": 1, "results": [str(each) for each in folders], **difference.model_dump()}, sys.stdout)
        print()
        return
    console().print(comparison_table(first, second, difference))


def _check_comparable(first: EvaluationResult, second: EvaluationResult, folders: tuple[Path, Path]) -> None:
    one, other = first.question, second.question
    if (one.name, one.provenance) != (other.name, other.provenance):
        raise UsageError(
            f"{str(folders[0])!r} is of environment {one.name!r} and {str(folders[1])!r} of {other.name!r}, or of "
            "another version of it: compare results of the same environment"
        )
