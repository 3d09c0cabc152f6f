"""What runs in a benchmark's own Python environment: the standard library, and the benchmark's own worker folder."""
