"""An MCP server as one might find it, in plain Python: it keeps words in a file, and speaks the handshake era only.

`python shelf_server.py FILE` serves it over standard input and output; `Shelf` is also served over HTTP by a test.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

WORD = {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]}
LIST = {"type": "object", "properties": {"words": {"type": "array"}, "process": {"type": "integer"}}}


NOTES = {
    "_meta": {"shelf.test/order": [2, 1], "shelf.test/none": None},
    "annotations": {"shelf.test/own": 1, "title": None, "readOnlyHint": True},
    "icons": [{"sizes": ["any"], "src": "https://shelf.test/words.svg", "shelf.test/own": True}],
    "title": "Words",
}


def tool(name: str, description: str, schema: Mapping[str, Any] | None = None, **others: Any) -> dict[str, Any]:
    return {"name": name, "description": description, "inputSchema": schema or {"type": "object"}, **others}


TOOLS = [
    tool("add", "Add a word.", WORD),
    tool("words", "All words, and the server's process.", outputSchema=LIST, **NOTES),
    tool("clear", "Forget all words."),
    tool("crash", "End the process, saying why."),
    tool("picture", "A picture, a link, and words."),
]


class Shelf:
    """Answers JSON-RPC messages about the words in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def answer(self, message: Mapping[str, Any]) -> dict[str, Any] | None:
        """The response; None to a notification."""
        if "id" not in message:
            return None
        head = {"jsonrpc": "2.0", "id": message["id"]}
        handler = getattr(self, message["method"].replace("/", "_"), None)
        if handler is None:
            return head | {"error": {"code": -32601, "message": f"no method {message['method']}"}}
        try:
            return head | {"result": handler(message.get("params") or {})}
        except LookupError as error:
            return head | {"error": {"code": -32602, "message": str(error.args[0])}}

    def initialize(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "protocolVersion": "2025-06-18",
            "capabilities": {"tools": {}, "resources": {}},
            "serverInfo": {"name": "shelf", "version": "1"},
            "instructions": f"Keep words in {self.path.parent}.",
        }

    def ping(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {}

    def tools_list(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Two pages."""
        page = int(params.get("cursor") or 0)
        return {"tools": TOOLS[page : page + 3]} | ({"nextCursor": "3"} if page == 0 else {})

    def resources_read(self, params: Mapping[str, Any]) -> dict[str, Any]:
        if params["uri"] != "shelf://words":
            raise LookupError(f"no resource {params['uri']}")
        return {"contents": [{"uri": "shelf://words", "text": "\n".join(self._words())}]}

    def tools_call(self, params: Mapping[str, Any]) -> dict[str, Any]:
        run = getattr(self, f"_{params['name']}_tool", None)
        if run is None:
            raise LookupError(f"no tool {params['name']}")
        result: dict[str, Any] = run(**(params.get("arguments") or {}))
        return result

    def _words(self) -> list[str]:
        return self.path.read_text().split() if self.path.exists() else []

    def _add_tool(self, word: str) -> dict[str, Any]:
        if word == "naughty":
            return _text("No such words here.", isError=True)
        if not isinstance(word, str):
            raise LookupError(f"word {word!r} is not a string")
        with self.path.open("a") as stream:
            stream.write(f"{word}\n")
        return _text(f"added {word} to {self.path}")

    def _words_tool(self) -> dict[str, Any]:
        found = {"words": self._words(), "process": os.getpid()}
        return _text(f"{len(found['words'])} words", structuredContent=found)

    def _clear_tool(self) -> dict[str, Any]:
        self.path.unlink(missing_ok=True)
        return _text("cleared")

    def _crash_tool(self) -> dict[str, Any]:
        print("the shelf fell down", file=sys.stderr, flush=True)
        os._exit(3)

    def _picture_tool(self) -> dict[str, Any]:
        image = {"type": "image", "data": "AAAA", "mimeType": "image/png"}
        link = {"type": "resource_link", "uri": "shelf://sound", "name": "a sound"}
        return {"content": [image, link, *_text("and words")["content"]]}


def _text(text: str, **others: Any) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}], **others}


class Handler(BaseHTTPRequestHandler):
    """Streamable HTTP without sessions: each message is answered in its own response."""

    shelf: Shelf

    def do_POST(self) -> None:
        answer = self.shelf.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        body = b"" if answer is None else json.dumps(answer).encode()
        self.send_response(200 if body else 202)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.send_response(405)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *given: object) -> None: ...


if __name__ == "__main__":
    shelf = Shelf(Path(sys.argv[1]))
    for line in sys.stdin:
        answer = shelf.answer(json.loads(line))
        if answer is not None:
            print(json.dumps(answer), flush=True)
