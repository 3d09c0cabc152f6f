"""Policy engine, rollouts, GRPO, adapters and their composition."""

from typing import Any

# verifiers finds plugins by the name of a top-level package: `vf-eval training` loads this taskset and this harness.
__all__ = ["EnvironmentTaskset", "EpisodeHarness"]


def __getattr__(name: str) -> Any:
    """A plugin's class, imported when it is asked for: importing the room loads nothing heavy."""
    if name == "EnvironmentTaskset":
        from training.rollouts.tasks import EnvironmentTaskset

        return EnvironmentTaskset
    if name == "EpisodeHarness":
        from training.rollouts.harness import EpisodeHarness

        return EpisodeHarness
    raise AttributeError(f"module 'training' has no attribute {name!r}")
