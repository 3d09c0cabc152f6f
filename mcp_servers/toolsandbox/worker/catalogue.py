"""Upstream's scenarios, built once and kept in a file: building all takes seconds, and its data frames start threads.

A process whose data-frame library has started its threads must not fork. So a child builds, and what it built is kept
as bytes; a session takes its one scenario from them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import random
import traceback
from collections import defaultdict
from pathlib import Path
from typing import Any

import dill
import tool_sandbox.scenarios
from frozen import freeze_clock
from tool_sandbox.common.execution_context import DatabaseNamespace, RoleType, ScenarioCategories, new_context
from tool_sandbox.common.scenario import Scenario
from tool_sandbox.common.tool_conversion import convert_to_openai_tools
from tool_sandbox.common.tool_discovery import ToolBackend
from tool_sandbox.roles.base_role import BaseRole

SEED = 42
"""What upstream's command seeds `random` with before it builds."""
ONLINE = "tool_sandbox.tools.rapid_api_search_tools"
"""Upstream's module of the tools that ask RapidAPI."""


class Agent(BaseRole):
    """The role that the host's agent plays."""

    role_type = RoleType.AGENT


def catalogue(folder: Path, instant: str, code: str) -> dict[str, Any]:
    """`index`, `tools` (their hash) and `scenarios` (name -> bytes), from `folder` or built and kept there.

    Args:
        folder: where what was built is kept.
        instant: the time at which upstream's clock stands.
        code: the digest of upstream's code.
    """
    mark = hashlib.sha256(f"{instant}\0{code}\0{own_digest()}".encode()).hexdigest()[:16]
    path = folder / f"scenarios-{mark}.pickle"
    if not path.is_file():
        _in_a_child(path, instant)
    found: dict[str, Any] = pickle.loads(path.read_bytes())
    return found


def own_digest() -> str:
    """SHA-256 of this module and of the clock: what was built by others is built again."""
    return hashlib.sha256(
        b"".join(Path(__file__).with_name(f"{name}.py").read_bytes() for name in _MADE_BY)
    ).hexdigest()


_MADE_BY = ("catalogue", "frozen", "standins")


def _in_a_child(path: Path, instant: str) -> None:
    child = os.fork()
    if child:
        with contextlib.suppress(ChildProcessError):  # The worker lets ended children go by themselves.
            os.waitpid(child, 0)
        if not path.is_file():
            raise RuntimeError("upstream's scenarios could not be built")
        return
    try:
        freeze_clock(instant)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        part.write_bytes(pickle.dumps(_build()))
        part.replace(path)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def _build() -> dict[str, Any]:
    random.seed(SEED)
    scenarios = tool_sandbox.scenarios.named_scenarios(preferred_tool_backend=ToolBackend.DEFAULT)
    schemas: dict[str, Any] = {}
    index, kept, base = [], {}, ""
    for name, scenario in scenarios.items():
        tools = _tools(scenario)
        schemas |= {json.dumps(tool, sort_keys=True): None for tool in tools}
        kept[name] = dill.dumps((scenario, tools))
        index.append(_entry(name, scenario))
    by_name = {entry["name"]: entry for entry in index}
    for entry in index:
        base = _base(entry["name"], by_name)
        entry["base"], entry["online"] = base, by_name[base]["online"]
    digest = hashlib.sha256("\n".join(sorted(schemas)).encode()).hexdigest()
    return {"index": index, "tools": digest, "scenarios": kept}


def _tools(scenario: Scenario) -> list[dict[str, Any]]:
    """The agent's tools, as upstream's own agents are shown them."""
    with new_context(scenario.starting_context):
        return [tool["function"] for tool in convert_to_openai_tools(Agent.get_available_tools())]


def _entry(name: str, scenario: Scenario) -> dict[str, Any]:
    context = scenario.starting_context
    rows = context.get_database(DatabaseNamespace.SANDBOX, get_all_history_snapshots=True).to_dicts()
    policy = [row["content"] for row in rows if (row["sender"], row["recipient"]) == ("SYSTEM", "AGENT")]
    allowed = [context.name_to_tool[tool] for tool in context.tool_allow_list or context.name_to_tool]
    online = any(tool.__module__ == ONLINE for tool in allowed)
    return {
        "name": name,
        "categories": [str(category) for category in scenario.categories],
        "prompt": rows[-1]["content"],
        "policy": "\n\n".join(policy),
        "online": online and ScenarioCategories.INSUFFICIENT_INFORMATION not in scenario.categories,
        "texts": _texts(scenario),
        "digest": _digest(scenario),
    }


def _texts(scenario: Scenario) -> int:
    """How many milestones want the agent to say something."""
    wanted = [
        [
            each.target_dataframe.to_dicts()
            for each in milestone.snapshot_constraints
            if each.target_dataframe is not None
        ]
        for milestone in scenario.evaluation.milestone_matcher.milestones
    ]
    return sum(any(rows[0].get("recipient") == RoleType.USER for rows in every if rows) for every in wanted)


def _base(name: str, by_name: dict[str, Any]) -> str:
    """The scenario without distraction that `name` was made from: the longest name that it begins with."""
    there = str(ScenarioCategories.NO_DISTRACTION_TOOLS)
    bases = [each for each, entry in by_name.items() if there in entry["categories"] and name.startswith(each)]
    return max(bases, key=len)


def _digest(scenario: Scenario) -> str:
    """SHA-256 of a scenario's beginning and of the rows that its milestones and minefields want."""
    context, total = scenario.starting_context, defaultdict[str, Any](list)
    for namespace, database in context._dbs.items():
        total["state"].append([str(namespace), database.to_dicts()])
    for matcher in (scenario.evaluation.milestone_matcher, scenario.evaluation.minefield_matcher):
        for milestone in matcher.milestones:
            wanted = [constraint.target_dataframe for constraint in milestone.snapshot_constraints]
            total["wanted"].append([None if rows is None else rows.to_dicts() for rows in wanted])
        total["edges"].append(matcher.edge_list)
    total["tools"] = [context.tool_allow_list, context.tool_deny_list, list(map(str, context.tool_augmentation_list))]
    return hashlib.sha256(json.dumps(total, default=str).encode()).hexdigest()
