"""A model behind an OpenAI-compatible endpoint, for tests: it says what it is given to say."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from mcp_servers.benchmark.users import UserChoice


class Endpoint(ThreadingHTTPServer):
    """Answers chat completions with `lines`, in order, and the last of them for ever; keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lines: list[dict[str, Any]] = []
        self.asked: list[dict[str, Any]] = []

    def choice(self) -> UserChoice:
        return UserChoice(url=f"http://127.0.0.1:{self.server_port}/v1", model="speaker", key="k")


class Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        assert (self.path, self.headers["Authorization"]) == ("/v1/chat/completions", "Bearer k")
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        lines = self.server.lines
        message = lines.pop(0) if len(lines) > 1 else lines[0]
        body = json.dumps({"choices": [{"message": {"role": "assistant"} | message}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *given: object) -> None: ...


def says(text: str) -> dict[str, Any]:
    return {"content": text}


def calls(name: str, arguments: str = "{}") -> dict[str, Any]:
    return {"content": None, "tool_calls": [{"id": "u1", "function": {"name": name, "arguments": arguments}}]}


@contextmanager
def listening() -> Iterator[Endpoint]:
    """An endpoint that answers."""
    server = Endpoint()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
