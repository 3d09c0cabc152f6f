"""An OpenAI-compatible server whose one model reads its prompt (`reading_model.read`); it can stall, fail or talk
nonsense, and counts what it is asked."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from reading_model import read
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


@dataclass
class ReadingServer:
    """What the server does, and what it was asked."""

    stalls_after: int | None = None
    """Requests answered before the server stops answering; None answers all."""
    stalled: int = 1
    """Unanswered requests after which `stuck` is set."""
    nonsense: bool = False
    """Labelling requests get prose."""
    failures: list[int] = field(default_factory=list)
    """HTTP statuses of the first answers."""
    prompts: list[str] = field(default_factory=list)
    """First message of every request, in order."""
    keys: set[str] = field(default_factory=set)
    """Authorization headers seen."""
    stuck: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def app(self) -> Starlette:
        """The server as an ASGI application."""
        return Starlette(
            routes=[Route("/v1/models", self._models), Route("/v1/chat/completions", self._chat, methods=["POST"])]
        )

    async def _models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": "reader", "object": "model"}]})

    async def _chat(self, request: Request) -> Response:
        body = await request.json()
        prompt = body["messages"][0]["content"]
        self.prompts.append(prompt)
        self.keys.add(request.headers.get("authorization", ""))
        if self.failures:
            return Response("busy", self.failures.pop(0))
        if self.stalls_after is not None and len(self.prompts) > self.stalls_after:
            if len(self.prompts) >= self.stalls_after + self.stalled:
                self.stuck.set()
            while (await request.receive())["type"] != "http.disconnect":
                continue
            return Response()
        nonsense = self.nonsense and '"labels"' in prompt
        text = "I would rather not." if nonsense else f"Well.\n```json\n{json.dumps(read(prompt))}\n```"
        return JSONResponse(_completion(body["model"], prompt, text))


def _completion(model: str, prompt: str, text: str) -> dict[str, Any]:
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010},
    }


@contextmanager
def serving(server: ReadingServer) -> Iterator[ReadingServer]:
    """`server` on a port of this machine; its socket listens before this returns."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server.url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        running = uvicorn.Server(uvicorn.Config(server.app(), log_level="error", ws="none", lifespan="off"))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            running.should_exit = True
            thread.join(20)
