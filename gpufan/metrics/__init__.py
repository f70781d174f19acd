"""Makes metrics for Prometheus from the snapshot, in a separate process.

Also makes the files of a Grafana dashboard and of alert rules that use these metrics.
"""
