"""An evaluation as upstream's own `Results`: the file that `tau2 view`, its metrics and its leaderboard read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from mcp_servers.benchmark.users import UserChoice, UserKind
from mcp_servers.tau2.trajectory import Item
from trace_agents.environment import ResultsRequest

FILE = "results.json"
IMPLEMENTATION = {
    UserKind.MODEL: "user_simulator",
    UserKind.SCRIPTED: "trace-agents scripted user",
    UserKind.NONE: "dummy_user",
}
"""Who the simulated user was; upstream's word where it has one."""


def kept(
    items: Sequence[Item], ending: str, verdict: Mapping[str, Any], seconds: tuple[float, float]
) -> dict[str, Any]:
    """What a simulation holds besides the trajectory: upstream's messages, ending and reward, and when it was.

    Args:
        items: the messages that were judged.
        ending: one of upstream's termination reasons.
        verdict: upstream's `RewardInfo`, in JSON.
        seconds: beginning and end, since the epoch.
    """
    begun, ended = seconds
    return {
        "messages": [dict(item) | {"turn_idx": index} for index, item in enumerate(items)],
        "termination_reason": ending,
        "reward_info": {key: value for key, value in verdict.items() if key != "wanted"},
        "start_time": _time(begun),
        "end_time": _time(ended),
        "duration": round(ended - begun, 3),
    }


def results(
    request: ResultsRequest, domain: str, policy: str, user: UserChoice, provenance: Mapping[str, str]
) -> dict[str, str]:
    """Relative path -> content of upstream's file.

    Episodes without a verdict are left out: upstream's tables read a reward of every simulation. Upstream counts its
    limit in messages, this in turns of the agent; and there is no limit to failed calls in a row.
    """
    found = [
        {
            "id": one.id,
            "task_id": one.task_id,
            "timestamp": request.records[one.id]["end_time"],
            "trial": one.trial,
            "seed": request.seed,
            "agent_cost": 0.0,
            "user_cost": 0.0,
            **request.records[one.id],
        }
        for one in request.trajectories
        if one.success is not None and one.id in request.records
    ]
    modelled = user.kind is UserKind.MODEL
    info = {
        "git_commit": provenance.get("revision", ""),
        "num_trials": request.trials,
        "max_steps": request.max_turns,
        "max_errors": request.max_turns,
        "seed": request.seed,
        "user_info": {
            "implementation": IMPLEMENTATION[user.kind],
            "llm": user.model if modelled else None,
            "llm_args": {"temperature": user.temperature} if modelled else None,
            "global_simulation_guidelines": None,
        },
        "agent_info": {
            "implementation": "trace-agents",
            "llm": request.agent,
            "llm_args": {"temperature": request.sampling.temperature, "max_tokens": request.sampling.max_tokens},
        },
        "environment_info": {"domain_name": domain, "policy": policy, "tool_defs": None},
    }
    whole = {
        "timestamp": max((one["end_time"] for one in found), default=_time(0.0)),
        "info": info,
        "tasks": [task.data["task"] for task in request.tasks],
        "simulations": found,
    }
    return {FILE: json.dumps(whole, indent=1, ensure_ascii=False) + "\n"}


def _time(seconds: float) -> str:
    """As upstream writes times: ISO 8601, here in UTC."""
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()
