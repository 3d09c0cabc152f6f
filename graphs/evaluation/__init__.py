"""Measuring any agent in any environment: resumable, beside its floors and its ceiling."""
