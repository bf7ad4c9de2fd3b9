"""Benchmarks of debates: `python -m benchmarks.debate` runs all; docs/benchmarks.md says what each figure is."""
