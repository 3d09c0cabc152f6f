"""Errors a user can act on: each names the thing, its value and the remedy."""


class UsageError(Exception):
    """Bad input. The command line prints the message on one line and exits with code 2.

    The message names the thing, its value (quoted) and the remedy, for example
    ``unknown split 'tset' of environment 'helpdesk': use one of 'train', 'validation', 'test'``.
    """


class TaskUnavailable(UsageError):
    """A task that cannot be played here, because it needs something that is not there, such as a key.

    An evaluation counts it as not run, apart from failures; all else of the environment can be played.
    """


class InfrastructureError(Exception):
    """A failure that is not the agent's: a crashed server, a time-out, a full context.

    Recorded on the trajectory, retried, left out of groups and of label statistics; never a reward.
    """


def unknown(kind: str, value: object, known: list[str] | tuple[str, ...]) -> UsageError:
    """The `UsageError` for a value outside a closed set; lists what was available."""
    options = ", ".join(repr(name) for name in sorted(known)) or "none are registered"
    return UsageError(f"unknown {kind} {value!r}: use one of {options}")
