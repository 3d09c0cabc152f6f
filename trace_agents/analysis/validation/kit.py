"""The validation of the statistical analyst: the whole kit, its ablations, and what the selection's repetition buys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Literal

from trace_agents.analysis.statistical import StatisticalAnalyst
from trace_agents.analysis.validation.ablations import Contrastive, at_random, failures_only, proposals
from trace_agents.analysis.validation.domains import DOMAINS, HELD_OUT
from trace_agents.analysis.validation.measure import Claim, Score, agreement, score, truths
from trace_agents.analysis.validation.play import Domain, deal
from trace_agents.artifacts import Artifact
from trace_agents.contrast import Thresholds
from trace_agents.errors import unknown
from trace_agents.progress import Progress, SilentProgress
from trace_agents.types import Record

SEEDS = (0, 1, 2, 3, 4)
SELECTIONS = 10
"""Independent selections that stability is measured over."""
TOP = 4
SAME = 0.7
"""Least F1 of the LACKING labels at which two selections' capabilities are the same one."""
METHODS = ("contrast, 10 runs", "contrast, 1 run", "failures only", "random capabilities")


class Summary(Record):
    """One method over a set of domains and seeds."""

    method: str
    scores: tuple[Score, ...]

    @property
    def precision(self) -> float:
        """Mean over domains and seeds; no claim at all counts as 0."""
        return _mean([one.precision or 0.0 for one in self.scores])

    @property
    def recall(self) -> float:
        """Mean over domains and seeds with a deficit to be found."""
        return _mean([one.recall for one in self.scores if one.recall is not None])

    @property
    def rank_correlation(self) -> float:
        """Mean Spearman's ρ; claims that do not vary count as 0."""
        return _mean([one.rank_correlation or 0.0 for one in self.scores])


class Stability(Record):
    """Independent selections on one set of trajectories."""

    domain: str
    seed: int
    frequency: dict[str, float]
    """Title of each top capability → share of the selections that have it."""
    same_top: float
    """Share of the selections whose top four is the most common one."""


class Recovery(Record):
    """The labelling runs of one analysis, over its one dictionary: the paper's Figure 2a."""

    domain: str
    seed: int
    frequency: dict[str, float]
    """Title of each of the analysis's top four → share of the labelling runs that select it."""
    together: float
    """Share of the runs that select all of them; 0 where the analysis keeps nothing."""
    same_top: float
    """Share of the runs whose own top four, by that run's coverage, are the most common four. Where the fourth and the
    fifth of the analysis cover as much, they change places here though every run selects both."""


class Measured(Record):
    """One deal."""

    scores: dict[str, tuple[Score, ...]]
    """Method → its scores: one for each of ten runs or draws where it has no more than one."""
    recovery: Recovery


class Validation(Artifact):
    """The outcome of `validate`: what `analyze --validate --json` prints. Version 2 added `recovery`."""

    version: Literal[2] = 2  # type: ignore[assignment]
    developed: tuple[Summary, ...]
    """Each method on the domains that the analyst was developed with."""
    held_out: tuple[Summary, ...]
    """Each method on the domains that were looked at last."""
    stability: tuple[Stability, ...]
    """Whole analyses of each domain developed with, on its first seed."""
    recovery: tuple[Recovery, ...]
    """Each deal of every domain."""


def worlds(names: Sequence[str]) -> tuple[Domain, ...]:
    """The domains of those names.

    Raises:
        UsageError: there is none of a name.
    """
    known = {domain.name: domain for domain in (*DOMAINS, *HELD_OUT)}
    wrong = next((name for name in names if name not in known), None)
    if wrong is not None:
        raise unknown("world", wrong, list(known))
    return tuple(known[name] for name in dict.fromkeys(names))


def validate(
    seeds: Sequence[int] = SEEDS, progress: Progress | None = None, only: Sequence[Domain] | None = None
) -> Validation:
    """Measure every method on every domain (of `only`), and the selection's stability on each domain's first seed."""
    progress = progress or SilentProgress()
    parts: dict[str, list[Measured]] = {}
    developed, held_out = ([one for one in some if only is None or one in only] for some in (DOMAINS, HELD_OUT))
    for name, domains in (("developed", developed), ("held_out", held_out)):
        cells = list(product(domains, seeds))
        with progress.stage(name.replace("_", " "), len(cells)) as stage:
            parts[name] = []
            for domain, seed in cells:
                parts[name].append(measure(domain, seed))
                stage.advance()
    with progress.stage("stability", len(developed)) as stage:
        steady = []
        for domain in developed:
            steady.append(stability(domain, seeds[0]))
            stage.advance()
    return Validation(
        developed=_summaries(parts["developed"]),
        held_out=_summaries(parts["held_out"]),
        stability=tuple(steady),
        recovery=tuple(one.recovery for part in parts.values() for one in part),
    )


def measure(domain: Domain, seed: int) -> Measured:
    """Every method on one deal; a single run is scored for each of the ten, random capabilities for ten draws."""
    dealt = deal(domain, seed)
    trajectories, ten, one = dealt.trajectories, Thresholds.for_runs(10), Thresholds.for_runs(1)
    analysed = Contrastive.discovered(trajectories, seed)
    truth = truths(dealt, analysed.draws(ten), ten)
    claims, matrix = analysed.claims(ten), proposals(trajectories)
    results = (
        [claims],
        [analysed.claims(one, run) for run in range(ten.runs)],
        [failures_only(matrix, trajectories, ten)],
        [at_random(matrix, trajectories, ten, max(len(claims), 1), draw) for draw in range(ten.runs)],
    )
    scores = {
        method: tuple(score(domain.name, seed, found, truth) for found in several)
        for method, several in zip(METHODS, results, strict=True)
    }
    top = [claim.title for claim in claims[:TOP]]
    return Measured(scores=scores, recovery=recovery(domain.name, seed, top, analysed.selections(ten)))


def recovery(domain: str, seed: int, top: Sequence[str], runs: Sequence[Sequence[str]]) -> Recovery:
    """How the labelling runs bear an analysis out.

    Args:
        domain: name of the world.
        seed: of its deal.
        top: what the analysis keeps first, at most four.
        runs: what each labelling run selects by itself, by falling coverage in it.
    """
    sets = Counter(frozenset(own[:TOP]) for own in runs)
    return Recovery(
        domain=domain,
        seed=seed,
        frequency={name: sum(name in own for own in runs) / len(runs) for name in top},
        together=sum(bool(top) and set(top) <= set(own) for own in runs) / len(runs),
        same_top=sets.most_common(1)[0][1] / len(runs),
    )


def stability(domain: Domain, seed: int) -> Stability:
    """Whole analyses, discovery included, each on its own share of the trials: is the top four always the same?"""
    trajectories = deal(domain, seed).trajectories
    tops = []
    for selection in range(SELECTIONS):
        drawn = StatisticalAnalyst(seed=1000 + selection).draw(trajectories, 0)
        tops.append(Contrastive.discovered(drawn, selection).claims(Thresholds.for_runs(10), of=trajectories)[:TOP])
    names = _named(tops)
    sets = Counter(frozenset(row) for row in names)
    times = Counter(name for row in names for name in row)
    return Stability(
        domain=domain.name,
        seed=seed,
        frequency={name: count / SELECTIONS for name, count in times.most_common()},
        same_top=sets.most_common(1)[0][1] / SELECTIONS,
    )


def _named(tops: Iterable[Sequence[Claim]]) -> list[list[str]]:
    """Each selection's capabilities by the title under which the like of them first came up."""
    known: list[Claim] = []
    rows = []
    for top in tops:
        row = []
        for claim in top:
            first = next((one for one in known if _alike(one, claim)), None)
            if first is None:
                known.append(first := claim)
            row.append(first.title)
        rows.append(row)
    return rows


def _alike(one: Claim, two: Claim) -> bool:
    return agreement(one.lacking, two.lacking) >= SAME


def _summaries(deals: Sequence[Measured]) -> tuple[Summary, ...]:
    return tuple(
        Summary(method=method, scores=tuple(one for dealt in deals for one in dealt.scores[method]))
        for method in METHODS
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
