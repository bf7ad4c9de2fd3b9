"""Prefect flows: they compose tasks and hold no loop over records."""
