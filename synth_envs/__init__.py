"""Capability-targeted synthetic environments and their certification."""
