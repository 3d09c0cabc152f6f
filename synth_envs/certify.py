"""Certification: what a synthetic environment must prove on the very path that trains, before it trains.

Definition 2 gate by gate: the capability is necessary (1), the target's tools and policy are kept (2), reward is
computed and follows the capability (3); and what group-relative training needs besides: determinism from the seed,
variety over seeds, and rewards that vary within groups of the base policy's rollouts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

from synth_envs.contract import Family
from synth_envs.match import THRESHOLD, Contrast, fit
from synth_envs.policies import SHORTCUTS, Policy, oracle, play, random_calls, scripted
from trace_agents.artifacts import CertificateRow, Check
from trace_agents.environment import Environment, Episode, SyntheticEnvironment
from trace_agents.errors import InfrastructureError, UsageError
from trace_agents.types import Capability, TaskInstance, Trajectory, canonical


@dataclass(frozen=True)
class Bars:
    """What each gate must reach."""

    seeds: range = range(24)
    """Seeds on which the environment proves itself; none that it trains or validates on."""
    shortcut_reward: float = 0.3
    """Most mean reward of a policy that takes a shortcut."""
    shortcut_success: float = 0.05
    """Most success rate of such a policy, and of the counterexample on tasks that need the capability."""
    targeted: float = 0.5
    """Least share of tasks that need the capability; the others are balance cases."""
    distinct: float = 0.9
    """Least share of different prompts, and of different tasks, among the seeds."""
    statement: float = THRESHOLD
    """Least score of the mined capability's statement (`match.py`)."""
    learnable: tuple[float, float] = (0.02, 0.9)
    """Range of the base policy's mean reward: some success to reinforce, and room above it."""
    informative: float = 0.5
    """Least share of groups whose rewards differ."""
    deviation: float = 0.05
    """Least mean standard deviation of rewards within a group."""


@dataclass(frozen=True)
class Candidate:
    """An environment that asks for its certificate."""

    family: Family
    target: Environment
    """The environment whose interface it must keep."""
    capability: Capability | None = None
    """The mined capability that it is to train; None: the family's own."""

    def environment(self) -> SyntheticEnvironment:
        """The environment, made anew."""
        return self.family.environment(self.capability)


GroupRewards = Sequence[Sequence[float]]
"""Rewards of the base policy's rollouts, a row for each group (one seed whose task needs the capability)."""


async def certify(
    candidate: Candidate, group_rewards: GroupRewards | None = None, bars: Bars | None = None
) -> CertificateRow:
    """The certificate of an environment: every gate's figure, bar and verdict.

    Args:
        group_rewards: rewards sampled from the base policy on tasks that need the capability (`targeted_tasks`);
            None leaves the gates on learnability out, for an environment that is certified without a policy.
    """
    bars, started = bars or Bars(), time.perf_counter()
    capability = candidate.capability or candidate.family.capability
    if not bars.seeds:
        raise UsageError(f"seeds {bars.seeds!r} to certify {capability.name!r} on are none: give a range of seeds")
    try:
        checks = await _gates(candidate, group_rewards, bars)
    except InfrastructureError:
        raise
    except Exception as error:  # A family may be anyone's code, and one that breaks has failed.
        checks = [Check(name="runs", passed=False, detail=f"{type(error).__name__}: {error}".splitlines()[0])]
    return CertificateRow(
        environment=f"synth/{capability.name}",
        capability=capability.name,
        passed=all(check.passed for check in checks),
        checks=tuple(checks),
        seconds=round(time.perf_counter() - started, 3),
    )


async def _gates(candidate: Candidate, group_rewards: GroupRewards | None, bars: Bars) -> list[Check]:
    environment = candidate.environment()
    tasks = [environment.generate(seed) for seed in bars.seeds]
    checks = [*_variety(candidate, tasks, bars), await _transcripts(candidate, tasks)]
    checks += await _interface(environment, candidate.target, tasks[0])
    checks += await _necessity(candidate, tasks, bars)
    shortcuts = {name: await _play_all(environment, tasks, policy) for name, policy in SHORTCUTS.items()}
    checks += [_low(name, played, bars) for name, played in shortcuts.items()]
    if group_rewards is not None:
        targeted = {task.id for task in tasks if candidate.family.targets(task)}
        best = max(_reward(played, targeted) for played in shortcuts.values())
        checks += learnability(group_rewards, best, bars)
    return checks


def _variety(candidate: Candidate, tasks: Sequence[TaskInstance], bars: Bars) -> Iterator[Check]:
    """Same seed, same task, also in an environment made anew; different seeds, different tasks."""
    again = candidate.environment()
    same = [again.generate(seed) == task for seed, task in zip(bars.seeds, tasks, strict=True)]
    yield _at_least("deterministic", fmean(same), 1.0, "share of seeds that give the same task twice")
    if len(tasks) > 1:
        prompts = len({task.prompt for task in tasks}) / len(tasks)
        bodies = len({repr(canonical(task.data)) for task in tasks}) / len(tasks)
        detail = f"share of different prompts {prompts:.2f}, of different tasks {bodies:.2f}"
        yield _at_least("distinct", min(prompts, bodies), bars.distinct, detail)
    targeted = fmean(candidate.family.targets(task) for task in tasks)
    yield _at_least("targeted", targeted, bars.targeted, "share of tasks that need the capability")


async def _transcripts(candidate: Candidate, tasks: Sequence[TaskInstance]) -> Check:
    """The same actions give the same conversation and verdict, in two environments."""
    runs = []
    for environment in (candidate.environment(), candidate.environment()):
        runs.append([await _play_all(environment, tasks, policy) for policy in (oracle, random_calls)])
    pairs = [pair for one, two in zip(*runs, strict=True) for pair in zip(one, two, strict=True)]
    return _at_least("same-transcript", fmean(a == b for a, b in pairs), 1.0, "share of replays with equal transcripts")


async def _interface(environment: SyntheticEnvironment, target: Environment, task: TaskInstance) -> list[Check]:
    """Tool schemas in canonical form, and the policy, are the target's."""
    own, other = await environment.start(task), await target.start(_any_task(target))
    try:
        ours, theirs = _canonical_tools(own), _canonical_tools(other)
        differing = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
        listed = "differing: " + ", ".join(differing) if differing else f"{len(ours)} tools"
        same_order = list(ours) == list(theirs)
        detail = listed if differing or same_order else "the tools are listed in another order"
        return [
            Check(name="schemas", passed=not differing and same_order, bar="equal to the target's", detail=detail),
            Check(name="policy", passed=own.policy == other.policy, bar="equal to the target's"),
        ]
    finally:
        await own.close()
        await other.close()


def _canonical_tools(episode: Episode) -> dict[str, str]:
    return {tool.name: repr(canonical(tool.model_dump(mode="json"))) for tool in episode.tools}


def _any_task(target: Environment) -> TaskInstance:
    split = next((name for name, count in target.splits.items() if count), None)
    return target.tasks(split)[0] if split else target.generate(0)


async def _necessity(candidate: Candidate, tasks: Sequence[TaskInstance], bars: Bars) -> list[Check]:
    """The oracle succeeds; without exactly the capability one fails where it is needed; the statement agrees."""
    environment, family = candidate.environment(), candidate.family
    gold = await _play_all(environment, tasks, oracle)
    worst = min(gold, key=lambda played: played.reward or 0.0)
    needed = [task for task in tasks if family.targets(task)]
    lapsed = [await play(environment, task, scripted(family.counterexample(task))) for task in needed]
    succeeded = fmean(bool(played.success) for played in lapsed) if lapsed else 1.0
    detail = "success rate where the capability is needed" if lapsed else "no task needs the capability"
    checks = [
        _at_least("oracle", worst.reward or 0.0, 1.0, f"least reward, in {worst.task_id}"),
        _at_most("counterexample", succeeded, bars.shortcut_success, detail),
    ]
    if environment.capability.statement is not None:
        wanted = {task.id for task in needed}
        behaviour = Contrast(tuple(played for played in gold if played.task_id in wanted), tuple(lapsed))
        found = fit(environment.capability, behaviour)
        detail = f"present when the oracle plays {found.present:.2f}, lacking in the counterexample {found.lacking:.2f}"
        checks.append(_at_least("statement", found.score, bars.statement, detail))
    return checks


def _low(name: str, played: Sequence[Trajectory], bars: Bars) -> Check:
    """A shortcut's mean reward and success rate are low."""
    reward, success = _reward(played), fmean(bool(one.success) for one in played)
    return Check(
        name=name,
        passed=reward <= bars.shortcut_reward and success <= bars.shortcut_success,
        value=round(reward, 4),
        bar=f"<= {bars.shortcut_reward:g}, success <= {bars.shortcut_success:g}",
        detail=f"mean reward; success rate {success:.3f}",
    )


def learnability(group_rewards: GroupRewards, best_shortcut: float, bars: Bars) -> list[Check]:
    """Whether group-relative training can learn from rewards like these (§3.4, Appendix A).

    Args:
        best_shortcut: greatest mean reward of a shortcut on the same kind of task; the base policy must do better,
            or giving up would be reinforced.
    """
    groups = [list(group) for group in group_rewards if len(group) > 1]
    if not groups:
        raise InfrastructureError(f"none of {len(group_rewards)} groups holds two rollouts that ended well")
    mean = fmean(reward for group in groups for reward in group)
    deviations = [pstdev(group) for group in groups]
    low, high = bars.learnable
    return [
        Check(
            name="learnable",
            passed=low <= mean <= high,
            value=round(mean, 4),
            bar=f"{low:g} to {high:g}",
            detail=f"the base policy's mean reward over {len(groups)} groups",
        ),
        _at_least("informative", fmean(d > 0 for d in deviations), bars.informative, "share of groups that vary"),
        _at_least("deviation", fmean(deviations), bars.deviation, "mean standard deviation within a group"),
        _at_most("shortcuts-below-base", best_shortcut, mean, "the best shortcut's reward, against the base policy's"),
    ]


async def _play_all(
    environment: SyntheticEnvironment, tasks: Sequence[TaskInstance], policy: Policy
) -> list[Trajectory]:
    played = []
    for task in tasks:
        episode = await environment.start(task)
        tools = tuple(episode.tools)
        await episode.close()
        played.append(await play(environment, task, policy(environment, task, tools)))
    return played


def _reward(played: Sequence[Trajectory], among: set[str] | None = None) -> float:
    rewards = [one.reward or 0.0 for one in played if among is None or one.task_id in among]
    return fmean(rewards) if rewards else 0.0


def _compared(sign: str, holds: Callable[[float, float], bool]) -> Callable[[str, float, float, str], Check]:
    def check(name: str, value: float, bar: float, detail: str) -> Check:
        return Check(name=name, passed=holds(value, bar), value=round(value, 4), bar=f"{sign} {bar:.4g}", detail=detail)

    return check


_at_least = _compared(">=", lambda value, bar: value >= bar)
_at_most = _compared("<=", lambda value, bar: value <= bar)
