"""What runs in the benchmark's own Python environment: the standard library and upstream's `tool_sandbox`."""
