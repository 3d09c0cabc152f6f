"""`trace-agents analyze`: which capabilities an agent lacks, how sure that is, and where to look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trace_agents.analysis.handoff import HandoffFolder
from trace_agents.analysis.requests import prices_of
from trace_agents.cli._reading import Reader, Reading, show_open
from trace_agents.cli._validation import validation
from trace_agents.errors import UsageError
from trace_agents.files import check_folder

if TYPE_CHECKING:
    from rich.console import Console

    from trace_agents.analysis import Analysis
    from trace_agents.analysis.notes import AnalystNotes
    from trace_agents.contrast import Thresholds
    from trace_agents.importers import LoadReport, Outcomes
    from trace_agents.types import Trajectory


def analyze(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Files and folders of trajectories.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for capabilities.json, labels.jsonl and report.html.", show_default=False)
    ],
    format: Annotated[
        str | None,
        typer.Option(
            help="adp, langsmith, messages, tau-bench, tau2, toolsandbox or verifiers; guessed where not given.",
            show_default=False,
        ),
    ] = None,
    success_column: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Key of a row with its success; a.b for nested ones.", show_default=False),
    ] = None,
    reward_column: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Key of a row with its reward; a.b for nested ones.", show_default=False),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Least reward of a success; 1 where not given.", show_default=False)
    ] = None,
    runs: Annotated[int, typer.Option(metavar="N", help="Independent labelling runs.")] = 10,
    keep_in: Annotated[
        int | None,
        typer.Option(metavar="K", min=1, help="Runs of the N that must select it; default: 8 in 10, rounded up."),
    ] = None,
    delta: Annotated[float, typer.Option(min=-1, max=1, help="δ: least contrastive gap of a kept one.")] = 0.20,
    rho: Annotated[float, typer.Option(min=0, max=1, help="ρ: least coverage of the failures.")] = 0.10,
    support: Annotated[
        int, typer.Option(min=1, help="Least trajectories of each kind that a run's verdict rests on.")
    ] = 3,
    seed: Annotated[int, typer.Option(help="Seed of the statistics and of the runs' samples.")] = 0,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out malformed rows and report them.")] = False,
    json: Annotated[
        bool, typer.Option("--json", is_eager=True, help="Print capabilities.json instead of the table.")
    ] = False,
    validate: Annotated[
        bool,
        typer.Option("--validate", callback=validation, help="Measure on planted deficits instead; minutes."),
    ] = False,
    worlds: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", is_eager=True, help="With --validate: a world to measure on; repeat it. Default: all."
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, is_eager=True, help="With --validate: deals of each world, from seed 0.")
    ] = 5,
    llm: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Let a chat model read: openai:MODEL, anthropic:MODEL, or http://HOST:PORT/v1#MODEL.",
            show_default=False,
        ),
    ] = None,
    handoff: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Leave requests in DIR for `handoff` to answer.", show_default=False),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="With --handoff: stay until all is answered.")] = False,
    both: Annotated[
        bool, typer.Option("--both", help="Show the reader the strongest statistics, and compare with them.")
    ] = False,
    batch: Annotated[
        int | None,
        typer.Option(min=1, help="Most trajectories in a labelling request; default: 10 for --llm, else what fits."),
    ] = None,
    context_tokens: Annotated[int, typer.Option(min=1000, help="Tokens of a request and its answer.")] = 100_000,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests under way at once.")] = 4,
    message_chars: Annotated[int, typer.Option(min=20, help="Characters kept of a message.")] = 300,
    argument_chars: Annotated[int, typer.Option(min=20, help="Characters kept of a tool call's argument.")] = 200,
    result_chars: Annotated[int, typer.Option(min=20, help="Characters kept of a tool result.")] = 300,
    rules_chars: Annotated[int, typer.Option(min=20, help="Characters kept of the agent's instructions.")] = 8000,
    price_in: Annotated[float | None, typer.Option(min=0, help="Price of a million tokens read.")] = None,
    price_out: Annotated[float | None, typer.Option(min=0, help="Price of a million tokens written.")] = None,
) -> None:
    """Contrast failed with successful trajectories and name the capabilities that the failures lack.

    Without more, statistics do the work and no model is needed. With --llm a chat model reads the trajectories, with
    --handoff anyone who can read and write JSON, a coding agent over MCP for example; either can be broken off and
    called again.
    """
    from trace_agents.importers import Outcomes

    reading = _reading(llm, handoff, wait, both)
    if reading is not None:
        from graphs.analysts.language import LanguageConfig
        from trace_agents.analysis.compaction import Compaction

        cuts = Compaction(
            message_chars=message_chars,
            argument_chars=argument_chars,
            result_chars=result_chars,
            rules_chars=rules_chars,
        )
        settings = LanguageConfig(compaction=cuts, context_tokens=context_tokens, seed=seed)
        reading = replace(reading, settings=settings, prices=prices_of(price_in, price_out))
    outcomes = Outcomes(success_column=success_column, reward_column=reward_column, threshold=threshold)
    source = _Source(tuple(paths), format, skip_bad, outcomes)
    thresholds = _thresholds(runs, keep_in, delta=delta, rho=rho, support=support)
    _analyze(source, out, _Options(thresholds, seed, batch, concurrency, json), reading)


@dataclass(frozen=True)
class _Source:
    paths: tuple[Path, ...]
    format: str | None
    skip_bad: bool
    outcomes: Outcomes


@dataclass(frozen=True)
class _Options:
    thresholds: Thresholds
    seed: int
    batch: int | None
    concurrency: int
    json: bool


def _reading(llm: str | None, handoff: Path | None, wait: bool, both: bool) -> Reading | None:
    """Who reads; None where the statistics work alone."""
    if llm is not None and handoff is not None:
        raise UsageError(f"--llm {llm!r} and --handoff {str(handoff)!r} are two analysts: give one of them")
    if handoff is not None:
        check_folder(handoff, "--handoff")
    if wait and handoff is None:
        raise UsageError("--wait is for --handoff DIR: add it, or leave --wait out")
    if llm is None and handoff is None:
        if both:
            raise UsageError("--both compares a reader with the statistics: add --llm MODEL or --handoff DIR")
        return None
    return Reading(llm=llm, handoff=handoff, wait=wait, both=both)


def _thresholds(runs: int, keep_in: int | None, **bars: float) -> Thresholds:
    """When a capability is kept: K of N runs above the bars."""
    from trace_agents.contrast import Thresholds

    usual = Thresholds.for_runs(runs)
    if keep_in is not None and keep_in > runs:
        raise UsageError(f"--keep-in {keep_in!r} is more than --runs {runs!r}: ask for at most {runs}")
    return Thresholds.model_validate({"runs": runs, "keep_in": keep_in or usual.keep_in, **bars})


def _analyze(source: _Source, out: Path, options: _Options, reading: Reading | None) -> None:
    from graphs.analysis import AnalysisConfig, run_analysis
    from graphs.analysts.handoff import AnswersWanted
    from trace_agents.analysis.statistical import StatisticalAnalyst
    from trace_agents.cli._progress import console, watch
    from trace_agents.progress import Progress, SilentProgress
    from trace_agents.report import build_report

    config = AnalysisConfig(thresholds=options.thresholds, batch=options.batch, concurrency=options.concurrency)
    check_folder(out, "--out")
    reader = None if reading is None else Reader(reading.mind(), reading, config, out)
    report = _loaded(source)

    def work(progress: Progress) -> tuple[Analysis, AnalystNotes | None]:
        if reader is not None:
            return reader.run(report.trajectories, progress)
        return run_analysis(report.trajectories, StatisticalAnalyst(seed=options.seed), config, progress), None

    screen = console()
    try:
        if options.json:
            analysis, notes = work(SilentProgress())
        else:
            with watch(screen) as progress:
                analysis, notes = work(progress)
    except AnswersWanted as wanted:
        show_open(HandoffFolder.existing(Path(str(wanted.folder))), "run the same command again", options.json)
        return
    written = [*analysis.write(out), analysis.write_evidence(out, report.trajectories)]
    written += [] if notes is None else [notes.write(out)]
    written.append(build_report(out))
    if options.json:
        typer.echo(written[0].read_text(encoding="utf-8"), nl=False)
        return
    _show(screen, analysis, report)
    if notes is not None:
        screen.print(_plain("\n".join(filter(None, (notes.beside, notes.spent)))))
    screen.print(f"written: {' and '.join(str(file) for file in written)}", highlight=False, soft_wrap=True)


def _loaded(source: _Source) -> LoadReport:
    """The trajectories, some with an outcome."""
    from trace_agents.importers import load_trajectories

    report = load_trajectories(source.paths, source.format, source.skip_bad, source.outcomes)
    if report.excluded_infrastructure == len(report.trajectories):
        raise UsageError(
            f"infrastructure failed all {len(report.trajectories)} trajectories (the first: "
            f"{report.trajectories[0].error!r}), so none has an outcome: run their tasks again"
        )
    _check_threshold(report.trajectories)
    return report


def _check_threshold(trajectories: Sequence[Trajectory]) -> None:
    """Refuse graded rewards of which all, or none, are a success: it is the threshold that is wrong."""
    usable = [one for one in trajectories if one.success is not None]
    rewards = sorted({one.reward for one in usable if one.reward is not None})
    if len(rewards) > 1 and len({one.success for one in usable}) == 1:
        raise UsageError(
            f"all {len(usable)} trajectories {'succeeded' if usable[0].success else 'failed'}, though their rewards go "
            f"from {rewards[0]:g} to {rewards[-1]:g}: say from which reward on one is a success with --threshold"
        )


def _show(screen: Console, analysis: Analysis, report: LoadReport) -> None:
    from trace_agents.cli._tables import analysis_tables

    summary = analysis.summary
    screen.print(
        f"{summary.trajectories} trajectories of {summary.tasks} tasks ({report.format}), {summary.failed} failed; "
        f"{summary.excluded} infrastructure failures excluded, {len(report.skipped)} malformed rows skipped"
        + (f", {len(report.ignored)} files without trajectories left out" if report.ignored else "")
    )
    for table in analysis_tables(summary):
        screen.print(table)


def _plain(text: str) -> str:
    """Text that rich prints as it is."""
    from rich.markup import escape

    return escape(text)
