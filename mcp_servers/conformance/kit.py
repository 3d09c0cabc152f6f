"""Every check in order, and a run of them."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass

from mcp_servers.conformance import contract, doors, faults, repeats, verdicts
from mcp_servers.conformance.findings import Fault, Finding, Remark, Report, Skip, Status, described, innermost
from mcp_servers.conformance.subject import Options, Subject
from mcp_servers.guard import broke
from trace_agents.environment import Advises, ChecksFiles
from trace_agents.errors import InfrastructureError, unknown
from trace_agents.progress import Progress, SilentProgress
from trace_agents.registry import load_environment


@dataclass(frozen=True)
class Check:
    """One thing that a conformant environment does."""

    name: str
    expected: str
    """In one sentence."""
    run: Callable[[Subject], Awaitable[Remark | None]]
    """Raises `Fault` or `Skip`; returns what it could not see though it passed."""


CHECKS = (
    Check("tasks", "task lists are fixed, an id names one task, and `task` finds it", contract.task_lists),
    Check("tasks-as-json", "tasks are the same after a journey as JSON", contract.travel),
    Check("refusals", "unknown splits and ids raise UsageError", contract.refusals),
    Check("generation", "a seed gives the same task each time", contract.generation),
    Check("episode", "an episode has its task, tools, policy and user", contract.episode_shape),
    Check("schemas", "tools have valid JSON Schemas of objects and unique names", contract.schemas),
    Check("determinism", "the same actions give the same results and verdict", repeats.determinism),
    Check("processes", "another process lists and plays the same tasks alike", repeats.other_process),
    Check("isolation", "interleaved episodes answer as each does alone", repeats.isolation),
    Check("tasks-untouched", "playing leaves task instances as they were", repeats.tasks_untouched),
    Check("door-memory", "an agent in this process reads what the environment states, in both eras", doors.memory),
    Check("door-stdio", "an agent over stdio reads what the environment states, in both eras", doors.stdio),
    Check("door-http", "an agent over HTTP reads what the environment states, in both eras", doors.http),
    Check("gold", "gold actions score 1", verdicts.gold),
    Check("idle", "an agent that does nothing does not score 1 on every task", verdicts.idle),
    Check("activity", "valid calls at random get a verdict in [0, 1]", verdicts.activity),
    Check("garbage", "any conversation gets a verdict in [0, 1]", verdicts.garbage),
    Check("unknown-tool", "a tool that is not offered is an is_error result", faults.unknown_tool),
    Check("missing-arguments", "a call without its required arguments is an is_error result", faults.missing_arguments),
    Check("odd-arguments", "wrong, surplus and very long arguments are answered", faults.odd_arguments),
    Check("parallel-calls", "calls at once are answered as one after the other", faults.parallel_calls),
    Check("after-the-end", "the user can be asked after the end of the conversation", faults.after_the_end),
    Check("closing", "closing twice is fine, and a closed episode is refused", faults.closing),
    Check("evaluator-failure", "an evaluation that raises leaves other episodes alone", faults.evaluator_failure),
)
"""What `conform` checks, in order."""
ALIKE = "determinism"
"""The check that others rest on."""
COMPARING = ("processes", "isolation", "door-memory", "door-stdio", "door-http", "parallel-calls", "evaluator-failure")
"""Checks that compare two plays: what differs from play to play fails them too."""


async def conform(
    spec: str, options: Options | None = None, only: Collection[str] = (), progress: Progress | None = None
) -> Report:
    """The report on the environment that `spec` names.

    Args:
        spec: as for `load_environment`; other processes load it by the same name.
        options: how thoroughly.
        only: names of checks to run; all of them if empty.
        progress: told of each check.

    Raises:
        UsageError: no such environment, or no such check; or a mistake in its files that every episode would meet.
    """
    names = [check.name for check in CHECKS]
    for name in only:
        if name not in names:
            raise unknown("check", name, names)
    chosen = [check for check in CHECKS if not only or check.name in only]
    environment = load_environment(spec)
    subject = Subject(spec, environment, options or Options())
    findings: list[Finding] = []
    try:
        # What does not end here, or fails, does so in the checks, which say so.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(subject.options.timeout_s):
                with contextlib.suppress(InfrastructureError):
                    if isinstance(environment, ChecksFiles):
                        await environment.check()
                await subject.leave_out_unavailable()
        with (progress or SilentProgress()).stage("conformance", len(chosen)) as stage:
            for check in chosen:
                stage.note(check.name)
                findings.append(_traced(await _finding(check, subject), findings))
                stage.advance()
    finally:
        await subject.close()
    try:
        played = len(subject.tasks)
    except (Exception, SystemExit):  # Its task lists are at fault, which a finding says.
        played = 0
    return Report(
        environment=str(environment.name),
        spec=spec,
        tasks=played,
        unavailable=dict(subject.unavailable),
        findings=tuple(findings),
    )


async def _finding(check: Check, subject: Subject) -> Finding:
    try:
        async with asyncio.timeout(subject.options.timeout_s) as limit:
            remark = await check.run(subject) or Remark("", "")
    except Skip as reason:
        return Finding(check=check.name, status=Status.SKIPPED, expected=check.expected, found=str(reason))
    except BaseException as error:  # An environment may break in any way; that is what is looked for.
        if not broke(error):
            raise
        error = innermost(error)  # MCP's client groups what is raised while it is open.
        if isinstance(error, Fault):
            return _fault(check, subject, error)
        found, remedy = f"it raises {described(error)}", "let nothing but UsageError and InfrastructureError escape"
        if isinstance(error, InfrastructureError):
            found, remedy = f"the environment failed: {error}", "mend what it names: such an episode has no reward"
        if limit.expired():
            found = f"it had not ended after {subject.options.timeout_s:g} s"
            remedy = "see that start, calls and close end; where it is only slow, give a longer --timeout"
        cause = _failure_behind(error) or found
    else:
        return Finding(check=check.name, status=Status.PASSED, expected=check.expected, **remark._asdict())
    return Finding(
        check=check.name, status=Status.FAILED, expected=check.expected, found=found, remedy=remedy, cause=cause
    )


def _fault(check: Check, subject: Subject, fault: Fault) -> Finding:
    remedy, cause = fault.remedy, _failure_behind(fault)
    if not cause and isinstance(subject.environment, Advises):
        remedy = subject.environment.remedy(check.name) or remedy
    return Finding(
        check=check.name,
        status=Status.FAILED,
        expected=check.expected,
        found=fault.found,
        remedy=remedy,
        cause=cause or (fault.found if check.name == ALIKE else ""),
    )


def _failure_behind(error: BaseException | None) -> str:
    """The innermost failure of infrastructure that led to `error`, in its own words; empty where there is none."""
    found = ""
    while error is not None:
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
            continue
        found = str(error) if isinstance(error, InfrastructureError) else found
        error = error.__cause__
    return found


def _traced(finding: Finding, before: Sequence[Finding]) -> Finding:
    """`finding` with the cause of an earlier one where it tells of that: another process says it in its own words."""
    if finding.check in COMPARING and finding.status is Status.FAILED and not finding.cause:
        return finding.model_copy(update={"cause": next((one.cause for one in before if one.check == ALIKE), "")})
    causes = [one.cause for one in before if one.cause]
    known = next((cause for cause in causes if _tells_of(finding, cause)), finding.cause)
    return finding.model_copy(update={"cause": known})


def _tells_of(finding: Finding, cause: str) -> bool:
    """`finding` has the cause, or one in the same words about another task, value or number."""
    return cause in finding.found or cause in finding.cause or _form(cause) == _form(finding.cause)


def _form(cause: str) -> str:
    return re.sub(r"'[^']*'|\"[^\"]*\"|\d+", "…", cause)
