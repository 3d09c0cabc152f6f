"""`helpdesk`, the embedded target benchmark: an online shop's support desk."""

from mcp_servers.helpdesk.environment import Helpdesk, HelpdeskEpisode

__all__ = ["Helpdesk", "HelpdeskEpisode"]
