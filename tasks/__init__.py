"""Prefect tasks: each reads a manifest, calls the core, commits, and returns a small summary."""
