"""The tables of an evaluation: the agent between its ceiling and its floors, pass^k, and the reward's parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from graphs.evaluation.question import EvaluationResult
from trace_agents.cli._tables import p_value
from trace_agents.scores import Comparison, Mean, Score

ROLES = {"oracle": "ceiling: gold actions", "do-nothing": "floor", "decline": "floor", "random": "floor"}
"""What agents are that stand beside the one measured."""


def score_tables(result: EvaluationResult) -> Iterator[RenderableType]:
    """Everything that an evaluation reports, in the order in which it is read."""
    scores = (result.score, *result.beside)
    yield _overall(result, scores)
    if len(result.score.pass_hat) > 1:
        yield _pass_hat(result.score)
    if result.score.breakdown:
        yield _breakdown(scores)
    for note in result.notes:
        yield f"[dim]note: {escape(note)}"


def _table(title: str) -> Table:
    return Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)


def _overall(result: EvaluationResult, scores: Sequence[Score]) -> Table:
    asked = result.question.asked
    trials = f" × {asked.trials} trials" if asked.trials > 1 else ""
    split = f" · {asked.split}" if asked.split else ""
    table = _table(f"\n{escape(result.question.name)}{split} · {len(asked.tasks)} tasks{trials} · seed {asked.seed}")
    table.add_column("agent", overflow="fold", max_width=34)
    for heading in ("pass rate % (95 %)", "mean reward (95 %)", "perfect", "failures", "turns", "tokens out"):
        table.add_column(heading, justify="right", no_wrap=True)
    for place, one in enumerate(scores):
        role = f"\n[dim]{ROLES[one.agent]}[/]" if place and one.agent in ROLES else ""
        table.add_row(
            f"{escape(one.agent)}{role}",
            percent(one.pass_rate),
            plain(one.reward),
            f"{one.perfect}/{one.episodes}",
            str(one.infrastructure_failures),
            "–" if one.turns is None else f"{one.turns:.1f}",
            f"{one.tokens_written:,}" if one.tokens_written else "–",
            style=None if place else "bold",
        )
    table.caption = " failures: of infrastructure, in no other figure; intervals count tasks"
    table.caption_justify = "left"
    return table


def _pass_hat(score: Score) -> Table:
    table = _table("\npass^k %: all of k trials succeed (95 %)")
    shown = _shown(len(score.pass_hat))
    for k in shown:
        table.add_column(f"k = {k}", justify="right", no_wrap=True)
    table.add_row(*(percent(score.pass_hat[k - 1]) for k in shown))
    return table


def _shown(trials: int) -> list[int]:
    """All of few k; of many the powers of two and the last, as there is room for."""
    return [k for k in range(1, trials + 1) if trials <= 6 or k & (k - 1) == 0 or k == trials]


def _breakdown(scores: Sequence[Score]) -> Table:
    table = _table("\nparts of the reward, mean (95 %)")
    table.add_column("part", no_wrap=True)
    for one in scores:
        table.add_column(escape(one.agent), justify="right", overflow="fold")
    for name in sorted({name for one in scores for name in one.breakdown}):
        means = [one.breakdown.get(name) for one in scores]
        table.add_row(escape(name), *("–" if mean is None else plain(mean) for mean in means))
    return table


def comparison_table(first: EvaluationResult, second: EvaluationResult, difference: Comparison) -> Table:
    """Two agents on the same tasks."""
    table = _table(f"\n{escape(first.question.name)} · {difference.trials} tasks in both")
    for heading in ("first", "second", "points (95 %)", "better / worse", "p"):
        table.add_column(heading, justify="right", overflow="fold")
    table.add_row(
        *(f"{escape(one.score.agent)}\n{percent(one.score.pass_rate)}" for one in (first, second)),
        _points(difference),
        f"{difference.gained} / {difference.lost}",
        p_value(difference.p_value),
    )
    table.caption = (
        " paired by task; better / worse: tasks that the first solves more, or less, often; p: exact sign test"
    )
    if first.question.asked.tasks != second.question.asked.tasks:
        table.caption += "; pass rates: each over its own tasks"
    if difference.note:
        table.caption += f"\n {difference.note}"
    table.caption_justify = "left"
    return table


def _points(difference: Comparison) -> str:
    found = f"{100 * difference.value:+.1f}"
    if difference.low is None or difference.high is None:
        return found
    return f"{found} ({100 * difference.low:+.1f} to {100 * difference.high:+.1f})"


def percent(mean: Mean) -> str:
    """`47.0 (39.5–54.6)`, in per cent; a dash where nothing was measured."""
    if mean.value is None:
        return "–"
    return f"{100 * mean.value:.1f} ({100 * mean.low:.1f}–{100 * mean.high:.1f})"


def plain(mean: Mean) -> str:
    """`0.552 (0.501–0.603)`; a dash where nothing was measured."""
    return f"{mean.value:.3f} ({mean.low:.3f}–{mean.high:.3f})" if mean.value is not None else "–"
