"""The operating system: files, background calls, signals, locks, systemctl, paths. No knowledge of GPUs."""
