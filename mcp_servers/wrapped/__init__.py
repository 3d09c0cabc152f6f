"""Any existing MCP server as an environment: a description in TOML, a task file and a checker."""

from mcp_servers.wrapped.checker import Finished
from mcp_servers.wrapped.environment import WrappedEnvironment, load

__all__ = ["Finished", "WrappedEnvironment", "load"]
