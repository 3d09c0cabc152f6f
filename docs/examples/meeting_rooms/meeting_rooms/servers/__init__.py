"""The taskset's tool server."""
