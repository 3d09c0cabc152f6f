"""Agents that need no model: gold replay, the floors, and calls at random. They measure ceilings and floors."""
