"""The values that all packages share: curves, PCI addresses, readings, card settings, snapshots. They do no I/O."""
