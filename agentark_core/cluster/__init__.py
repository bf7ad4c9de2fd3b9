"""Placement on a Ray cluster: engine actors and training jobs."""
