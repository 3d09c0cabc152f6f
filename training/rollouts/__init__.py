"""Rollouts: verifiers tasksets, rewards and traces for any environment, driven in process over MCP."""

from training.rollouts.config import Prompting, RolloutConfig
from training.rollouts.driver import collect, collect_trials, rollout
from training.rollouts.store import TraceWriter, read_traces, trace_line
from training.rollouts.tasks import (
    EnvironmentTask,
    EnvironmentTaskData,
    EnvironmentTaskset,
    EnvironmentTasksetConfig,
    EpisodeState,
    EpisodeTrace,
    environment_task,
)
from training.rollouts.trajectories import RolloutCounts, count_rollouts, trajectory_from_trace

__all__ = [
    "EnvironmentTask",
    "EnvironmentTaskData",
    "EnvironmentTaskset",
    "EnvironmentTasksetConfig",
    "EpisodeState",
    "EpisodeTrace",
    "Prompting",
    "RolloutConfig",
    "RolloutCounts",
    "TraceWriter",
    "collect",
    "collect_trials",
    "count_rollouts",
    "environment_task",
    "read_traces",
    "rollout",
    "trace_line",
    "trajectory_from_trace",
]
