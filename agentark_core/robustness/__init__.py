"""How a model stands up to questions that are put another way, to false hints and to injected orders.

    perturb("renamed", problem, seed=0) -> the same problem about other people and things, or None where it cannot be

A perturbation is a pure function of a problem and a seed: it keeps the gold answer, or computes it anew where that is
certain. What makes a failure is in failures.py: right on the clean question, wrong on the perturbed one.
"""
