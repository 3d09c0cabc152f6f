"""What runs in the benchmark's own Python environment: the standard library and upstream's `tau2`, nothing of ours."""
