"""Settings for every test: generated cases are the same in each run, and slow machines fail nothing."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")
