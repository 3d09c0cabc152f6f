"""A taskset of verifiers', whose tools are MCP toolsets, as an environment: `verifiers:NAME`."""

from training.taskset_environment.environment import TasksetEnvironment, open_taskset

__all__ = ["TasksetEnvironment", "open_taskset"]
