"""RapidAPI's answers: from a list of known ones, else from RapidAPI where there is a key."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace
from typing import Any

from tool_sandbox.tools import rapid_api_search_tools

KEY = "RAPID_API_KEY"
"""Upstream's variable of the key."""
TIMEOUT_S = 30.0


class Missing(Exception):
    """Nobody knows the answer to a request: no fault of the agent's."""


class Facts:
    """What upstream's tools are answered instead of RapidAPI, where any answers are known; else upstream's own way."""

    def __init__(self, known: list[dict[str, Any]] | None, key: str, needed: bool) -> None:
        """Let upstream's tools ask these.

        Args:
            known: answers; None where there is neither a file of them nor a key.
            key: key for RapidAPI; empty without one.
            needed: the scenario cannot be played without RapidAPI.
        """
        self._known = {_request(fact["url"], fact["params"]): fact["response"] for fact in known or ()}
        self._learned: list[dict[str, Any]] = []
        self._problem = ""
        os.environ.pop(KEY, None)
        if known is None:
            return
        self._has_key, self._needed = bool(key), needed
        os.environ[KEY] = key or "none"  # Upstream looks whether there is one before it asks.
        rapid_api_search_tools.__dict__["requests"] = SimpleNamespace(get=self._get)

    def learned(self) -> list[dict[str, Any]]:
        """Answers of RapidAPI's since the last time.

        Raises:
            Missing: a request could not be answered.
        """
        if self._problem:
            raise Missing(self._problem)
        learned, self._learned = self._learned, []
        return learned

    def _get(self, url: str, headers: dict[str, Any], params: dict[str, Any]) -> Any:
        request = _request(url, params)
        if request not in self._known:
            self._known[request] = self._asked(url, headers, params)
        answer = json.loads(json.dumps(self._known[request]))  # Upstream's tools change what they get.
        return SimpleNamespace(json=lambda: answer)

    def _asked(self, url: str, headers: dict[str, Any], params: dict[str, Any]) -> Any:
        """RapidAPI's answer. What goes wrong is kept, as the console that runs tools makes an error result of it."""
        if not self._has_key and not self._needed:
            return self._refused(url, headers, params)
        if not self._has_key:
            self._problem = f"no fact for {json.dumps({'url': url, 'params': params})}, and no {KEY} to ask with"
            raise Missing(self._problem)
        import requests

        try:
            response = requests.get(url, headers=headers, params=params, timeout=TIMEOUT_S)
            response.raise_for_status()
            answer = response.json()
        except (requests.RequestException, ValueError) as error:
            self._problem = f"RapidAPI failed for {url!r}: {type(error).__name__}"
            raise Missing(self._problem) from error
        self._learned.append({"url": url, "params": params, "response": answer})
        return answer

    def _refused(self, url: str, headers: dict[str, Any], params: dict[str, Any]) -> Any:
        """What upstream's tools do without a key: they raise, and the agent reads it."""
        held = os.environ.pop(KEY)
        try:
            return rapid_api_search_tools.rapid_api_get_request(url, params, headers)
        finally:
            os.environ[KEY] = held


def _request(url: str, params: dict[str, Any]) -> str:
    return json.dumps([url, params], sort_keys=True)
