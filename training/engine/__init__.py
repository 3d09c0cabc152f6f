"""The policy engine: batched multi-turn generation with an adapter per request, in process and over HTTP."""

from training.engine.config import EngineConfig
from training.engine.engine import Engine
from training.engine.requests import Gate

__all__ = ["Engine", "EngineConfig", "Gate"]
