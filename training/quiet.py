"""Keeping libraries from drawing bars of their own over the run's progress."""

from __future__ import annotations

import warnings

from transformers.utils import logging


def quiet_libraries() -> None:
    """Switch off transformers' progress bars and a deprecation notice between libraries, in this process."""
    logging.disable_progress_bar()
    # Raised inside PEFT at the time of writing; nothing here calls it.
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
