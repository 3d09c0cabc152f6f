"""`trace-agents endpoint`: a model and its adapters behind a vLLM-shaped HTTP endpoint, on the CPU."""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trace_agents.cli.serve import LOOPBACK, listen
from trace_agents.errors import UsageError

if TYPE_CHECKING:
    from starlette.applications import Starlette

KEY_VARIABLE = "TRACE_AGENTS_API_KEY"


def endpoint(
    model: Annotated[str, typer.Argument(help="Model folder in transformers format, or 'embedded:NAME'.")],
    adapter: Annotated[
        list[str] | None, typer.Option(help="PEFT adapter to load, NAME=FOLDER or FOLDER (repeatable).")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8001,
    name: Annotated[str | None, typer.Option(help="Model name of the base; the folder's name if left out.")] = None,
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    threads: Annotated[
        int | None, typer.Option(help="Threads for matrix products; one is best for tiny models.")
    ] = None,
    max_context: Annotated[int | None, typer.Option(help="Most tokens of prompt and completion together.")] = None,
    api_key: Annotated[str | None, typer.Option(envvar=KEY_VARIABLE, help="Key that requests must carry.")] = None,
) -> None:
    """Serve a model and its adapters over HTTP, in the shape of a vLLM server.

    Adapters are chosen per request by model name, and loaded and unloaded at run time. A client written for vLLM
    works unchanged: /v1/chat/completions, /v1/completions, /inference/v1/generate, /v1/models.
    """
    adapters = [_named(each) for each in adapter or ()]
    settings = {"name": name, "dtype": dtype, "threads": threads, "max_context": max_context}
    app, served = asyncio.run(_application(model, adapters, settings, api_key))
    listening = listen(host, port)
    shown = f"[{host}]" if ":" in host else host
    if host not in LOOPBACK and api_key is None:
        print(f"trace-agents: {host!r} is open to the network: protect it with --api-key", file=sys.stderr)
    print(f"serving {', '.join(served)} on http://{shown}:{listening.getsockname()[1]}", file=sys.stderr, flush=True)
    _run(app, listening)


def _named(adapter: str) -> tuple[str, str]:
    """Name and folder of an `--adapter`."""
    name, separator, folder = adapter.partition("=")
    if not separator:
        name, folder = Path(adapter).resolve().name, adapter
    if not name or not folder:
        raise UsageError(f"--adapter {adapter!r} names no folder: give NAME=FOLDER or FOLDER")
    return name, folder


async def _application(
    model: str, adapters: list[tuple[str, str]], settings: dict[str, Any], api_key: str | None
) -> tuple[Starlette, list[str]]:
    from training.base_agent import find_model
    from training.chat import ChatFormat
    from training.engine import Engine
    from training.engine.http import create_app

    folder = find_model(model)
    engine = Engine.from_pretrained(folder, **settings)
    for name, path in adapters:
        await engine.load_adapter(name, path)
    try:
        chat = ChatFormat.from_pretrained(folder)
    except UsageError as error:
        print(f"trace-agents: only the token-level routes will answer: {error}", file=sys.stderr)
        chat = None
    return create_app(engine, chat, api_key), await engine.models()


def _run(app: Starlette, listening: socket.socket) -> None:
    import uvicorn

    config = uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=10, ws="none")
    uvicorn.Server(config).run(sockets=[listening])
