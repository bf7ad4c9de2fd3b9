"""Latency and cost of ways of answering, on one engine under the same load."""
