"""Agents that are models, found by URL: a server's, a provider's, the embedded base, and the routed agent of a run.

All are the routed agent (`graphs/routed_agent.py`); one that has a single model routes to it always.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from graphs.analysts.models import load_chat_model
from graphs.patience import Patience
from graphs.routed_agent import AgentConfig, ChatModels, PlayLimits, RoutedAgent, build_routed_agent, play
from trace_agents.agent import AgentRequest, Play, PlaySettings
from trace_agents.environment import Episode
from trace_agents.errors import UsageError, unknown
from trace_agents.routing import BASE, FixedRouter, Router

PATIENCE = Patience(retries=5)
"""With an endpoint that is away or asks to wait: about half a minute a call."""

Build = Callable[[], Awaitable[tuple[Router, ChatModels]]]
"""Makes what the agent is of, once it is first needed, on its event loop."""


class ModelAgent:
    """The routed agent as one that plays episodes."""

    def __init__(self, name: str, build: Build, request: AgentRequest, takes_seeds: bool) -> None:
        """An agent that is built when it first plays; `takes_seeds` where its model samples by `seed=`."""
        self.name = name
        self._build = build
        self._agent: RoutedAgent | None = None
        self._building = asyncio.Lock()
        self._context_tokens = request.context_tokens
        self._takes_seeds = takes_seeds and request.sampling.temperature > 0

    async def play(self, episode: Episode, settings: PlaySettings) -> Play:
        """Play until the user ends it, or a limit is reached."""
        seed = settings.seed if self._takes_seeds else None
        return await play(await self._built(), episode, PlayLimits(settings.max_turns, self._context_tokens, seed))

    async def _built(self) -> RoutedAgent:
        async with self._building:
            if self._agent is None:
                router, model = await self._build()
                self._agent = build_routed_agent(router, model, config=AgentConfig(patience=PATIENCE))
            return self._agent


def open_server(request: AgentRequest) -> ModelAgent:
    """`http://HOST:PORT/v1#MODEL`: an OpenAI-compatible server; its key, if it wants one, in `TRACE_AGENTS_LLM_KEY`.

    Raises:
        UsageError: no model is named, and the server does not list exactly one.
    """
    model: Any = load_chat_model(request.spec, options=_options(request))
    return _one_model(model.model, model, request, takes_seeds=True)


def open_provider(request: AgentRequest) -> ModelAgent:
    """`provider:MODEL`: a model of a provider that LangChain knows, its key in the provider's own variable.

    Raises:
        UsageError: the provider's package or key is missing.
    """
    model = load_chat_model(request.spec, options=_options(request))
    return _one_model(request.spec.partition(":")[2], model, request, takes_seeds=False)


def open_embedded(request: AgentRequest) -> ModelAgent:
    """`embedded:helpdesk-1m`: a model that ships with the package, in this process.

    Raises:
        UsageError: no such model.
    """
    from training.base_agent import find_model

    folder = find_model(request.spec)

    async def build() -> tuple[Router, ChatModels]:
        from graphs.chat_model import EngineChatModel
        from training.chat import ChatFormat
        from training.engine import Engine

        engine = Engine.from_pretrained(folder, threads=1, seed=0)
        chat = ChatFormat.from_pretrained(folder)
        model = EngineChatModel(endpoint=engine, chat=chat, model=engine.name, sampling=request.sampling)
        return FixedRouter(engine.name), model

    return ModelAgent(folder.name, build, request, takes_seeds=True)


def open_run(request: AgentRequest) -> ModelAgent:
    """`run:RUN_DIR`: the router or composition that a finished run picked on validation; `run:RUN_DIR#ARM` another.

    Arms are `base`, the run's routers and compositions, its adapters and its baseline. The endpoint is the run's own.

    Raises:
        UsageError: not a run, not finished, or it has no such arm.
    """
    from graphs.pipeline.context import Run
    from graphs.pipeline.training import BASELINE, adapter_folders, baseline_folder
    from trace_agents.artifacts import RouterArtifact
    from trace_agents.progress import SilentProgress
    from trace_agents.runstore import RunStore

    folder, _, arm = request.spec.removeprefix("run:").partition("#")
    store = RunStore.open(folder, write=False)
    run = Run(store.config, store, SilentProgress())
    if not store.has("router.json"):
        raise UsageError(f"run {folder!r} has no router yet: finish it with `trace-agents run --resume {folder}`")
    chosen = arm or store.read_json("router.json", RouterArtifact).picked
    routing = run.config.routing
    arms = [BASE, *routing.routers, *routing.compositions, *adapter_folders(run)]
    arms += [BASELINE] if baseline_folder(run) is not None else []
    if chosen not in arms:
        raise unknown("arm", chosen, arms)
    return ModelAgent(f"{store.root.name}#{chosen}", lambda: _of_run(run, chosen, request), request, takes_seeds=True)


async def _of_run(run: Any, arm: str, request: AgentRequest) -> tuple[Router, ChatModels]:
    """What acts in an arm of a run: its router, over the run's endpoint with the arm's models loaded."""
    from graphs.chat_model import EngineChatModel
    from graphs.pipeline.composition import load_compositions, load_routers
    from graphs.pipeline.training import BASELINE, adapter_folders, baseline_folder
    from training.quiet import quiet_libraries

    quiet_libraries()
    routing = run.config.routing
    compositions = await load_compositions(run)
    if arm in routing.compositions and arm not in compositions:
        raise UsageError(
            f"arm {arm!r} mixes logits in the embedded engine, and the run's endpoint is a server: use 'sum'"
        )
    folder = baseline_folder(run)
    if arm == BASELINE and folder is not None and arm not in await run.endpoint.models():
        await run.endpoint.load_adapter(arm, str(folder))
    base = run.base_model
    model = EngineChatModel(endpoint=run.endpoint, chat=run.chat, model=base, sampling=request.sampling)
    if arm in routing.routers and arm not in adapter_folders(run):
        return load_routers(run)[arm], model
    return FixedRouter(base if arm == BASE else arm), model


def _one_model(name: str, model: Any, request: AgentRequest, takes_seeds: bool) -> ModelAgent:
    async def build() -> tuple[Router, ChatModels]:
        # As a function of the name: not every provider's model takes its name with a call.
        return FixedRouter(name), lambda _: model

    return ModelAgent(name, build, request, takes_seeds)


def _options(request: AgentRequest) -> dict[str, Any]:
    return {"temperature": request.sampling.temperature, "max_tokens": request.sampling.max_tokens}
