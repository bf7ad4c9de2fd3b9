"""Experiments on the shipped tiny models; their figures are in docs/LOG.md."""
