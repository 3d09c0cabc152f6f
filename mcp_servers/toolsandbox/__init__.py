"""ToolSandbox: upstream's scenarios, tools, simulated user and evaluator, behind the house's contract."""

from mcp_servers.toolsandbox.environment import ToolSandbox, ToolSandboxEpisode

__all__ = ["ToolSandbox", "ToolSandboxEpisode"]
