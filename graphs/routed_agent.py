"""The routed serving agent: route once per conversation, then agent ↔ tools over MCP (§3.5).

The route names the model of every later call, so conversations with different adapters share one graph and one
endpoint, and nothing holds a current adapter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, NotRequired, TypedDict

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langgraph.graph import END, START, StateGraph, add_messages
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langgraph.types import Checkpointer

from graphs.messages import calls_of, conversation
from graphs.patience import ContextFull, Patience, patiently
from graphs.tools import ToolSet, mcp_tools
from mcp_servers.guard import GuardedEpisode
from mcp_servers.memory import connect
from trace_agents.agent import Play
from trace_agents.environment import Episode
from trace_agents.errors import UsageError
from trace_agents.routing import Route, Router
from trace_agents.types import StopReason


class RoutedState(TypedDict):
    """One conversation."""

    messages: Annotated[list[AnyMessage], add_messages]
    """User, assistant and tool messages; the policy is not among them."""
    route: NotRequired[dict[str, Any]]
    """The `Route` as JSON values: model, scores and evidence. Set once, at the first user message."""


@dataclass(frozen=True)
class AgentContext:
    """What belongs to one run and is never checkpointed: pass it as `context=` when invoking the graph."""

    tools: ToolSet | None = None
    """This conversation's tools, in place of those that the graph was built with."""
    max_turns: int | None = None
    """Most agent turns of this run; None: the graph's own limit."""
    context_tokens: int | None = None
    """Tokens read and written after which the conversation is full; None sets no limit."""
    seed: int | None = None
    """Makes each turn's sampling reproducible, for models that take `seed=`; None leaves it to the model."""


@dataclass(frozen=True)
class AgentConfig:
    """How the agent serves."""

    max_turns: int = 30
    """Most agent turns for one user message; the run ends after the tool calls of the last."""
    instructions: str | None = None
    """System message before the conversation; None takes the tool server's own instructions."""
    patience: Patience = field(default_factory=Patience)
    """How often a call of the model is repeated that infrastructure failed."""


ChatModels = BaseChatModel | Callable[[str], BaseChatModel]
"""A chat model that takes `model=` per call (the two in `graphs.chat_model`, `ChatOpenAI`), or model name -> model."""


RoutedAgent = CompiledStateGraph[RoutedState, AgentContext, RoutedState, RoutedState]
"""The compiled graph."""


def build_routed_agent(
    router: Router,
    chat_model: ChatModels,
    tools: ToolSet | Sequence[BaseTool] = (),
    config: AgentConfig | None = None,
    checkpointer: Checkpointer = None,
) -> RoutedAgent:
    """Compile the routed agent: START → route → agent ↔ tools → END.

    Args:
        router: picks the model from the first user message; `FixedRouter` for a composition.
        chat_model: answers; told the route's model on every call.
        tools: for every conversation; a run's own come with `AgentContext`.
        config: limits and instructions.
        checkpointer: keeps conversations by `thread_id`; a later user message goes on with the same route, and a
            killed run goes on after its last tool call.
    """
    nodes = _Nodes(router, chat_model, ToolSet.of(tools), config or AgentConfig())
    graph = StateGraph(RoutedState, context_schema=AgentContext)
    graph.add_node("route", nodes.route)
    graph.add_node("agent", nodes.agent)
    graph.add_node("tools", nodes.tools)
    graph.add_edge(START, "route")
    graph.add_edge("route", "agent")
    graph.add_conditional_edges("agent", nodes.after_agent, ["tools", END])
    graph.add_conditional_edges("tools", nodes.after_tools, ["tools", "agent", END])
    return graph.compile(checkpointer=checkpointer, name="routed-agent")


class _Nodes:
    """The graph's nodes and the decisions between them."""

    def __init__(self, router: Router, chat_model: ChatModels, tools: ToolSet, config: AgentConfig) -> None:
        self._router, self._chat_model, self._tools, self._config = router, chat_model, tools, config

    async def route(self, state: RoutedState) -> dict[str, Any]:
        """Choose the model at the first user message; a conversation that has a route keeps it."""
        if state.get("route"):
            return {}
        first = next((message for message in state["messages"] if isinstance(message, HumanMessage)), None)
        if first is None:
            raise UsageError("the conversation has no user message to route by: begin with one")
        return {"route": (await self._router.route(str(first.text))).model_dump(mode="json")}

    async def agent(self, state: RoutedState, runtime: Runtime[AgentContext]) -> dict[str, Any]:
        """One turn of the routed model."""
        tools = self._toolset(runtime)
        instructions = self._config.instructions if self._config.instructions is not None else tools.instructions
        system = [SystemMessage(instructions)] if instructions else []
        model = self._model(state["route"]["model"], tools)
        if options := _turn_seed(runtime.context, state):
            model = model.bind(**options)
        said = await patiently(lambda: model.ainvoke([*system, *state["messages"]]), self._config.patience)
        return {"messages": [said]}

    async def tools(self, state: RoutedState, runtime: Runtime[AgentContext]) -> dict[str, Any]:
        """Run the next unanswered call of the last turn.

        One call a step: calls keep their order, and a run that is resumed never repeats a call that was answered.
        """
        reply, answered = _last_turn(state)
        return {"messages": [await self._toolset(runtime).answer(calls_of(reply)[answered])]}

    def after_agent(self, state: RoutedState) -> str:
        """To the tools where the agent calls any; else the turn is the user's. A turn cut short calls nothing."""
        reply, _ = _last_turn(state)
        return "tools" if calls_of(reply) and not is_cut(reply) else END

    def after_tools(self, state: RoutedState, runtime: Runtime[AgentContext]) -> str:
        """To the next call, or back to the agent while it has turns and context left."""
        reply, answered = _last_turn(state)
        if answered < len(calls_of(reply)):
            return "tools"
        asked = max(place for place, message in enumerate(state["messages"]) if isinstance(message, HumanMessage))
        turns = sum(isinstance(message, AIMessage) for message in state["messages"][asked:])
        context = runtime.context or AgentContext()
        most = self._config.max_turns if context.max_turns is None else context.max_turns
        return "agent" if turns < most and not is_full(state["messages"], context.context_tokens) else END

    def _toolset(self, runtime: Runtime[AgentContext]) -> ToolSet:
        context = runtime.context
        return context.tools if context is not None and context.tools is not None else self._tools

    def _model(self, name: str, tools: ToolSet) -> Runnable[Any, AIMessage]:
        if isinstance(self._chat_model, BaseChatModel):
            model: Any = self._chat_model
            return model.bind_tools(tools.tools, model=name) if tools.tools else model.bind(model=name)
        model = self._chat_model(name)
        return model.bind_tools(tools.tools) if tools.tools else model


def _last_turn(state: RoutedState) -> tuple[AIMessage, int]:
    """The agent's last message, and how many messages came after it."""
    spoken = ((place, message) for place, message in enumerate(state["messages"]) if isinstance(message, AIMessage))
    place, reply = max(spoken, key=lambda found: found[0])
    return reply, len(state["messages"]) - place - 1


def is_cut(message: AnyMessage) -> bool:
    """The message is a turn that reached the limit of tokens before its end."""
    return message.response_metadata.get("finish_reason") == "length"


def is_full(messages: Sequence[AnyMessage], context_tokens: int | None) -> bool:
    """The next turn would read more than `context_tokens`: the last turn's own count, and an estimate of what followed.

    A token is taken for four characters; what the model reads before its first turn is not counted here.
    """
    if context_tokens is None:
        return False
    place = max((place for place, one in enumerate(messages) if isinstance(one, AIMessage)), default=None)
    if place is None:
        return False
    counted = getattr(messages[place], "usage_metadata", None) or {"total_tokens": 0}
    later = sum(len(str(one.text)) for one in messages[place + 1 :])
    return int(counted["total_tokens"]) + later // 4 >= context_tokens


def route_of(state: RoutedState) -> Route:
    """The route of a conversation that has begun."""
    return Route.model_validate(state["route"])


def _turn_seed(context: AgentContext | None, state: RoutedState) -> dict[str, int]:
    """A seed for this turn of this run, of 31 bits: some servers take no larger ones."""
    if context is None or context.seed is None:
        return {}
    turn = sum(isinstance(message, AIMessage) for message in state["messages"])
    key = hashlib.blake2b(f"{context.seed}/{turn}".encode(), digest_size=4).digest()
    return {"seed": int.from_bytes(key) >> 1}


@dataclass(frozen=True)
class PlayLimits:
    """How far a whole episode may go."""

    max_turns: int | None = None
    """Most agent turns of the episode; None: the graph's own limit for each user message."""
    context_tokens: int | None = None
    """Tokens read and written after which the conversation is full; None sets no limit."""
    seed: int | None = None
    """Makes sampling reproducible, for models that take `seed=`; None leaves it to the model."""


async def play(agent: RoutedAgent, episode: Episode, limits: PlayLimits | None = None) -> Play:
    """Let the agent serve an episode's simulated user, its tools over in-memory MCP, until one of them ends it.

    The agent must have no checkpointer. An episode in another process (`mcp_servers.remote`) plays the same way.

    Returns:
        The conversation for `Episode.evaluate`. It ends in a tool message where the agent used up its turns, and in a
        cut turn where it used up its tokens. `info` has the `route` and the `tokens` read and written.

    Raises:
        UsageError: bad input. InfrastructureError: the environment or the endpoint failed.
    """
    failure: Exception
    guarded = GuardedEpisode.of(episode)
    async with connect(guarded) as client:
        try:
            tools = await mcp_tools(client, unknown_too=guarded.words_unknown_tools)
            return await _talk(agent, guarded, tools, limits or PlayLimits())
        except Exception as error:
            failure = error  # Raised as it is below: inside, the client would put it into an exception group.
    raise failure


async def _talk(agent: RoutedAgent, episode: Episode, tools: ToolSet, limits: PlayLimits) -> Play:
    state: Any = {"messages": [HumanMessage(episode.task.prompt)]}
    while True:
        turns = sum(isinstance(message, AIMessage) for message in state["messages"])
        left = None if limits.max_turns is None else limits.max_turns - turns
        if left is not None and left < 1:
            return _ended(state, StopReason.MAX_TURNS)
        if is_full(state["messages"], limits.context_tokens):
            return _ended(state, StopReason.MAX_TOKENS)
        context = AgentContext(tools, left, limits.context_tokens, limits.seed)
        try:
            # By steps, so that what was said before a turn that does not fit is known.
            async for step in agent.astream(state, context=context, stream_mode="values"):
                state = step
        except ContextFull:
            return _ended(state, StopReason.MAX_TOKENS)
        last = state["messages"][-1]
        if is_cut(last) or (not isinstance(last, AIMessage) and is_full(state["messages"], limits.context_tokens)):
            return _ended(state, StopReason.MAX_TOKENS)
        if not isinstance(last, AIMessage):
            return _ended(state, StopReason.MAX_TURNS)
        turn = await episode.user_turn(str(last.text))
        if turn.done:
            return _ended(state, StopReason.USER)
        state["messages"].append(HumanMessage(turn.content or ""))


def _ended(state: Any, stop: StopReason) -> Play:
    counts = [message.usage_metadata for message in state["messages"] if isinstance(message, AIMessage)]
    known = [count for count in counts if count]
    tokens = {"read": sum(c["input_tokens"] for c in known), "written": sum(c["output_tokens"] for c in known)}
    info: dict[str, Any] = {"route": state.get("route"), "tokens": tokens}
    return Play(messages=conversation(state["messages"]), stop=stop, info=info)
