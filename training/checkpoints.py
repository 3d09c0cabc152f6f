"""Training checkpoints: one file, replaced atomically, from which a killed run goes on bit by bit the same."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from trace_agents.errors import UsageError
from trace_agents.files import write_atomically

VERSION = 1


class RandomState:
    """A training run's own randomness: Python's for order, torch's for dropout; the process's is left alone."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.python = random.Random(seed)
        self._devices = [device] if device.type == "cuda" else []
        with self._forked():
            torch.manual_seed(seed)
            self._capture()

    @contextmanager
    def torch(self) -> Iterator[None]:
        """Draw torch's random numbers from this state, and keep where that left it."""
        with self._forked():
            torch.set_rng_state(self._cpu)
            for device, state in zip(self._devices, self._cuda, strict=True):
                torch.cuda.set_rng_state(state, device)
            yield
            self._capture()

    def state_dict(self) -> dict[str, Any]:
        """The state, for `load_state_dict`."""
        return {"python": self.python.getstate(), "torch": self._cpu, "cuda": self._cuda}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.python.setstate(state["python"])
        self._cpu, self._cuda = state["torch"], state["cuda"]

    def _forked(self) -> Any:
        return torch.random.fork_rng(devices=self._devices)

    def _capture(self) -> None:
        self._cpu = torch.get_rng_state()
        self._cuda = [torch.cuda.get_rng_state(device) for device in self._devices]


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Replace the checkpoint at `path` atomically. `state` holds tensors and plain values only."""
    buffer = io.BytesIO()
    torch.save({"version": VERSION, **state}, buffer)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, buffer.getvalue())


def load_checkpoint(path: Path, expected: dict[str, Any]) -> dict[str, Any] | None:
    """The checkpoint at `path`, None where there is none.

    Args:
        expected: what the run is (configuration, base, tasks), as it was saved; each must be the same now.

    Raises:
        UsageError: damaged, of another version, or of a run that was something else.
    """
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # A damaged file makes the unpickler fail in any way it likes.
        raise UsageError(
            f"checkpoint {str(path)!r} is damaged ({type(error).__name__}: {error}): delete it to train from the start"
        ) from error
    if not isinstance(state, dict) or state.get("version") != VERSION:
        raise UsageError(f"checkpoint {str(path)!r} is not of version {VERSION}: delete it to train from the start")
    for key, value in expected.items():
        if state.get(key) != value:
            raise UsageError(
                f"checkpoint {str(path)!r} is of another run: {_difference(key, state.get(key), value)}; "
                "go on as it was, or train into another folder"
            )
    return state


def _difference(key: str, saved: Any, now: Any) -> str:
    if isinstance(saved, dict) and isinstance(now, dict):
        inner = next(name for name in sorted({*saved, *now}) if saved.get(name) != now.get(name))
        return _difference(f"{key}.{inner}", saved.get(inner), now.get(inner))
    return f"{key} was {saved!r} and is {now!r}"
