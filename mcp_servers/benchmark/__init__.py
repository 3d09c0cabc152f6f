"""What every benchmark with a Python environment of its own needs: installing it, its process, its simulated user."""
