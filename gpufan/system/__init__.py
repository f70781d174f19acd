"""The operating system: files, background calls, signals, locks, systemctl, paths. Nothing here is about cards."""
