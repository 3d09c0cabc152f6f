"""LangGraph graphs: analysis, synthesis, the routed agent and the whole pipeline."""
