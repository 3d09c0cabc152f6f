"""Charts as inline SVG: interval bars of the arms, small multiples of training, gauges of a capability.

Colours and text sizes are the style sheet's (`var(--...)` and classes), so charts follow light and dark.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from trace_agents.artifacts import Arm, MetricRow
from trace_agents.report.words import Rate, between, interval, percent, signed
from trace_agents.statistics import Interval

COVERAGE, GAP = (0.0, 1.0), (-0.5, 1.0)
"""What the gauges of a capability's figures reach from and to; what lies beyond is drawn at the end."""

Points = Sequence[tuple[float, float]]


def interval_bar(arm: Arm, base: Arm | None) -> Markup:
    """One row of the results: pass rate and its interval on an axis from 0 to 100 %, the base as a dashed line."""
    return rate_bar(arm.pass_rate, arm.kind.value, arm.pass_rate.trials, None if base is None else base.pass_rate.value)


def rate_bar(rate: Rate, kind: str, trials: int, base: float | None = None) -> Markup:
    """A rate and its interval on an axis from 0 to 100 %, in the colour of `kind`; without trials the axis alone."""
    parts = [f'<line class="grid" x1="{x}" y1="0" x2="{x}" y2="26"/>' for x in (0, 100, 200, 300, 400)]
    if base is not None:
        x = _x(base)
        parts.append(f'<line class="base-line" x1="{x}" y1="0" x2="{x}" y2="26"/>')
    label = "nothing measured"
    if trials and rate.value is not None:
        low, middle, high = _x(rate.low), _x(rate.value), _x(rate.high)
        parts += [
            f'<rect class="fill" x="0" y="8" width="{middle}" height="10" rx="2"/>',
            f'<line class="whisker" x1="{low}" y1="13" x2="{high}" y2="13"/>',
            f'<line class="whisker" x1="{low}" y1="9" x2="{low}" y2="17"/>',
            f'<line class="whisker" x1="{high}" y1="9" x2="{high}" y2="17"/>',
            f'<circle class="dot" cx="{middle}" cy="13" r="4.5"/>',
        ]
        label = f"{percent(rate.value)}, 95 % interval {interval(rate)}"
    return _svg(400, 26, parts, f"interval kind-{kind}", label)


def axis() -> Markup:
    """The axis of the interval bars."""
    ticks = (
        (0, "start", "0"),
        (100, "middle", "25"),
        (200, "middle", "50"),
        (300, "middle", "75"),
        (400, "end", "100 %"),
    )
    parts = [f'<text x="{x}" y="11" text-anchor="{anchor}">{text}</text>' for x, anchor, text in ticks]
    return _svg(400, 14, parts, "interval axis", "pass rate, 0 to 100 per cent")


def _x(share: float) -> float:
    return round(400 * share, 1)


def gauge(value: float | None, covers: Interval | None, least: float, span: tuple[float, float]) -> Markup:
    """A figure of a capability as a bar from zero, its interval, and a mark at the least that it must reach."""
    track = '<rect class="track" x="0" y="5" width="120" height="8" rx="2"/>'
    if value is None:
        return _svg(120, 18, [track], "measure", "not estimable")
    start, end = sorted((_place(0.0, span), _place(value, span)))
    kind = "gap" if span == GAP else "coverage"
    parts = [
        track,
        f'<rect class="fill" x="{start}" y="5" width="{round(end - start, 1)}" height="8" rx="1.5"/>',
    ]
    label = f"{signed(value)}, at least {signed(least)} needed"
    if covers is not None:
        low, high = _place(covers.low, span), _place(covers.high, span)
        parts.append(f'<line class="whisker" x1="{low}" y1="9" x2="{high}" y2="9"/>')
        parts += [f'<line class="whisker" x1="{x}" y1="6" x2="{x}" y2="12"/>' for x in (low, high)]
        label = f"{signed(value)}, 95 % interval {between(covers)}, at least {signed(least)} needed"
    at = _place(least, span)
    parts.append(f'<line class="least" x1="{at}" y1="1" x2="{at}" y2="17"/>')
    return _svg(120, 18, parts, f"measure {kind}", label)


def _place(value: float, span: tuple[float, float]) -> float:
    low, high = span
    return round(120 * (min(high, max(low, value)) - low) / (high - low), 1)


def frequency_dots(passes: int | None, runs: int | None) -> Markup:
    """One dot a labelling run, filled for those that selected the capability."""
    if not runs or passes is None:
        return Markup("–")
    shown = min(runs, 20)
    filled = round(shown * passes / runs)
    parts = [
        f'<circle class="{"on" if i < filled else "off"}" cx="{6 + 11 * (i % 10)}" cy="{7 + 11 * (i // 10)}" r="4"/>'
        for i in range(shown)
    ]
    rows = (shown + 9) // 10
    return _svg(11 * min(shown, 10) + 2, 11 * rows + 3, parts, "dots", f"selected in {passes} of {runs} runs")


def training_panel(rows: Sequence[MetricRow]) -> Markup:
    """Reward, success and validation success over iterations on one axis from 0 to 1."""
    last = max((row.iteration for row in rows), default=0)
    parts = _frame(96, ((0.0, "0"), (0.5, ".5"), (1.0, "1")))
    parts += _line([(row.iteration, row.reward_mean) for row in rows], last, 96, "reward")
    parts += _line([(row.iteration, row.success_rate) for row in rows], last, 96, "success")
    checked = [(row.iteration, row.validation_success) for row in rows if row.validation_success is not None]
    parts += [f'<circle class="validation" cx="{_px(i, last)}" cy="{_py(value, 96)}" r="3"/>' for i, value in checked]
    parts += _iterations(last, 96)
    return _svg(260, 122, parts, "panel", f"reward and success over {last + 1} iterations")


def clip_panel(rows: Sequence[MetricRow]) -> Markup:
    """Clip fraction and the share of informative groups over iterations."""
    last = max((row.iteration for row in rows), default=0)
    most = max((row.clip_fraction for row in rows), default=0.0)
    top = next(step for step in (0.05, 0.1, 0.2, 0.5, 1.0) if most <= step)
    parts = _frame(44, ((0.0, "0"), (1.0, f"{top:g}".lstrip("0"))))
    parts += _line([(row.iteration, row.clip_fraction / top) for row in rows], last, 44, "clip")
    return _svg(260, 56, parts, "panel", f"clip fraction, at most {most:.3f}")


def groups_panel(rows: Sequence[MetricRow]) -> Markup:
    """Groups per iteration: those whose rewards varied, out of those sampled."""
    last = max((row.iteration for row in rows), default=0)
    parts = _frame(44, ((0.0, "0"), (1.0, "all")))
    width = max(1.0, min(10.0, 210 / (last + 1) - 1))
    for row in rows:
        share = row.informative_groups / row.groups if row.groups else 0.0
        x, y = _px(row.iteration, last) - width / 2, _py(share, 44)
        parts.append(
            f'<rect class="groups" x="{x:.1f}" y="{y}" width="{width:.1f}" height="{round(_py(0, 44) - y, 1)}"/>'
        )
    return _svg(260, 56, parts, "panel", "share of groups whose rewards varied")


def _frame(height: int, ticks: Sequence[tuple[float, str]]) -> list[str]:
    parts = []
    for value, text in ticks:
        y = _py(value, height)
        parts.append(f'<line class="grid" x1="28" y1="{y}" x2="256" y2="{y}"/>')
        parts.append(f'<text x="23" y="{y + 3.5}" text-anchor="end">{text}</text>')
    return parts


def _iterations(last: int, height: int) -> list[str]:
    y = height + 22
    if last == 0:
        return [f'<text x="142" y="{y}" text-anchor="middle">iteration 1</text>']
    return [
        f'<text x="34" y="{y}" text-anchor="start">1</text>',
        f'<text x="142" y="{y}" text-anchor="middle">iteration</text>',
        f'<text x="250" y="{y}" text-anchor="end">{last + 1}</text>',
    ]


def _px(iteration: float, last: int) -> float:
    return round(34 + 216 * iteration / last, 1) if last else 142.0


def _py(value: float, height: int) -> float:
    return round(6 + height * (1 - min(1.0, max(0.0, value))), 1)


def _line(points: Points, last: int, height: int, kind: str) -> list[str]:
    if len(points) == 1:
        (x, y), *_ = points
        return [f'<circle class="{kind} single" cx="{_px(x, last)}" cy="{_py(y, height)}" r="2.5"/>']
    path = " ".join(f"{_px(x, last)},{_py(y, height)}" for x, y in points)
    return [f'<polyline class="{kind}" points="{path}"/>']


def _svg(width: float, height: float, parts: Sequence[str], kind: str, label: str) -> Markup:
    """The chart; `parts` hold numbers and class names only, `label` is escaped."""
    body = "".join(parts)
    return Markup(
        f'<svg class="{kind}" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'
        f"<title>{escape(label)}</title>{body}</svg>"
    )
