"""A server in a thread, on a port of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from mcp_servers.http import HttpConfig, environment_app
from trace_agents.cli.serve import listen
from trace_agents.environment import Environment


class Served:
    """An environment behind a URL."""

    def __init__(self, environment: Environment, url: str, server: uvicorn.Server, thread: threading.Thread) -> None:
        self.environment = environment
        self.url = url
        self._server = server
        self._thread = thread

    def stop(self) -> None:
        """Shut down, and wait until it is done."""
        self._server.should_exit = True
        self._thread.join()


@contextmanager
def serving(environment: Environment, config: HttpConfig | None = None) -> Iterator[Served]:
    """Serve `environment`; the socket listens before this returns, so nobody needs to wait."""
    listening = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(environment_app(environment, config), log_level="warning", lifespan="on"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    served = Served(environment, f"http://127.0.0.1:{listening.getsockname()[1]}", server, thread)
    try:
        yield served
    finally:
        served.stop()
        listening.close()
