"""What a task of upstream's says of its gold actions and of who judges it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mcp_servers.tau2.users import turns
from trace_agents.types import ToolCall

GO_AHEAD = "Please go ahead."
"""What the oracle says where it is the user's turn to act."""
WITHOUT_GOLD = {("mock", "update_task_with_user_tools")}
"""Domain and task, from v1.0.0 on, where upstream's gold actions leave out what the user must do."""
WITHOUT_FAILURE = {("mock", "create_task_1_with_env_assertions")}
"""Domain and task that upstream can only judge solved: its evaluator raises wherever the agent has not done it.

Upstream's runner then ends the whole run (v0.2.0), or leaves the simulation out of its figures (from v1.0.0 on): a
share of solved tasks would count the successes alone.
"""


def has_gold(domain: str, task_id: str) -> bool:
    """The task's gold actions, with the scripted user's, solve it."""
    return (domain, task_id) not in WITHOUT_GOLD


def can_fail(domain: str, task_id: str) -> bool:
    """Upstream has a verdict on the task for an agent that does not solve it."""
    return (domain, task_id) not in WITHOUT_FAILURE


def needs_judge(raw: Mapping[str, Any]) -> bool:
    """Upstream lets a model judge assertions in plain language about the conversation, and the reward depends on it."""
    criteria = raw.get("evaluation_criteria") or {}
    return "NL_ASSERTION" in (criteria.get("reward_basis") or ()) and bool(criteria.get("nl_assertions"))


def gold(raw: Mapping[str, Any]) -> Iterator[ToolCall | str]:
    """The gold actions of a task, a text wherever it is the user's turn, and what is to be told in the end."""
    for requestor, run in turns(raw):
        if requestor == "user":
            yield GO_AHEAD
            continue
        for action in run:
            yield ToolCall(name=action["name"], arguments=action["arguments"])
    told = (raw.get("evaluation_criteria") or {}).get("communicate_info") or ()
    yield "; ".join(["That is all done.", *told])
