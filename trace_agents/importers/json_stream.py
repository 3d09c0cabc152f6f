"""JSON values one at a time from a file, so that an array or an object of any length is never held whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TextIO

CHUNK = 1 << 20
"""Characters read at a time; a value longer than this is read in doubling steps."""


class JsonStream:
    """A position in a text of JSON.

    Every method raises ValueError, with the reason, where the text is not JSON.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._text = ""
        self._at = 0
        self._decoder = json.JSONDecoder()

    def peek(self) -> str:
        """The next character that is no space, empty at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in " \t\r\n\ufeff":
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def items(self) -> Iterator[Any]:
        """The values of an array that begins here."""
        yield from (self.value() for _ in self._entries("[", "]"))

    def members(self) -> Iterator[str]:
        """The keys of an object that begins here; after each, its value must be taken from the stream."""
        for _ in self._entries("{", "}"):
            key = self.value()
            if not isinstance(key, str):
                raise ValueError(f"a key is wanted, not {key!r}")
            self._take(":")
            yield key

    def value(self) -> Any:
        """The value that begins here."""
        first = self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError:
                if not self._more():
                    raise
                continue
            except RecursionError as error:
                raise ValueError("it is nested too deeply") from error
            # A number may go on in what is not read yet.
            if end == len(self._text) and first not in '{["' and self._more():
                continue
            self._at = end
            return value

    def _entries(self, opening: str, closing: str) -> Iterator[None]:
        self._take(opening)
        if self.peek() != closing:
            yield
            while self.peek() == ",":
                self._at += 1
                yield
        self._take(closing)

    def _take(self, character: str) -> None:
        if (found := self.peek()) != character:
            raise ValueError(f"{character!r} is wanted, not {found or 'the end'!r}")
        self._at += 1

    def _more(self) -> bool:
        rest = self._text[self._at :]
        read = self._stream.read(max(CHUNK, len(rest)))
        self._text, self._at = rest + read, 0
        return bool(read)
