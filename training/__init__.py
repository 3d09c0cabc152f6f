"""Policy engine, rollouts, GRPO, adapters and their composition."""

from typing import Any

# verifiers finds a plugin by the name of a top-level package: `vf-eval training` loads this taskset.
__all__ = ["EnvironmentTaskset"]


def __getattr__(name: str) -> Any:
    """The plugin's class, imported when it is asked for: importing the room loads nothing heavy."""
    if name == "EnvironmentTaskset":
        from training.rollouts.tasks import EnvironmentTaskset

        return EnvironmentTaskset
    raise AttributeError(f"module 'training' has no attribute {name!r}")
