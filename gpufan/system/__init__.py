"""Use the operating system: files, threads, signals, locks, systemctl, paths. Nothing here is about cards."""
