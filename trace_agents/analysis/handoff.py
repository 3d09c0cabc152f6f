"""The hand-off folder: requests to read, answers to give, by anything that reads and writes files."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trace_agents.analysis.requests import BadAnswer, Request, check_answer, parse_json
from trace_agents.artifacts import Artifact
from trace_agents.errors import UsageError, unknown
from trace_agents.files import append_lines, mend_tail, read_lines, write_atomically

NOBODY = "unnamed"
"""Who answered, where nobody said."""


class HandoffFacts(Artifact):
    """`handoff.json`: whose requests the folder holds."""

    analysis: str
    """Digest of the trajectories and the settings."""


class AnsweredRow(Artifact):
    """One line of `answered.jsonl`: where an answer comes from."""

    id: str
    by: str
    """Name of who answered, as they gave it."""
    at: float
    """Seconds since the epoch."""


class HandoffFolder:
    """`DIR`: `requests/ID.json` (and `ID.md`, the prompt alone), `answers/ID.json`, `answered.jsonl`, `handoff.json`.

    An answer may be written into `answers/` by hand; it is checked when it is taken in.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._requests, self._answers = path / "requests", path / "answers"
        self._log, self._facts = path / "answered.jsonl", path / "handoff.json"

    @classmethod
    def existing(cls, path: Path) -> HandoffFolder:
        """The folder of an analysis that has asked.

        Raises:
            UsageError: it is no hand-off folder.
        """
        folder = cls(path)
        if not folder._facts.is_file():
            raise UsageError(
                f"{str(path)!r} is no hand-off folder: start one with `trace-agents analyze ... --handoff {path}`"
            )
        return folder

    def claim(self, analysis: str) -> None:
        """Make the folder this analysis's own.

        Raises:
            UsageError: it belongs to another analysis.
        """
        if self._facts.is_file():
            if not self.belongs_to(analysis):
                raise UsageError(
                    f"hand-off folder {str(self.path)!r} belongs to another analysis (other trajectories or options): "
                    "repeat the options of the first call, or give a new folder"
                )
            return
        for folder in (self._requests, self._answers):
            folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._facts, HandoffFacts(analysis=analysis).model_dump_json() + "\n")

    def belongs_to(self, analysis: str) -> bool:
        """Whether the folder holds that analysis's requests."""
        if not self._facts.is_file():
            return False
        return HandoffFacts.model_validate_json(self._facts.read_text(encoding="utf-8")).analysis == analysis

    def put(self, request: Request) -> None:
        """Ask; what was asked before is left as it is."""
        path = self._requests / f"{request.id}.json"
        if path.is_file():
            return
        write_atomically(self._requests / f"{request.id}.md", request.prompt + "\n")
        write_atomically(path, request.model_dump_json(indent=2) + "\n")

    def ids(self) -> list[str]:
        """All requests, answered ones among them."""
        return sorted(path.stem for path in self._requests.glob("*.json"))

    def request(self, identity: str) -> Request:
        """The request of that id.

        Raises:
            UsageError: there is none.
        """
        if identity not in self.ids():
            raise unknown("request", identity, [one.id for one in self.open()] or self.ids())
        return Request.model_validate_json((self._requests / f"{identity}.json").read_text(encoding="utf-8"))

    def open(self) -> list[Request]:
        """Requests without an answer that fits, discovery before labelling."""
        waiting = [self.request(identity) for identity in self.ids() if not self._fits(identity)]
        order = ("discover", "merge", "label")
        return sorted(waiting, key=lambda one: (order.index(one.kind), one.about, one.id))

    def answer(self, identity: str, answer: Any, by: str = NOBODY) -> None:
        """Take an answer, once.

        Raises:
            UsageError: no such request, or it is answered already.
            BadAnswer: the answer does not fit the request's schema; says why.
        """
        request = self.request(identity)
        if self._fits(identity):
            path = self._answers / f"{identity}.json"
            raise UsageError(f"request {identity!r} is answered already: remove {str(path)!r} to answer it anew")
        check_answer(request, answer)
        write_atomically(self._answers / f"{identity}.json", json.dumps(answer, ensure_ascii=False, indent=1) + "\n")
        mend_tail(self._log)
        append_lines(self._log, [AnsweredRow(id=identity, by=by, at=time.time()).model_dump_json()])

    def take(self, identity: str) -> Any:
        """The answer to a request; None where there is none yet.

        Raises:
            BadAnswer: a file was written that does not fit; it stays for its author to mend.
        """
        path = self._answers / f"{identity}.json"
        if not path.is_file():
            return None
        answer = parse_json(path.read_text(encoding="utf-8", errors="replace"))
        check_answer(self.request(identity), answer)
        return answer

    def refusals(self) -> dict[str, str]:
        """Request → why the answer in its file cannot be taken."""
        found = {}
        for identity in self.ids():
            try:
                self.take(identity)
            except BadAnswer as error:
                found[identity] = str(error)
        return found

    def answered_by(self) -> dict[str, int]:
        """Who answered → how many requests; files written by hand are `unnamed`."""
        names = {}
        if self._log.is_file():
            for number, row in read_lines(self._log):
                try:
                    line = AnsweredRow.model_validate(row)
                except ValidationError as error:
                    raise UsageError(f"line {number} of {str(self._log)!r} is no answer's row: remove it") from error
                names[line.id] = line.by
        return dict(Counter(names.get(identity, NOBODY) for identity in self.ids() if self._fits(identity)))

    def _fits(self, identity: str) -> bool:
        try:
            return self.take(identity) is not None
        except BadAnswer:
            return False
