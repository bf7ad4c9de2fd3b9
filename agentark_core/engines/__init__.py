"""Adapters to the systems that generate text, behind the `Generate` protocol of agentark_core.debate."""
