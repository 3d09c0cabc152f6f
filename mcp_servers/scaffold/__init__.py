"""`trace-agents new-benchmark`: the files of a new benchmark, to begin from."""

from mcp_servers.scaffold.files import ROUTES, Wanted, write

__all__ = ["ROUTES", "Wanted", "write"]
