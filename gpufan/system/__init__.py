"""The operating system: files, background calls, signals, locks, systemctl, paths. Knows nothing of GPUs."""
