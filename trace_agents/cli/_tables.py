"""The tables of a run, from `evaluation.json`: arms side by side, then per capability, then the cost; and those of an
analysis, from `capabilities.json`: every figure with its interval, then where to look."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from trace_agents.analysis.notes import AnalystNotes
from trace_agents.analysis.results import Candidate, CapabilitiesArtifact
from trace_agents.arms import NONE
from trace_agents.artifacts import Arm, ArmKind, EvaluationArtifact
from trace_agents.contrast import Thresholds
from trace_agents.report.words import between, doubt, duration, figure
from trace_agents.statistics import Difference, Estimate, Interval

OTHERS = 5
"""Candidates that were not kept which the tables show."""
UNSURE = "unsure: the 95 % interval goes below what is needed; more tasks would tell"
LOOKED_AT = 2
"""Pieces of evidence that the tables show for each kept capability."""


def evaluation_tables(evaluation: EvaluationArtifact, notes: AnalystNotes | None = None) -> Iterator[RenderableType]:
    """Everything that a run reports, in the order in which it is read; `notes` are those of its reader, if any."""
    yield _overall(evaluation)
    yield _by_capability(evaluation)
    yield _facts(evaluation, notes)
    for note in evaluation.notes:
        yield f"[dim]note: {escape(note)}"


def _table(title: str) -> Table:
    return Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)


def _overall(evaluation: EvaluationArtifact) -> Table:
    trials = f" × {evaluation.trials} trials" if evaluation.trials > 1 else ""
    table = _table(
        f"\n{evaluation.environment} · {evaluation.split} · {evaluation.tasks} tasks{trials} · seed {evaluation.seed}"
    )
    table.add_column("arm", no_wrap=True, max_width=28)
    for heading in ("pass rate % (95 %)", "points against base (95 %)", "gained / lost", "p", "rollouts"):
        table.add_column(heading, justify="right", no_wrap=True)
    for arm in evaluation.arms:
        style = "bold" if arm.picked else None
        rollouts = _count(arm.training_rollouts) if arm.training_rollouts else "–"
        table.add_row(label(arm), *_comparison(arm), rollouts, style=style)
    if any(arm.picked for arm in evaluation.arms):
        table.caption = " * picked on validation; rollouts: sampled to train the arm; p: exact McNemar"
        table.caption_justify = "left"
    return table


def label(arm: Arm) -> str:
    """How tables call the arm."""
    return escape(arm.title or arm.name) + (" *" if arm.picked else "")


def _comparison(arm: Arm) -> tuple[str, str, str, str]:
    versus = arm.versus_base
    if versus is None:
        return percent(arm.pass_rate), "", "", ""
    return percent(arm.pass_rate), points(versus), f"{versus.gained} / {versus.lost}", p_value(versus.p_value)


def percent(rate: Estimate) -> str:
    """`47.0 (39.5-54.6)`; a dash where nothing was measured."""
    if not rate.trials:
        return "–"
    return f"{100 * rate.value:.1f} ({100 * rate.low:.1f}–{100 * rate.high:.1f})"


def points(difference: Difference) -> str:
    """`+14.1 (+8.0 to +20.3)` in percentage points."""
    return f"{100 * difference.value:+.1f} ({100 * difference.low:+.1f} to {100 * difference.high:+.1f})"


def p_value(p: float) -> str:
    """Two significant digits; a bound where it is tiny."""
    return "< 1e-6" if p < 1e-6 else f"{p:.1e}" if p < 0.001 else f"{p:.3f}"


def _by_capability(evaluation: EvaluationArtifact) -> Table:
    """Capabilities down, arms across; the interval under each rate."""
    table = _table("\npass rate % by capability that the task needs (95 %)")
    table.add_column("capability", no_wrap=True)
    table.add_column("tasks", justify="right", style="dim")
    # Each adapter alone would make the table wider than a screen; the report has those columns.
    arms = [arm for arm in evaluation.arms if arm.kind is not ArmKind.ADAPTER]
    for arm in arms:
        table.add_column(label(arm), justify="right", style="bold" if arm.picked else None)
    for key, name in capability_rows(evaluation):
        rates = [arm.by_capability.get(key) for arm in arms]
        trials = max((rate.trials for rate in rates if rate is not None), default=0)
        table.add_row(escape(name), str(trials), *(_stacked(rate) for rate in rates))
    return table


def capability_rows(evaluation: EvaluationArtifact) -> list[tuple[str, str]]:
    """(key, what to call it) of every capability that an arm has a rate for, tasks that need nothing last."""
    keys = sorted({key for arm in evaluation.arms for key in arm.by_capability} - {NONE})
    rows = [(key, key) for key in keys]
    if any(NONE in arm.by_capability for arm in evaluation.arms):
        rows.append((NONE, "(none needed)"))
    return rows


def _stacked(rate: Estimate | None) -> str:
    if rate is None or not rate.trials:
        return "–"
    return f"{100 * rate.value:.0f}\n[dim not bold]{100 * rate.low:.0f}–{100 * rate.high:.0f}[/]"


def _facts(evaluation: EvaluationArtifact, notes: AnalystNotes | None) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column()
    for name, value in facts(evaluation, notes):
        table.add_row(name, escape(value))
    return table


def facts(evaluation: EvaluationArtifact, notes: AnalystNotes | None = None) -> Iterator[tuple[str, str]]:
    """Analysis, its reader, routing and cost, a line each."""
    score = evaluation.analysis
    if score is not None:
        yield (
            "analysis",
            f"precision {score.precision:.2f}, recall {score.recall:.2f} "
            f"({len(score.kept)} kept, {len(score.planted)} planted)",
        )
    if notes is not None:
        yield "reader", notes.spent
    for routing in evaluation.routing:
        yield f"router {routing.router}", f"right adapter {percent(routing.accuracy)} % of single-capability tasks"
    cost = evaluation.resources
    if cost.rollouts:
        stages = ", ".join(f"{stage} {_count(count)}" for stage, count in cost.rollouts.items())
        yield "rollouts", f"{_count(sum(cost.rollouts.values()))} ({stages})"
    failures = cost.infrastructure_failures + sum(arm.infrastructure_failures for arm in evaluation.arms)
    yield "infrastructure failures", _count(failures)
    if cost.seconds:
        stages = ", ".join(f"{stage} {duration(seconds)}" for stage, seconds in cost.seconds.items())
        yield "wall-clock", f"{duration(cost.total_seconds)} ({stages})"
    if cost.peak_memory:
        yield "peak memory", f"{cost.peak_memory / 2**30:.2f} GiB"


def _count(number: int) -> str:
    return f"{number:,}"


def analysis_tables(summary: CapabilitiesArtifact) -> Iterator[RenderableType]:
    """What an analysis says, kept capabilities first; the page and the file beside it say more."""
    if not summary.capabilities:
        yield (
            "no capability distinguishes failures from successes beyond chance: "
            "more trials of each task, or more tasks, would tell more"
        )
        return
    others = [candidate for candidate in summary.capabilities if not candidate.selection.kept]
    yield _candidates(summary, [*summary.kept, *others[:OTHERS]])
    for candidate in summary.kept:
        yield from _where_to_look(candidate, summary)
    if others:
        yield _not_kept(others)


def _candidates(summary: CapabilitiesArtifact, shown: list[Candidate]) -> Table:
    compared = any(candidate.agreement is not None for candidate in summary.capabilities)
    kept = len(summary.kept)
    table = _table(
        f"\n{kept} of {len(summary.capabilities)} capabilities kept, by coverage of the failures{_together(summary)}"
    )
    table.add_column("capability", overflow="fold", min_width=18)
    for heading in ("Δ (95 %)", "Cov (95 %)", "runs", "α", *(["κ"] if compared else []), "failures"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("kept", no_wrap=True)
    for candidate in shown:
        chosen = candidate.selection
        table.add_row(
            escape(_called(candidate)),
            _figure_over_interval(chosen.delta.mean, candidate.delta_interval),
            _figure_over_interval(chosen.coverage.mean, candidate.coverage_interval),
            f"{chosen.passes}/{chosen.runs}",
            figure(candidate.alpha),
            *([figure(candidate.agreement)] if compared else []),
            _count(candidate.overall.lacking_failed),
            _kept(candidate, summary),
            style=None if chosen.kept else "dim",
        )
    notes = " runs: that select it; α: Krippendorff's, between runs; failures: that lack it"
    notes = f"{notes}; κ: Cohen's, with the statistics" if compared else notes
    table.caption = f"{notes}\n {bars(summary.thresholds)}"
    if any(doubt(candidate, summary) for candidate in shown):
        table.caption += f"\n {UNSURE}"
    table.caption_justify = "left"
    return table


def _kept(candidate: Candidate, summary: CapabilitiesArtifact) -> str:
    if not candidate.selection.kept:
        return "no"
    return "yes\n[dim]unsure[/]" if doubt(candidate, summary) else "yes"


def _together(summary: CapabilitiesArtifact) -> str:
    if summary.covered is None or not summary.failed or not summary.kept:
        return ""
    return f"; together {_count(summary.covered)} of {_count(summary.failed)}"


def bars(needed: Thresholds) -> str:
    """What a capability must reach to be kept, in one line."""
    return (
        f"kept: Δ ≥ {needed.delta:.2f} and Cov ≥ {needed.rho:.2f} in {needed.keep_in} of {needed.runs} runs, "
        f"each on {needed.support} or more failures and successes that need it and failures that lack it"
    )


def _called(candidate: Candidate) -> str:
    return candidate.capability.title or candidate.capability.name


def _figure_over_interval(mean: float | None, interval: Interval | None) -> str:
    return figure(mean) if interval is None else f"{figure(mean)}\n[dim]{between(interval)}[/]"


def _where_to_look(candidate: Candidate, summary: CapabilitiesArtifact) -> Iterator[RenderableType]:
    capability = candidate.capability
    yield f"\n[bold]{escape(_called(candidate))}[/] [dim]{escape(capability.name)}[/]\n{escape(capability.description)}"
    if unsure := doubt(candidate, summary):
        yield f"[dim]{unsure}[/]"
    places = Table.grid(padding=(0, 2))
    places.add_column(no_wrap=True, min_width=27)
    places.add_column(no_wrap=True, overflow="ellipsis", style="dim")
    for one in candidate.evidence[:LOOKED_AT]:
        step = "" if one.step is None else f", step {one.step}"
        places.add_row(escape(f"task {one.task_id}, trial {one.trial}{step}"), escape(one.excerpt))
    yield places


def _not_kept(others: list[Candidate]) -> Table:
    more = len(others) - OTHERS
    table = _table("\nnot kept" + (f", {OTHERS} of {len(others)}" if more > 0 else ""))
    table.show_header = False
    table.add_column(overflow="fold", ratio=1)
    table.add_column(overflow="fold", ratio=1, style="dim")
    for candidate in others[:OTHERS]:
        table.add_row(escape(_called(candidate)), escape(candidate.selection.reason))
    return table
