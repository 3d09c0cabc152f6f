"""Settings for every test: generated cases are the same in each run, and slow machines fail nothing."""

from __future__ import annotations

import os

from hypothesis import settings

# One thread of arithmetic a process, as tests run in several: two that wait for each other's cores take twice as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")
