"""The routed serving agent: route once per conversation, then agent ↔ tools over MCP (§3.5).

The route names the model of every later call, so conversations with different adapters share one graph and one
endpoint, and nothing holds a current adapter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from graphs.tools import ToolSet, mcp_tools
from mcp_servers.memory import connect
from trace_agents.environment import Episode
from trace_agents.errors import UsageError
from trace_agents.routing import Route, Router
from trace_agents.types import Message, UserTurn


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


@dataclass(frozen=True)
class AgentConfig:
    """How the agent serves."""

    max_turns: int = 30
    """Most agent turns for one user message; the run ends after the tool calls of the last."""
    instructions: str | None = None
    """System message before the conversation; None takes the tool server's own instructions."""


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
        return {"messages": [await model.ainvoke([*system, *state["messages"]])]}

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

    def after_tools(self, state: RoutedState) -> str:
        """To the next call, or back to the agent while it has turns left."""
        reply, answered = _last_turn(state)
        if answered < len(calls_of(reply)):
            return "tools"
        asked = max(place for place, message in enumerate(state["messages"]) if isinstance(message, HumanMessage))
        turns = sum(isinstance(message, AIMessage) for message in state["messages"][asked:])
        return "agent" if turns < self._config.max_turns else END

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


def route_of(state: RoutedState) -> Route:
    """The route of a conversation that has begun."""
    return Route.model_validate(state["route"])


async def play(agent: RoutedAgent, episode: Episode) -> tuple[Route, tuple[Message, ...]]:
    """Let the agent serve an episode's simulated user, its tools over in-memory MCP, until one of them ends it.

    The agent must have no checkpointer. An episode in another process (`mcp_servers.remote`) plays the same way.

    Returns:
        The route, and the conversation for `Episode.evaluate`. It ends in a tool message where the agent used up
        its turns, and in a cut turn where it used up its tokens.

    Raises:
        UsageError: bad input. InfrastructureError: the environment or the endpoint failed.
    """
    failure: Exception
    async with connect(episode) as client:
        try:
            return await _talk(agent, episode, AgentContext(await mcp_tools(client)))
        except Exception as error:
            failure = error  # Raised as it is below: inside, the client would put it into an exception group.
    raise failure


async def _talk(agent: RoutedAgent, episode: Episode, context: AgentContext) -> tuple[Route, tuple[Message, ...]]:
    state: Any = {"messages": [HumanMessage(episode.task.prompt)]}
    while True:
        state = await agent.ainvoke(state, context=context)
        last = state["messages"][-1]
        spoken = isinstance(last, AIMessage) and not is_cut(last)
        turn = await episode.user_turn(str(last.text)) if spoken else UserTurn()
        if turn.done:
            return route_of(state), conversation(state["messages"])
        state["messages"].append(HumanMessage(turn.content or ""))
