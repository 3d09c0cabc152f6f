"""Runs of LangSmith under one set of names, the SDK's `schemas.Run`, whichever of its exports they come from.

- `Client.list_runs`, what the tracer sends, and pages of `/runs/query`: as they are;
- `client.runs.query` and `client.traces.query` (SDK 0.10 and later): `run_type` and `status` in capitals, ancestors as
  `parent_run_ids`, `metadata` beside `extra`; a trace is `{root_run, trace_aggregates}`;
- `langsmith trace export --full` of the command line: `run_id`, `custom_metadata`;
- bulk exports (Parquet): objects as JSON text, the root told by `is_root`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from trace_agents.importers.rows import mapping, text_of

_OBJECTS = ("inputs", "outputs", "extra", "metadata", "feedback_stats")
"""Fields that bulk exports hold as JSON text."""


def is_run(row: Mapping[str, Any]) -> bool:
    """Whether a row is a run, or a trace with its root run."""
    return "run_type" in row or "run_type" in mapping(row.get("root_run"))


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """The run under the SDK's names; `parent_run_id` is there and not empty only where it has a parent."""
    run = {**mapping(row.get("root_run"))} if "run_type" not in row else {**row}
    run |= {key: _object(run[key]) for key in _OBJECTS if isinstance(run.get(key), str)}
    run |= {key: run[key].lower() for key in ("run_type", "status") if isinstance(run.get(key), str)}
    if "id" not in run and "run_id" in run:
        run["id"] = run["run_id"]
    run["parent_run_id"] = _parent(run)
    told = {**mapping(run.get("custom_metadata")), **mapping(run.get("metadata"))}
    if told:
        extra = mapping(run.get("extra"))
        run["extra"] = {**extra, "metadata": {**told, **mapping(extra.get("metadata"))}}
    return run


def _object(text: str) -> Any:
    try:
        value = json.loads(text) if text.lstrip()[:1] in ("{", "[") else text
    except (ValueError, RecursionError):
        return text
    return value


def _parent(run: Mapping[str, Any]) -> Any:
    ancestors, root = run.get("parent_run_ids"), text_of(run.get("trace_id"))
    if run.get("parent_run_id") or run.get("is_root") is True:
        return run.get("parent_run_id")
    if isinstance(ancestors, list) and ancestors:
        return ancestors[-1]
    # A trace has the identity of its root run.
    return root if root and root != text_of(run.get("id")) else None
