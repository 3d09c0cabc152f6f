"""A scripted agent over MCP: fixed actions, whatever it hears; it measures ceilings (gold) and floors (idleness)."""

from __future__ import annotations

from collections.abc import Sequence

from mcp_servers.memory import connect
from mcp_servers.server import tool_result
from trace_agents.environment import Environment
from trace_agents.types import Evaluation, Message, TaskInstance, ToolCall

DO_NOTHING: tuple[str, ...] = ("I am sorry, but I cannot help you with this.",)
"""The actions of an agent that says one sentence and does nothing."""


async def replay(environment: Environment, task: TaskInstance, actions: Sequence[ToolCall | str]) -> Evaluation:
    """The verdict on an agent that does `actions` in order (calls, and texts to the user) until the user ends it.

    Raises:
        InfrastructureError: the environment failed.
    """
    episode = await environment.start(task)
    messages = [Message(role="user", content=episode.task.prompt)]
    try:
        async with connect(episode) as agent:
            await agent.list_tools()
            for number, action in enumerate(actions):
                if isinstance(action, str):
                    messages.append(Message(role="assistant", content=action))
                    turn = await episode.user_turn(action)
                    if turn.done:
                        break
                    messages.append(Message(role="user", content=turn.content))
                    continue
                call = action.model_copy(update={"id": f"call-{number}"})
                given = call.arguments if isinstance(call.arguments, dict) else {}
                result = tool_result(await agent.call_tool(call.name, given))
                messages.append(Message(role="assistant", tool_calls=(call,)))
                messages.append(
                    Message(
                        role="tool",
                        content=result.content,
                        tool_call_id=call.id,
                        name=call.name,
                        is_error=result.is_error,
                    )
                )
        return await episode.evaluate(messages)
    finally:
        await episode.close()
