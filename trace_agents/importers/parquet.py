"""Rows of Parquet files, a few at a time, as the JSON objects that the same data would be; needs pyarrow.

Parquet gives all objects of a column the same keys: those that are null inside an object are left out. Text that is
JSON for an object, or for a list of objects, is read as that: exporters keep messages so. Times become text.
"""

from __future__ import annotations

import datetime
import decimal
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trace_agents.errors import UsageError

BATCH = 32
"""Rows held at a time."""

BUFFER = 1 << 20
"""Bytes of each column read at a time: without it a whole row group, which may be the whole file, is held."""

_TEXTS = frozenset({"prompt", "completion"})
"""Columns in which text that happens to be a JSON object stays text: what was said."""


def values_of(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file.

    Raises:
        UsageError: pyarrow is not installed, or the file is not Parquet.
    """
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError(
            f"{str(path)!r} is Parquet, which needs pyarrow: pip install 'trace-agents[parquet]', or convert the file "
            "to JSON lines"
        ) from error
    try:
        with parquet.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False) as file:
            schema = arrow.schema([field.with_type(_without_times(arrow, field.type)) for field in file.schema_arrow])
            for batch in file.iter_batches(batch_size=BATCH, use_threads=False):
                for row in arrow.Table.from_batches([batch]).cast(schema).to_pylist():
                    yield {key: _column(key, value) for key, value in row.items()}
    except (arrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise UsageError(
            f"{str(path)!r} cannot be read as Parquet ({_line(error)}): fetch or write it again"
        ) from error


def _without_times(arrow: Any, kind: Any) -> Any:
    """A type of Arrow with text for its times: Python's end at microseconds and at the year 9999."""
    if arrow.types.is_timestamp(kind):
        return arrow.string()
    if arrow.types.is_struct(kind):
        return arrow.struct([field.with_type(_without_times(arrow, field.type)) for field in kind])
    return arrow.list_(_without_times(arrow, kind.value_type)) if arrow.types.is_list(kind) else kind


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _column(name: str, value: Any) -> Any:
    value = _plain(value)
    if not isinstance(value, str) or value.lstrip()[:1] not in ("{", "["):
        return value
    try:
        told = json.loads(value)
    except (ValueError, RecursionError):
        return value
    listed = isinstance(told, list) and bool(told) and all(isinstance(one, dict) for one in told)
    return told if listed or (isinstance(told, dict) and name not in _TEXTS) else value


def _plain(value: Any) -> Any:
    """`value` as JSON would have it."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        pairs = bool(value) and all(isinstance(item, tuple) and len(item) == 2 for item in value)
        return {str(key): _plain(item) for key, item in value} if pairs else [_plain(item) for item in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return float(value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)
