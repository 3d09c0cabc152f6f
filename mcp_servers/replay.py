"""Gold replay and the idle floor, for a check of an installation."""

from mcp_servers.agents.scripted import DO_NOTHING, replay

__all__ = ["DO_NOTHING", "replay"]
