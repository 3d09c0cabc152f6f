"""The whole TRACE loop as a LangGraph graph over a run's folder."""

from graphs.pipeline.graph import build_pipeline, run_pipeline

__all__ = ["build_pipeline", "run_pipeline"]
