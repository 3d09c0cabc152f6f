"""What the author of a wrapped benchmark can change where a conformance check fails: its description, or its server."""

from __future__ import annotations

from mcp_servers.wrapped.description import Description

_CLOCK = (
    "give the server a fixed time and seed, by [server] env or a start of your own, where it tells the clock or draws"
)
_GOLD = "mend the task's 'gold', or what [check] asks for"
_LOCK = "guard the state that the server's tools share with a lock, so that calls at once do not mix"
_PATHS = "keep process ids, ports and paths outside {folder} out of what its tools answer"


def remedy(described: Description, check: str) -> str:
    """The remedy for conformance check `check`; empty where the check's own words will do."""
    if check == "determinism":
        return f"{_state(described)}; {_CLOCK}"
    if check == "processes":
        return f"{_CLOCK}; {_PATHS}"
    if check == "isolation":
        return f"{_state(described)}; {_apart(described)}"
    return {"gold": _GOLD, "parallel-calls": _LOCK}.get(check, "")


def _state(described: Description) -> str:
    """How an episode gets back the state that it has to begin with."""
    if described.reset.keep:
        return (
            "[reset] keep = true keeps what the server has in memory: undo all of it with 'calls' or 'command' in "
            "[reset], or set keep = false, which starts the server afresh"
        )
    if described.shared:
        return "all episodes share the server at the 'url': undo what they change with 'calls' or 'command' in [reset]"
    if described.server.url:
        return "[reset] by_connection = true says that each connection has a state of its own: see that it has"
    return "what the server keeps outside {folder} outlives the episode: keep it there, or undo it in [reset]"


def _apart(described: Description) -> str:
    """How live episodes are kept from each other."""
    if described.server.url:
        return "or set at_once = 1 there, where live episodes see each other's changes"
    return (
        "where live episodes share files, ports or a database, put those into {folder}, or set at_once = 1 in [reset]"
    )
