"""Metrics for Prometheus, made from the snapshot in a separate process; dashboard and alert rules for them."""
