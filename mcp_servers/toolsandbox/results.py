"""Results as upstream's own runner leaves them: a folder for each trial, with a summary and the trajectories."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from mcp_servers.toolsandbox.splits import counted
from trace_agents.environment import ResultsRequest
from trace_agents.types import Trajectory

OVERALL = "ALL_CATEGORIES"
"""Upstream's name for all scenarios together."""


def upstream_results(request: ResultsRequest, revision: str) -> Mapping[str, str]:
    """Relative path -> content: `result_summary.json` and, for each scenario, its conversation and message table.

    Upstream plays a scenario once, so each trial has a folder of its own where there are several. Episodes that were
    not run or that failed for reasons of infrastructure are left out. The table drawn for people is not written.
    """
    files: dict[str, str] = {}
    for trial in range(request.trials):
        played = [each for each in request.trajectories if each.trial == trial and each.id in request.records]
        folder = f"trial-{trial}/" if request.trials > 1 else ""
        files |= {folder + path: content for path, content in _run(played, request.records, revision).items()}
    return files


def _run(played: Sequence[Trajectory], records: Mapping[str, Mapping[str, Any]], revision: str) -> dict[str, str]:
    files, rows = {}, []
    for trajectory in played:
        record = records[trajectory.id]
        rows.append({"traceback": None, "exception_type": None, **record["result"]})
        folder = f"trajectories/{trajectory.task_id}"
        if record["conversation"] is not None:
            files[f"{folder}/conversation.json"] = _json(record["conversation"])
        files[f"{folder}/execution_context.json"] = _json(record["context"])
    summary = {"per_scenario_results": rows, "category_aggregated_results": _aggregated(rows), "git_sha": revision}
    return {"result_summary.json": _json(summary), **files}


def _aggregated(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Category -> mean similarity and turn count of the scenarios that count in it."""
    found: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        for category in (*counted(row["categories"]), OVERALL):
            found[category].append(row)
    return {
        category: {part: sum(row[part] for row in rows) / len(rows) for part in ("similarity", "turn_count")}
        for category, rows in found.items()
    }


def _json(value: Any) -> str:
    return json.dumps(value, indent=4, ensure_ascii=False) + "\n"
