"""GRPO with a LoRA adapter on a frozen base (§3.4, Appendix A)."""

from training.grpo.advantages import group_advantages
from training.grpo.config import GRPOConfig
from training.grpo.sources import FixedTasks, MixedTasks, SeededTasks, TaskSource
from training.grpo.state import TrainResult, Validation
from training.grpo.trainer import train

__all__ = [
    "FixedTasks",
    "GRPOConfig",
    "MixedTasks",
    "SeededTasks",
    "TaskSource",
    "TrainResult",
    "Validation",
    "group_advantages",
    "train",
]
