"""Serving any environment over MCP, and the target benchmarks."""
