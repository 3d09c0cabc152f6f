"""TRACE: turn recurrent agent failures into capability-targeted training environments (arXiv 2604.05336)."""

from trace_agents.environment import Environment, Episode, SyntheticEnvironment
from trace_agents.errors import InfrastructureError, UsageError
from trace_agents.registry import environment_names, load_environment
from trace_agents.types import (
    Capability,
    Evaluation,
    Label,
    Message,
    StopReason,
    TaskInstance,
    ToolCall,
    ToolResult,
    ToolSpec,
    Trajectory,
    UserTurn,
)

__version__ = "0.1.0"

__all__ = [
    "Capability",
    "Environment",
    "Episode",
    "Evaluation",
    "InfrastructureError",
    "Label",
    "Message",
    "StopReason",
    "SyntheticEnvironment",
    "TaskInstance",
    "ToolCall",
    "ToolResult",
    "ToolSpec",
    "Trajectory",
    "UsageError",
    "UserTurn",
    "environment_names",
    "load_environment",
]
