"""Playing a task with a flawed agent: what the user says, what the agent calls, and what it secretly lacks."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from trace_agents.types import Message, ToolCall, ToolSpec, Trajectory

NOISE = 0.05
"""Share of the trajectories that fail for a reason which nothing shows."""
LUCK = 0.03
"""Probability that a lacking capability is not held against the trajectory."""
DIFFICULTY = 0.15
"""How much harder or easier than usual a task makes a capability, at most."""
HABIT = 0.5
"""Probability of a harmless habit, drawn for each trajectory."""


class Request(NamedTuple):
    """One thing that a user wants."""

    words: str
    act: Callable[[], str]
    """Makes the agent's calls and returns what it says in the end."""


Job = Callable[["Play"], Request]
ErrorStyle = Callable[[str], tuple[str, bool]]
"""Error text → the tool message's content and whether it is marked as an error."""


@dataclass(frozen=True)
class Domain:
    """A world of its own: tools, manners, tasks, and what its agents lack."""

    name: str
    deficits: Mapping[str, float]
    """Planted deficit → probability that the agent exercises the capability where it is needed."""
    jobs: Mapping[str, Job]
    tasks: tuple[str, ...]
    """Kinds of task, each the names of its jobs; the kinds take turns."""
    habit: Callable[[Play], None]
    """Something harmless that half of the trajectories do."""
    error: ErrorStyle
    tools: tuple[ToolSpec, ...] = ()
    """Declared tools; empty where the world declares none."""
    instructions: str = ""
    """The agent's written policy; empty where there is none."""
    everything: str | None = None
    """The deficit of seeing to the first request only; None: the user makes one request a turn."""
    hopeless: frozenset[str] = frozenset()
    """Jobs whose tasks everyone fails."""
    filler: tuple[str, ...] = ()
    """Jobs that need mastered capabilities only: what makes a trajectory longer without changing its outcome."""


@dataclass
class Play:
    """One trajectory under way."""

    domain: Domain
    scene: random.Random
    """What all trials of a task share."""
    own: random.Random
    """What this trial alone draws."""
    messages: list[Message] = field(default_factory=list)
    lacking: dict[str, bool] = field(default_factory=dict)
    """Deficit → whether it showed, for those that the trajectory put to the test."""
    drawn: dict[str, bool] = field(default_factory=dict)

    def exercises(self, deficit: str) -> bool:
        """Whether the agent exercises the capability in this trajectory; records that it was needed."""
        exercised = self.drawn[deficit]
        self.lacking[deficit] = self.lacking.get(deficit, False) or not exercised
        return exercised

    def user(self, words: str) -> None:
        """The user speaks."""
        self.messages.append(Message(role="user", content=words))

    def say(self, words: str) -> None:
        """The agent speaks."""
        self.messages.append(Message(role="assistant", content=words))

    def call(self, tool: str, arguments: dict[str, Any], result: Any) -> None:
        """The agent calls a tool; text results are given as they are, others as JSON."""
        self._called(tool, arguments, result if isinstance(result, str) else json.dumps(result), False)

    def fail(self, tool: str, arguments: dict[str, Any], error: str) -> None:
        """The agent calls a tool and meets an error, told in the domain's manner."""
        self._called(tool, arguments, *self.domain.error(error))

    def number(self, prefix: str, digits: int = 3) -> str:
        """An identifier of the scene."""
        return f"{prefix}{self.scene.randint(10 ** (digits - 1), 10**digits - 1)}"

    def _called(self, tool: str, arguments: dict[str, Any], content: str, is_error: bool) -> None:
        identity = f"call_{len(self.messages)}"
        call = ToolCall(id=identity, name=tool, arguments=arguments)
        self.messages.append(Message(role="assistant", tool_calls=(call,)))
        self.messages.append(Message(role="tool", tool_call_id=identity, name=tool, content=content, is_error=is_error))


@dataclass(frozen=True)
class Dealt:
    """Trajectories with their planted truth, which no analyst sees."""

    trajectories: tuple[Trajectory, ...]
    lacking: Mapping[str, Mapping[str, bool]]
    """Planted deficit → trajectory id → whether it is lacking, where the trajectory put it to the test."""


def deal(domain: Domain, seed: int, tasks: int = 44, trials: int = 8, messages: int = 0) -> Dealt:
    """`trials` trajectories of each of `tasks` tasks, filled up to about `messages` messages each."""
    rng = random.Random(f"{domain.name}-{seed}")
    lacking: dict[str, dict[str, bool]] = {deficit: {} for deficit in domain.deficits}
    made = []
    for index in range(tasks):
        kind, scene = domain.tasks[index % len(domain.tasks)], rng.getrandbits(32)
        for trial in range(trials):
            play = Play(domain, random.Random(scene), rng)
            success = _play(play, kind.split(), messages)
            name = f"{domain.name}-{index:04d}"
            made.append(_trajectory(play, name, trial, success))
            for deficit, lacks in play.lacking.items():
                lacking[deficit][made[-1].id] = lacks
    return Dealt(tuple(made), lacking)


def _play(play: Play, jobs: list[str], messages: int) -> bool:
    """Play all jobs; returns success."""
    domain = play.domain
    for deficit, rate in domain.deficits.items():
        shift = play.scene.uniform(-DIFFICULTY, DIFFICULTY)
        play.drawn[deficit] = play.own.random() < min(max(rate + shift, 0.02), 0.98)
    if domain.instructions:
        play.messages.append(Message(role="system", content=domain.instructions))
    requests = [domain.jobs[job](play) for job in jobs]
    if domain.everything is None:
        _in_turn(play, requests)
    else:
        _at_once(play, requests)
    while len(play.messages) < messages:
        _in_turn(play, [domain.jobs[play.scene.choice(domain.filler)](play)])
    held_against = any(lacks and play.own.random() >= LUCK for lacks in play.lacking.values())
    spoilt = play.own.random() < NOISE or not domain.hopeless.isdisjoint(jobs)
    return not held_against and not spoilt


def _in_turn(play: Play, requests: list[Request]) -> None:
    """The user comes with one request after the other."""
    for request in requests:
        play.user(request.words)
        if play.own.random() < HABIT:
            play.domain.habit(play)
        play.say(request.act())


def _at_once(play: Play, requests: list[Request]) -> None:
    """The user asks for everything in one message; a flawed agent sees to the first request only."""
    assert play.domain.everything is not None
    play.user(" ".join(request.words for request in requests))
    if play.own.random() < HABIT:
        play.domain.habit(play)
    done = requests if len(requests) < 2 or play.exercises(play.domain.everything) else requests[:1]
    said = [request.act() for request in done]
    play.say(" ".join(said))


def _trajectory(play: Play, task: str, trial: int, success: bool) -> Trajectory:
    return Trajectory(
        id=f"{task}#{trial}",
        task_id=task,
        trial=trial,
        messages=tuple(play.messages),
        tools=play.domain.tools,
        reward=float(success),
        success=success,
    )


def declared(**tools: str) -> tuple[ToolSpec, ...]:
    """Tools whose arguments are texts: name → its arguments, separated by spaces."""
    return tuple(
        ToolSpec(
            name=name,
            input_schema={
                "type": "object",
                "properties": {argument: {"type": "string"} for argument in arguments.split()},
                "required": arguments.split(),
            },
        )
        for name, arguments in tools.items()
    )
