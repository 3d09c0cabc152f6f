"""Checkpoints of graphs in an SQLite file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver


@asynccontextmanager
async def sqlite_checkpoints(path: Path) -> AsyncIterator[AsyncSqliteSaver]:
    """A checkpointer that keeps its file in `path`; made with its folder where it is not there yet.

    A graph that breaks off cancels its tasks, some between an insert and its commit. What was inserted is an answer
    somebody gave: it is committed, and the file is free for whoever goes on.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
        try:
            yield saver
        finally:
            async with saver.lock:
                await saver.conn.commit()
