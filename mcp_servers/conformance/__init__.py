"""The conformance kit: whether an environment keeps its contract, checked by playing it. `trace-agents conform ENV`."""

from mcp_servers.conformance.findings import Finding, Report, Status
from mcp_servers.conformance.kit import CHECKS, conform
from mcp_servers.conformance.subject import Options

__all__ = ["CHECKS", "Finding", "Options", "Report", "Status", "conform"]
