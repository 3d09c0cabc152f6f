"""The validation kit: trajectories with planted deficits in worlds of their own, and how well they are found."""
