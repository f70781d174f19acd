"""Metrics for Prometheus, made from the snapshot by a process of its own; and what to do with them there."""
