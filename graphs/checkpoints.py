"""What a graph keeps in an SQLite file: its checkpoints, and the answers that it was given."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from trace_agents.analysis.requests import Usage


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


class AnswerBook:
    """Answers that somebody gave, each committed before it is used: what was paid for survives any kill.

    The graph's own checkpoints come a moment after a node ends, and hold their file while they do; the book is a file
    beside it.
    """

    def __init__(self, path: Path | None, analysis: str) -> None:
        """The book beside the checkpoints at `path` (None: in memory), for the analysis of that name."""
        self._path = None if path is None else path.with_name(f"{path.stem}-answers{path.suffix}")
        self._analysis = analysis
        self._memory: dict[str, tuple[str | None, str]] = {}
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._open() as db:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute(
                "CREATE TABLE IF NOT EXISTS answers (analysis TEXT, request TEXT, answer TEXT, usage TEXT, "
                "PRIMARY KEY (analysis, request))"
            )

    def get(self, request: str) -> Any:
        """The answer to a request; None where it has none."""
        row = self._row(request)
        return None if row is None or row[0] is None else json.loads(row[0])

    def put(self, request: str, answer: Any, usage: Usage) -> None:
        """Keep an answer (None: there was none) and what it took, added to what the request took before."""
        held = self._row(request)
        total = usage if held is None else Usage.model_validate_json(held[1]) + usage
        row = (None if answer is None else json.dumps(answer), total.model_dump_json())
        if self._path is None:
            self._memory[request] = row
            return
        with self._open() as db:
            db.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)", (self._analysis, request, *row))

    def spent(self) -> Usage:
        """What all requests of the analysis took."""
        texts = [usage for _, usage in self._memory.values()]
        if self._path is not None:
            with self._open() as db:
                found = db.execute("SELECT usage FROM answers WHERE analysis = ?", (self._analysis,))
                texts = [text for (text,) in found]
        return sum((Usage.model_validate_json(text) for text in texts), Usage())

    def _row(self, request: str) -> tuple[str | None, str] | None:
        if self._path is None:
            return self._memory.get(request)
        with self._open() as db:
            wanted = "SELECT answer, usage FROM answers WHERE analysis = ? AND request = ?"
            return db.execute(wanted, (self._analysis, request)).fetchone()

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection for one deed, which commits at once."""
        with closing(sqlite3.connect(str(self._path), timeout=60, isolation_level=None)) as db:
            yield db
